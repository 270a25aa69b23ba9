"""A lane is a run of its own, vmapped beside others."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.train import loop
from tests import worlds

HYPER = {"guidance_coefficient": (0, 2), "alpha": (1, 2.5)}


def lane(tree, i):
    return jax.tree.map(lambda leaf: leaf[i : i + 1], tree)


def test_a_lane_of_eight_is_a_single_run():
    """Over ten updates of TD3+BC on guided data; later, rounding that differs under vmap has grown."""
    eight = worlds.build(worlds.agent_config(updates_per_phase=10, hyper=HYPER))

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
