"""The benchmark's counts and arithmetic."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench import (
    __main__ as bench,
    compare,
    curves,
    dispatches,
    flops,
    parts,
    setting as settings,
    speed,
)
from pgd_jax.agents.base import AGENTS, AgentPlan
from pgd_jax.core import devices
from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Transition
from pgd_jax.networks import convolution, unet


@pytest.mark.parametrize("is_tiled, products", [(True, 6), (False, 12)])
def test_unet_flops_are_those_of_its_products_by_hand(is_tiled, products, key, monkeypatch):
    """Four rows of one column, one block of width 128: a tile of four rows takes 6 products, the direct sum 12.

    XLA counts sums too: a few per cent, more where there are tiles.
    """
    if not is_tiled:
        monkeypatch.setattr(unet, "convolve", convolution.direct)
    network, batch = unet.build(4, 1, 128, 1, "float32", unet.GROUP), 64
    apply = jax.jit(functools.partial(network.apply))  # not the one that the other case has traced
    cost = speed.cost_of(apply, jax.eval_shape(network.init, key), jnp.zeros((batch, 4, 1)), jnp.zeros(batch))
    of_rows = 12 * 1 * 128 + products * 128 * (128 + 128) + 4 * 128 * 128 + 4 * 128 * 1  # the block's residual, the end
    of_level = 128 * 512 + 512 * 128  # the noise level's embedding, and that in the block
    assert 1.0 < cost.flops / (2 * batch * (of_rows + of_level)) < 1.05
    weights = 3 * 128 + 3 * 128 * (128 + 128) + 128 * 128 + 128 + of_level
    assert cost.num_bytes > 4 * (weights + 2 * batch * 4)  # read once at least, as are the windows, and written


def test_a_part_s_flops_are_those_of_its_pieces():
    """By hand where they are, else by XLA."""
    x, double = jnp.zeros((4, 8)), jax.jit(lambda x: x + x)
    pieces = (parts.Piece(double, (x,), 3.0), parts.Piece(double, (x,), 2.0, flops=100.0))
    (found,) = speed.time_all([parts.Part("", "calls", 1.0, double, (x,), pieces)], num_repeats=1)
    assert (found.flops, found.xla_flops) == (3 * 32 + 2 * 100, 5 * 32)
    (found,) = speed.time_all([parts.Part("", "calls", 1.0, double, (x,))], num_repeats=1)
    assert found.flops == 32
    small = dataclasses.replace(settings.SETTINGS["cpu"], num_real=300, num_windows=8, num_updates=4)
    learning = parts.learning(small, "td3_bc", num_lanes=2)
    assert learning.flops_by_hand == 2 * 4 * small.batch_size * flops.td3_bc(4, 2, AgentPlan(hidden_dim=256))


def test_the_training_that_is_timed_takes_its_steps():
    """Also fewer than the default period of the averaged weights, as the curve over width does."""
    sizes = dict(width=8, num_blocks=1, num_real=200, windows_per_step=4, num_train_steps=2)
    part = parts.training(dataclasses.replace(settings.SETTINGS["cpu"], **sizes))
    state, loss = part.function(*part.args)
    assert int(state.step) == part.amount == 2
    assert np.isfinite(loss)


@pytest.mark.parametrize("name", flops.AGENTS)
def test_flops_of_agents_agree_with_xla(name, key):
    """XLA counts elementwise work too, and the loop over TD3's two critic updates once."""
    family, batch = AGENTS.get(name), 16
    plan = dataclasses.replace(family.plan, hidden_dim=128)
    agent = family.build(11, 3, plan)
    state, num = jax.eval_shape(agent.init, key, family.hyper()), agent.batches_per_update
    row, obs, action = (jnp.zeros((num, batch, *shape)) for shape in ((), (11,), (3,)))
    batches = Transition(obs, action, row, obs, row, action if agent.needs_next_action else None)
    counted = speed.cost_of(jax.jit(agent.update), key, state, batches, family.hyper()).flops
    own = flops.Products(11, 3, plan)
    counted += (num - 1) * batch * own.num_critics * own.critic_gradient
    assert 1.0 < counted / (num * batch * flops.AGENTS[name](11, 3, plan)) < 1.25


def test_td3_bc_flops_by_hand():
    # One hidden layer of 1, one observation, one action; one number to one number: 2. Actor 1-1-1: 4; critic 2-1-1: 6.
    # Targets 4 + 2 * 6. Critics' gradients 2 * (3 * 6 - 4). Actor, every second update: (3 * 4 - 2 + 2 * 6) / 2.
    assert flops.td3_bc(1, 1, AgentPlan(hidden_dim=1, num_hidden=1)) == 16 + 28 + 11


def timing(name="part", **changes):
    settings = dict(
        unit="steps", amount=10.0, flops=6e9, dtype="float32", compile_s=1.0, memory_bytes=2e6, xla_flops=9e9,
        xla_bytes=8e9, seconds=(4.0, 2.0, 5.0),
    )  # fmt: skip
    return speed.Timing(name, **settings | changes)


def test_rates_and_shares():
    row = speed.record(timing(), speed.Rates({"float32": 12e9, "bfloat16": 1e12}, bytes_per_s=16e9))
    # The best call takes 2 s: 5 steps/s, 3 GFLOP/s, 4 GB/s. The median takes 4 s.
    assert (row["best_per_s"], row["median_per_s"], row["flops_per_s"]) == (5.0, 2.5, 3e9)
    assert (row["share_of_matmul"], row["share_of_copy"]) == (0.25, 0.25)
    assert "25.0%" in speed.table([row]) and "1.50x" in speed.table([row])


def test_the_machine_s_rates_are_the_best_products():
    products = [timing(seconds=(2.0,)), timing(seconds=(1.0,)), timing(seconds=(3.0,), dtype="bfloat16")]
    rates = speed.rates_of(products, timing(amount=4.0, seconds=(2.0, 1.0)))
    assert rates == speed.Rates({"float32": 6e9, "bfloat16": 2e9}, 4e9)


def test_every_part_is_traced_once_and_measured_in_turns():
    calls = []

    def part(name):
        function = jax.jit(lambda x: calls.append(name) or x + 1.0)
        return parts.Part(name, "calls", 1.0, function, (jnp.float32(0.0),))

    timings = speed.time_all([part("a"), part("b")], num_repeats=3)
    assert calls == ["a", "b"] and [len(timing.seconds) for timing in timings] == [3, 3]


def test_dispatches_and_transfers_are_counted():
    square, host = jax.jit(jnp.square), np.ones(8, np.float32)
    x = jax.device_put(host)
    jax.device_get(square(x))
    assert dispatches.count(lambda: square(x))[1] == (1, 0, 0)
    assert dispatches.count(lambda: square(square(jax.device_put(host))))[1] == (2, 1, 0)
    assert dispatches.count(lambda: jax.device_get(square(x)))[1] == (1, 0, 1)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        dispatches.count(lambda: square(host))


def test_a_dispatch_to_several_devices_is_one():
    mesh = jax.make_mesh((2,), ("lanes",), (jax.sharding.AxisType.Auto,))
    square, x = jax.jit(devices.by_lane(jnp.square, mesh, 1, 0)), devices.place(jnp.ones(2), mesh, "lanes")
    square(x)
    assert dispatches.count(lambda: square(square(x)))[1] == (2, 0, 0)


def test_a_phase_is_one_dispatch_and_moves_nothing():
    """Also where its two lanes are on two devices."""
    small = settings.Setting(
        window_length=8, width=8, num_blocks=2, num_steps=2, num_windows=8, windows_at_once=4, hidden_dim=16,
        num_real=300, num_updates=4, num_episodes=2,
    )  # fmt: skip
    phase = parts.phase(small, num_lanes=2)
    phase.function(*phase.args)
    assert dispatches.count(lambda: phase.function(*phase.args))[1] == (1, 0, 0)


def test_exponents_of_curves():
    """Seconds of 3 x^2 on x of 2, 4, 8 with FLOPs of x^4, on a machine that slows down with x: exponents 2 and 1/2."""
    row = {"size": "width", "part": "p"}
    seconds = [{"first": [12.0 * x, 12.0], "seconds": [3.0 * x**3, 3.0 * x**2]} for x in (2, 4, 8)]
    rows = [row | time | {"value": x, "flops": x**4} for x, time in zip((2, 4, 8), seconds, strict=True)]
    np.testing.assert_allclose(curves.exponents(rows)["width", "p"], (2.0, 0.5))


def test_a_curve_times_its_first_value_with_each(monkeypatch):
    """On a setting whose only part is named by its value."""

    def build(setting, value):
        return [setting._replace(name=f"of {value}, 1 lane")]

    part = parts.Part("", "calls", 1.0, jax.jit(jnp.sin), (jnp.zeros(3),))
    monkeypatch.setitem(curves.CURVES, "width", curves.Curve("width", (1, 2), build))
    rows = curves.measure("width", part, num_repeats=2)
    assert [(row["value"], row["part"]) for row in rows] == [(1, "of 1"), (2, "of 2")]
    assert all(len(row["first"]) == len(row["seconds"]) == 2 for row in rows)


def test_curves_go_on_where_a_file_of_the_same_machine_stopped(tmp_path):
    path, row = tmp_path / "curves.json", {"size": "width", "value": 1, "part": "p", "seconds": [1.0], "flops": 1.0}
    rows = [row | {"first": [1.0]}]
    path.write_text(json.dumps({"machine": {"cpu": "a", "load": 1.0}, "curves": rows}))
    assert curves.kept(path, {"cpu": "a", "load": 2.0}) == rows
    with pytest.raises(UserError, match="something else .cpu a, here b.: name another file"):
        curves.kept(path, {"cpu": "b", "load": 1.0})
    before = json.dumps({"machine": {"cpu": "a"}, "curves": [row]})  # of a version without the first value's times
    for text in ("{", "[]", '{"parts": []}', before):
        path.write_text(text)
        with pytest.raises(UserError, match="holds no curves to go on from"):
            curves.kept(path, {"cpu": "a"})


def test_a_figure_of_curves(tmp_path):
    row = {"size": "width", "part": "p", "first": [0.032]}
    rows = [row | {"value": x, "seconds": [x / 1e3], "flops": x} for x in (32, 64)]
    curves.figure(rows, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_knows_every_setting_and_curve():
    assert set(bench.SETTINGS) == set(settings.SETTINGS) and set(bench.CURVES) == set(curves.CURVES)


def test_reports_are_compared_by_part(tmp_path):
    rates = speed.Rates({"float32": 12e9}, 16e9)
    reports = [
        {"machine": {"jax": version}, "setting": {}, "parts": [speed.record(timing(seconds=(s,)), rates)]}
        for version, s in (("1", 2.0), ("2", 1.0))
    ]
    text = compare.table(*reports)
    assert "machine.jax: 1 -> 2" in text and "2.000x" in text and "25.0% -> 50.0%" in text
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(UserError, match="x.json: not a report of this benchmark"):
        compare.read(tmp_path / "x.json")
