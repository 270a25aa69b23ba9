"""What a run takes: counted by hand, against XLA's own account, refused where it cannot fit."""

import functools

import jax
import jax.numpy as jnp
import pytest

from experiments.bench import speed
from pgd_jax.core import devices, memory, processes
from pgd_jax.core.errors import UserError
from pgd_jax.diffusion import guidance
from pgd_jax.runs import footprint
from pgd_jax.train import loop
from tests import worlds


def generated(num_trajectories, trajectories_per_batch):
    """XLA's temporaries of `loop.generate`, in bytes, and those of its windows f32[M, T, D]."""
    sizes = dict(num_trajectories=num_trajectories, trajectories_per_batch=trajectories_per_batch)
    world = worlds.build(worlds.agent_config(sizes))
    hyper = jax.tree.map(lambda leaf: leaf[0], world.lanes.hypers)
    generate = functools.partial(worlds.sample, world, log_prob=guidance.uniform)
    plan = jax.jit(generate).lower(jax.random.key(0), hyper=hyper).compile().memory_analysis()
    return plan.temp_size_in_bytes, 4 * num_trajectories * worlds.WINDOW * worlds.LAYOUT.dim


@pytest.mark.slow
def test_the_flag_sets_the_memory_of_sampling_and_the_number_of_trajectories_does_not():
    few, _ = generated(256, 64)
    many, windows = generated(2048, 64)
    at_once, _ = generated(2048, 256)
    assert many - few < 1.5 * windows, "more than the windows themselves"
    assert at_once > many + few


def compiled(world, program, states):
    return footprint.compile(loop.run_chunk, program, 1, states, world.lanes.hypers, world.shared)


def test_states_are_donated_and_all_is_counted():
    """States twice, for the checkpoint's copy; beside them what XLA says, and the metrics."""
    config = worlds.agent_config(dict(num_trajectories=512, trajectories_per_batch=256))
    world = worlds.build(config)
    states = jax.eval_shape(world.init)
    made = compiled(world, world.program, states)
    found = footprint.of_agent(config, made, world.program, states, world.shared)
    kept = footprint.tree_bytes(states)
    assert made.memory_analysis().alias_size_in_bytes >= kept - 8 * len(jax.tree.leaves(states))
    assert found.states == 2 * kept and found.data == footprint.tree_bytes(world.shared)
    # The windows of both lanes' phases are among the work: f32[512, 8, 6].
    assert found.work > 4 * len(world.lanes.settings) * 512 * worlds.WINDOW * worlds.LAYOUT.dim
    # The copy for the checkpoint is not the program's; a few words of keys and counters differ.
    assert found.total - kept == pytest.approx(speed.peak_bytes(made), rel=0.02)


@pytest.mark.parametrize("are_several, copied", [(False, 40), (True, 160)])
def test_each_of_several_processes_has_a_copy_of_all_lanes(are_several, copied, monkeypatch):
    """Four lanes of ten numbers over four devices."""
    monkeypatch.setattr(processes, "are_several", lambda: are_several)
    states = jnp.zeros((4, 10))
    assert footprint.of(jax.jit(jnp.copy).lower(states).compile(), (), states, {}, parts=4).states == 40 + copied


def test_bytes_of_a_tree_by_hand():
    tree = {"a": jnp.zeros((3, 5)), "b": jax.ShapeDtypeStruct((7,), jnp.int8), "key": jax.random.key(0), "none": None}
    assert footprint.tree_bytes(tree) == 4 * 15 + 7 + 8


@pytest.mark.slow
def test_cores_share_one_memory():
    """Two devices of a lane each take what a run of one lane takes, twice."""

    def taken(hyper, mesh):
        config = worlds.agent_config(num_seeds=1, hyper=hyper)
        world = worlds.build(config)
        program = world.program._replace(mesh=devices.mesh_of(mesh, len(world.lanes.settings), 0))
        states = jax.eval_shape(world.init)
        return footprint.of_agent(config, compiled(world, program, states), program, states, world.shared)

    alone, both = taken({}, "lanes=1"), taken({"guidance_coefficient": (0, 1)}, "lanes=2")
    assert (alone.num_sharing, both.num_sharing) == (1, 2)
    assert (both.data, both.states) == (2 * alone.data, 2 * alone.states)
    assert both.work == pytest.approx(2 * alone.work, rel=0.1)


def test_donated_states_are_gone():
    world = worlds.build(worlds.agent_config(num_seeds=1, hyper={}))
    states = world.init()
    world.run(1, states)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(states))


TIMES = {"num_seeds": 2.0, "sampling.trajectories_per_batch": 8.0, "hidden_dim": 1.0}


@pytest.mark.parametrize("free", [1e12, 15e9])
def test_a_run_is_announced_and_what_cannot_fit_refused(monkeypatch, capfd, free):
    """Data of 1 GB are there; states of 2 GB and work of 14 GB are to come."""
    monkeypatch.setattr(memory, "available", lambda: memory.Bytes(free, free))
    found = footprint.Footprint(1e9, 2e9, 14e9, TIMES)
    if free < 16e9:
        with pytest.raises(UserError, match=r"runs/x: takes 17 GB .* lower sampling.trajectories_per_batch, or free"):
            footprint.announce("runs/x", found)
        return
    footprint.announce("runs/x", found)
    assert "takes 17 GB on a device: data 1 GB, states 2 GB, work 14 GB; free" in capfd.readouterr().err


def test_where_cores_share_too_little_memory_one_device_is_advised(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: memory.Bytes(5e9, 5e9))
    found = footprint.Footprint(1e9, 2e9, 14e9, TIMES, num_sharing=2)
    with pytest.raises(UserError, match=r"on the 2 devices of this CPU: .* take one device \(mesh=lanes=1\), or free"):
        footprint.announce("runs/x", found)
