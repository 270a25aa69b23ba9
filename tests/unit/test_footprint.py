"""What a run takes: counted by hand, against XLA's own account, refused where it cannot fit."""

import functools

import jax
import jax.numpy as jnp
import pytest

from pgd_jax import devices, footprint, loop
from pgd_jax.bench import speed
from pgd_jax.data import memory
from pgd_jax.diffusion import guidance
from pgd_jax.errors import UserError
from tests import worlds


def test_live_bytes_by_hand():
    def function(x):
        a = x + 1.0
        b = x * 2.0  # a and b are alive: 800 bytes
        return (a * b).sum()  # with their product 1,200

    assert footprint.live_bytes(jax.make_jaxpr(function)(jnp.zeros(100)).jaxpr) == 1200


def test_a_loop_counts_one_turn_and_its_results():
    def body(x, _):
        return jnp.sin(jnp.cos(x)), x  # within a turn: cos 400, then sin 400 beside it

    jaxpr = jax.make_jaxpr(lambda x: jax.lax.scan(body, x, None, length=10))(jnp.zeros(100)).jaxpr
    # Results: the last x, 400, and ten of them, 4,000; beside the two arrays of one turn.
    assert footprint.live_bytes(jaxpr) == 400 + 4_000 + 800


def generated(num_trajectories, trajectories_per_batch):
    """XLA's temporaries of `loop.generate`, in bytes, and those of its windows f32[M, T, D]."""
    sizes = dict(num_trajectories=num_trajectories, trajectories_per_batch=trajectories_per_batch)
    world = worlds.build(worlds.agent_config(sizes))
    hyper = jax.tree.map(lambda leaf: leaf[0], world.lanes.hypers)
    generate = functools.partial(
        loop.generate, log_prob=guidance.uniform, coefficient=jnp.float32(0.0), program=world.program
    )
    plan = jax.jit(generate).lower(jax.random.key(0), hyper=hyper, shared=world.shared).compile().memory_analysis()
    return plan.temp_size_in_bytes, 4 * num_trajectories * worlds.WINDOW * worlds.LAYOUT.dim


def test_the_flag_sets_the_memory_of_sampling_and_the_number_of_trajectories_does_not():
    few, _ = generated(256, 64)
    many, windows = generated(2048, 64)
    at_once, _ = generated(2048, 256)
    assert many - few < 1.5 * windows, "more than the windows themselves"
    assert at_once > many + few


@pytest.mark.parametrize("sampling", [dict(num_trajectories=512, trajectories_per_batch=256)])
def test_the_estimate_agrees_with_xla_and_every_leaf_of_the_state_is_donated(sampling):
    config = worlds.agent_config(sampling)
    world = worlds.build(config)
    states = jax.eval_shape(world.init)
    found = footprint.of_agent(config, world.program, states, world.lanes.hypers, world.shared)
    compiled = loop.run_chunk.lower(world.program, 1, states, world.lanes.hypers, world.shared).compile()
    kept = footprint.tree_bytes(states)
    assert compiled.memory_analysis().alias_size_in_bytes >= kept - 8 * len(jax.tree.leaves(states))
    assert found.states == 2 * kept and found.data == footprint.tree_bytes(world.shared)
    # The copy for the checkpoint is not the program's.
    assert 0.4 < (found.total - kept) / speed.peak_bytes(compiled) < 2.5


def test_cores_share_one_memory():
    """Two devices of a lane each take what a run of one lane takes, twice."""

    def taken(sweep, mesh):
        config = worlds.agent_config(num_seeds=1, sweep=sweep)
        world = worlds.build(config)
        program = world.program._replace(mesh=devices.mesh_of(mesh, len(world.lanes.settings), 0))
        return footprint.of_agent(config, program, jax.eval_shape(world.init), world.lanes.hypers, world.shared)

    alone, both = taken("", "lanes=1"), taken("guidance_coefficient=0,1", "lanes=2")
    assert (alone.num_sharing, both.num_sharing) == (1, 2)
    assert (both.data, both.states) == (2 * alone.data, 2 * alone.states)
    assert both.work_by == {name: 2 * size for name, size in alone.work_by.items()}
    assert both.work == pytest.approx(2 * alone.work, rel=0.1)


def test_donated_states_are_gone():
    world = worlds.build(worlds.agent_config(num_seeds=1, sweep=""))
    states = world.init()
    world.run(1, states)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(states))


@pytest.mark.parametrize("free, message", [(1e12, None), (14e9, "may be too little"), (5e9, None)])
def test_a_run_is_announced_and_what_cannot_fit_refused(monkeypatch, capfd, free, message):
    """Data of 1 GB are there; states of 2 GB and work of 14 GB are to come, of which 9 GB are the least."""
    monkeypatch.setattr(memory, "available", lambda: memory.Bytes(free, free))
    work_by = {"sampling.trajectories_per_batch": 12e9}
    found = footprint.Footprint(1e9, 2e9, 14e9, work_by, lambda: {"num_seeds": 2e9, **work_by})
    if free < 9e9:
        with pytest.raises(UserError, match=r"runs/x: takes about 17 GB .* lower sampling.trajectories_per_batch"):
            footprint.announce("runs/x", found)
        return
    footprint.announce("runs/x", found)
    said = capfd.readouterr().err
    assert "takes about 17 GB" in said and "12 GB by sampling.trajectories_per_batch" in said
    assert ("may be too little" in said) == bool(message)


def test_where_cores_share_too_little_memory_one_device_is_advised(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: memory.Bytes(5e9, 5e9))
    work_by = {"sampling.trajectories_per_batch": 12e9}
    found = footprint.Footprint(1e9, 2e9, 14e9, work_by, lambda: work_by, num_sharing=2)
    with pytest.raises(UserError, match=r"on the 2 devices of this CPU: .* take one device \(mesh=lanes=1\), or free"):
        footprint.announce("runs/x", found)
