"""On eight devices: the results of one, lanes that never talk, windows that are gathered once a phase.

In a process of its own, as the number of devices is fixed at the start; this file is its script too.
"""

import os
import pathlib
import re
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench import communication
from pgd_jax.core import devices, memory, processes
from pgd_jax.core.errors import UserError
from pgd_jax.runs import footprint
from pgd_jax.train import denoiser as denoiser_training, loop
from tests import quickly, worlds

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLLECTIVES = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all|collective-broadcast"
SAMPLING = dict(num_trajectories=16, trajectories_per_batch=4)
CONFIG = dict(num_phases=2, num_seeds=4)  # 8 lanes, 4 batches of windows


@pytest.fixture(scope="module")
def printed():
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": "8", "XLA_FLAGS": quickly.XLA_FLAGS, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)
    }  # fmt: skip
    script = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert script.returncode == 0, script.stderr
    return script.stdout.splitlines()


@pytest.mark.parametrize("what", ["cores", "accelerators"])
def test_results_are_those_of_one_device(printed, what):
    """The script compares them. Its program of two phases, a loop, gathers windows once a turn, among devices that
    share their lanes (rows of 4), and lanes never talk."""
    assert f"{what}, lanes=2,windows=4: as one device; collectives: all-gather {{{{0,1,2,3}},{{4,5,6,7}}}}" in printed


@pytest.mark.parametrize("what", ["cores", "accelerators", "training"])
def test_bytes_on_paper_are_those_of_the_compiled_programs(printed, what):
    """Of windows in a phase and of states and metrics after a chunk; of gradients in a step (experiments/bench)."""
    (line,) = [line for line in printed if line.startswith(f"{what}: bytes gathered")]
    counted, on_paper = re.findall(r"\[(.+?)\]", line)
    assert counted == on_paper and "0" not in counted.split(", ")


def test_training_on_a_divided_batch_is_training(printed):
    assert "training: as one device" in printed


def test_auto_takes_what_divides_evenly(printed):
    sizes = "8x1 for 8 lanes, 4x2 for 4 lanes, 1x4 for 1 lane, 3x2 for 3 lanes, None for 1 lane without windows"
    assert f"auto: {sizes}; a batch of 64 by 8, of 12 by 6" in printed


def test_cores_of_a_cpu_divide_lanes_only_and_share_its_memory(printed):
    sizes = "8x1 for 8 lanes, 4x1 for 4 lanes, None for 1 lane, 3x1 for 3 lanes, None for 1 lane without windows"
    assert f"cores: {sizes}; a batch of 64 by 1, of 12 by 1" in printed
    assert "copies of a tenth of the free memory: 2x1; of half of it: None" in printed


@pytest.mark.parametrize(
    "choice, wanted",
    [
        ("lanes=4", "needs 4 devices; there are 2"),
        ("rows=2", 'must be "auto", or read "lanes=4"'),
        ("lanes=0", "must be"),
        ("lanes", "must be"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(choice, wanted):
    with pytest.raises(UserError, match=wanted):
        devices.mesh_of(choice, num_lanes=4, num_batches=4)


def world_on(mesh: str) -> worlds.World:
    config = worlds.agent_config(SAMPLING, mesh=mesh, **CONFIG)
    world = worlds.build(config)
    mesh = devices.mesh_of(mesh, len(world.lanes.settings), world.program.generator.num_batches)
    hypers, seeds = devices.place((world.lanes.hypers, world.lanes.seeds), mesh, devices.LANES)
    lanes = world.lanes._replace(hypers=hypers, seeds=seeds)
    return worlds.World(world.program._replace(mesh=mesh), devices.place(world.shared, mesh), lanes)


def guided_from_the_start(states: loop.LaneState) -> loop.LaneState:
    return states.replace(phase=states.phase + 1)


def collectives(compiled) -> str:
    """Each with the groups of devices that take part."""
    groups = r"\{.*?\}\}|mesh\[.*?\] \{.*?\}|\S+?"
    pattern = rf"= [^=]*? ({COLLECTIVES})(?:-start)?\(.*?replica_groups=({groups}),"
    found = re.findall(pattern, compiled.as_text())
    return ", ".join(f"{name} {listed(one)}" for name, one in found) or "none"


def listed(groups: str) -> str:
    """XLA's newer mesh['a'=2,'b'=4] {'b'} written out as the older {{0,1,2,3},{4,5,6,7}}."""
    if not groups.startswith("mesh"):
        return groups
    mesh, chosen = groups.split("] ")
    sizes = {name: int(size) for name, size in re.findall(r"('\w+')=(\d+)", mesh)}
    axes = [axis for axis, name in enumerate(sizes) if name in chosen]
    numbers = np.moveaxis(np.arange(np.prod([*sizes.values()])).reshape([*sizes.values()]), axes, range(-len(axes), 0))
    rows = numbers.reshape(-1, np.prod([size for name, size in sizes.items() if name in chosen]))
    return "{" + ",".join("{" + ",".join(map(str, row)) + "}" for row in rows) + "}"


def on_one_device() -> tuple[loop.LaneState, loop.Metrics]:
    alone = world_on("lanes=1")
    return jax.device_get(alone.run(2, guided_from_the_start(alone.init())))


def compare_meshes(what: str, expected: tuple[loop.LaneState, loop.Metrics]) -> None:
    world = world_on("lanes=2,windows=4")
    states = guided_from_the_start(world.init())
    compiled = loop.run_chunk.lower(world.program, 2, states, world.lanes.hypers, world.shared).compile()
    found = jax.device_get(compiled(states, world.lanes.hypers, world.shared))
    keys = [jax.random.key_data(states.key) for states in (found[0], expected[0])]
    np.testing.assert_array_equal(*keys)
    chex.assert_trees_all_close(found[0].agent, expected[0].agent, rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_close(found[1], expected[1], rtol=1e-3, atol=1e-4)
    print(f"{what}, lanes=2,windows=4: as one device; collectives: {collectives(compiled)}")
    compare_bytes(what, compiled, found, world)


def compare_bytes(what: str, compiled, found: tuple[loop.LaneState, loop.Metrics], world: worlds.World) -> None:
    """Of the phases, and of what is brought to every process after them; metrics by their own size."""
    num_lanes, config = len(world.lanes.settings), worlds.agent_config(SAMPLING, **CONFIG)
    lane = communication.lane_of(config, worlds.WINDOW, worlds.LAYOUT)
    lane = lane._replace(metrics=int(footprint.tree_bytes(found[1])) // num_lanes)
    mesh = communication.Mesh(by_lanes=2, by_windows=4, devices_per_host=2)
    placed = devices.place(found, world.program.mesh, devices.LANES)
    copied = processes._copied_to_each(world.program.mesh).lower(placed).compile()
    counted = [communication.in_program(each.as_text()) for each in (compiled, copied)]
    wanted = [of(num_lanes, lane, mesh) for of in (communication.of_windows, communication.of_states)]
    print(f"{what}: bytes gathered {counted}, on paper {wanted}")


def compare_training() -> None:
    network, _ = worlds.network_and_params()
    config = worlds.denoiser_config("").training
    rows, starts = jax.random.normal(jax.random.key(2), (200, worlds.LAYOUT.dim)), jnp.arange(0, 190, 2)
    windows = denoiser_training.TrainingWindows(rows, starts, starts + worlds.WINDOW - 1)
    results = []
    for mesh in (None, devices.batch_mesh_of(config.batch_size)):
        state = devices.place(denoiser_training.init(jax.random.key(0), network, config), mesh)
        placed = devices.place(windows, mesh)
        compiled = denoiser_training.train_chunk.lower(
            state, placed, length=worlds.WINDOW, network=network, config=config, mesh=mesh
        ).compile()
        results.append(jax.device_get(compiled(state, placed)))
    assert mesh.shape == {"windows": 8}
    chex.assert_tree_all_finite(results[0][0].params)  # NaN would be as NaN below
    chex.assert_trees_all_close(results[0][0].params, results[1][0].params, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-4)
    print("training: as one device")
    num_weights = sum(leaf.size for leaf in jax.tree.leaves(results[0][0].params))
    on_paper = communication.FLOAT_BYTES * (num_weights + 1)  # and the loss
    print(f"training: bytes gathered [{communication.in_program(compiled.as_text())}], on paper [{on_paper}]")


def mesh_size(num_lanes: int, num_batches: int, copied_bytes: float = 0.0) -> str | None:
    mesh = devices.mesh_of("auto", num_lanes, num_batches, copied_bytes)
    return mesh and "x".join(map(str, mesh.shape.values()))


def show_auto(what: str) -> None:
    by_batch = [mesh.size if (mesh := devices.batch_mesh_of(batch_size)) else 1 for batch_size in (64, 12)]
    print(
        f"{what}: {mesh_size(8, 4)} for 8 lanes, {mesh_size(4, 4)} for 4 lanes, {mesh_size(1, 4)} for 1 lane, "
        f"{mesh_size(3, 4)} for 3 lanes, {mesh_size(1, 0)} for 1 lane without windows; "
        f"a batch of 64 by {by_batch[0]}, of 12 by {by_batch[1]}"
    )


def show_copies() -> None:
    free = memory.available().host
    print(
        f"copies of a tenth of the free memory: {mesh_size(8, 4, 0.1 * free)}; of half of it: "
        f"{mesh_size(8, 4, 0.5 * free)}"
    )


if __name__ == "__main__":
    of_one = on_one_device()
    compare_meshes("cores", of_one)
    show_auto("cores")
    show_copies()
    devices.are_cores = lambda: False  # the same devices, as if they were accelerators
    compare_meshes("accelerators", of_one)
    compare_training()
    show_auto("auto")
