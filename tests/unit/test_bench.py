"""The benchmark's counts and arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench import flops, parts, speed
from pgd_jax.agents.base import AGENTS, AgentPlan
from pgd_jax.networks import unet
from pgd_jax.types import Transition


def xla_flops(function, *args):
    """Of a function without loops: XLA counts a loop's body once, whatever its length."""
    return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("window_length, dim, width, num_blocks", [(32, 8, 32, 3), (16, 16, 64, 2)])
def test_unet_flops_agree_with_xla(window_length, dim, width, num_blocks, key):
    network = unet.build(window_length, dim, width, num_blocks, "float32")
    params, batch = jax.eval_shape(network.init, key), 4
    x, c_noise = jnp.zeros((batch, window_length, dim)), jnp.zeros(batch)
    by_hand = batch * flops.unet(window_length, dim, width, num_blocks)
    np.testing.assert_allclose(by_hand, xla_flops(network.apply, params, x, c_noise), rtol=0.1)


def test_iql_flops_agree_with_xla(key):
    family, batch = AGENTS.get("iql"), 64
    agent = family.build(11, 3, AgentPlan(hidden_dim=128))
    state = jax.eval_shape(agent.init, key, family.hyper())
    row = jnp.zeros((1, batch))
    obs, action = jnp.zeros((1, batch, 11)), jnp.zeros((1, batch, 3))
    counted = xla_flops(agent.update, key, state, Transition(obs, action, row, obs, row), family.hyper())
    np.testing.assert_allclose(batch * flops.iql(11, 3, 128, 2), counted, rtol=0.1)


def test_td3_bc_flops_by_hand():
    # One hidden layer of 1, one observation, one action; one number to one number: 2. Actor 1-1-1: 4; critic 2-1-1: 6.
    # Targets 4 + 2 * 6. Critics' gradients 2 * (3 * 6 - 4). Actor, every second update: (3 * 4 - 2 + 2 * 6) / 2.
    assert flops.td3_bc(1, 1, 1, 1) == 16 + 28 + 11


def test_rates_and_shares():
    timing = speed.Timing("part", "steps", 10.0, 6e9, "by hand", 1.0, seconds=(4.0, 2.0, 5.0))
    row = speed.record(timing, matmul_flops_per_s=12e9)
    # The best call takes 2 s: 5 steps/s, 3 GFLOP/s. The median takes 4 s.
    assert (row["best_per_s"], row["median_per_s"], row["flops_per_s"], row["share_of_matmul"]) == (5.0, 2.5, 3e9, 0.25)


def test_every_part_is_traced_once_and_measured_in_turns():
    calls = []

    def part(name):
        function = jax.jit(lambda x: calls.append(name) or x + 1.0)
        return parts.Part(name, "calls", 1.0, 1.0, "by hand", function, (jnp.float32(0.0),))

    timings = speed.time_all([part("a"), part("b")], num_repeats=3)
    assert calls == ["a", "b"] and [len(timing.seconds) for timing in timings] == [3, 3]
