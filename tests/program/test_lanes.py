"""A lane is a run of its own: vmapped beside others, or spread over devices."""

import os
import pathlib
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax import loop
from tests import worlds

SWEEP = "guidance_coefficient=0,2; agent.alpha=1,2.5"
ROOT = pathlib.Path(__file__).resolve().parents[2]


def lane(tree, i):
    return jax.tree.map(lambda leaf: leaf[i : i + 1], tree)


def test_a_lane_of_eight_is_a_single_run():
    """Over ten updates of TD3+BC on guided data; later, rounding that differs under vmap has grown."""
    eight = worlds.build(worlds.agent_config(updates_per_phase=10, sweep=SWEEP))

    def guided_from_the_start(states):
        return states.replace(phase=jnp.ones_like(states.phase))

    states, results = eight.run(1, guided_from_the_start(eight.init()))
    assert results["bc_loss"].shape == (8, 1) and np.unique(results["bc_loss"]).size == 8
    for i in range(8):
        start = guided_from_the_start(lane(eight.init(), i))
        alone, own = loop.run_chunk(eight.program, 1, start, lane(eight.lanes.hypers, i), eight.shared)
        chex.assert_trees_all_close(lane(states.agent, i), alone.agent, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(jax.random.key_data(lane(states.key, i)), jax.random.key_data(alone.key))
        for name in ("critic_loss", "bc_loss", "synthetic_log_likelihood"):
            np.testing.assert_allclose(lane(results, i)[name], own[name], rtol=1e-4)


def test_lanes_on_four_devices_never_talk():
    """In a process of its own, as the number of devices is fixed at the start; this file is its script."""
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    script = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert script.returncode == 0, script.stderr
    assert script.stdout.split("\n")[0] == "4 devices; collectives: none; a sum over lanes: all-reduce"


def collectives(compiled) -> str:
    kinds = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all", "collective-broadcast")
    return ", ".join(kind for kind in kinds if kind in compiled.as_text()) or "none"


def sharded() -> None:
    devices = jax.devices()
    by_lane = jax.NamedSharding(jax.make_mesh((len(devices),), ("lane",), (jax.sharding.AxisType.Auto,)), jax.P("lane"))
    copied = jax.NamedSharding(by_lane.mesh, jax.P())
    world = worlds.build()
    states, hypers = jax.device_put((world.init(), world.lanes.hypers), by_lane)
    shared = jax.device_put(world.shared, copied)
    program = loop.run_chunk.lower(world.program, 2, states, hypers, shared).compile()
    total = jax.jit(lambda hypers: hypers.rho.sum()).lower(hypers).compile()
    print(f"{len(devices)} devices; collectives: {collectives(program)}; a sum over lanes: {collectives(total)}")


if __name__ == "__main__":
    sharded()
