"""Warm starts: a phase renews the windows of the one before instead of generating afresh."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.diffusion import guidance
from tests import worlds
from tests.worlds import LAYOUT, WINDOW

NUM_WINDOWS = worlds.SAMPLING.num_trajectories


@pytest.fixture(scope="module")
def warm():
    """Two lanes of one seed: warm_sigma 0.1 and 20."""
    config = worlds.agent_config(
        dict(warm_steps=2), num_seeds=1, hyper={"guidance_coefficient": 10, "warm_sigma": (0.1, 20)}, dynamics_windows=0
    )
    return worlds.build(config)


def test_the_first_windows_are_fresh_and_unguided(warm):
    states = warm.init()
    assert states.generator.shape == (2, NUM_WINDOWS, WINDOW, LAYOUT.dim)
    seed, hyper = warm.lanes.seeds[0], jax.tree.map(lambda leaf: leaf[0], warm.lanes.hypers)
    key = jax.random.split(jax.random.key(seed), 3)[2]
    fresh = jax.jit(lambda key: worlds.sample(warm, key, guidance.uniform, hyper))(key)
    np.testing.assert_allclose(states.generator[0], fresh, atol=2e-3)


def test_a_lower_sigma_keeps_more_of_the_windows(warm):
    states = warm.init()
    before = np.asarray(states.generator)
    states, _ = warm.run(1, states)
    moved = np.sqrt(np.mean((np.asarray(states.generator) - before) ** 2, axis=(1, 2, 3)))
    assert 0.0 < moved[0] < 0.3 < moved[1]


def test_warm_phases_are_guided_by_the_policy_of_the_moment(warm):
    """From phase two on, another policy gives other actions from the same windows and the same noise."""
    states, _ = warm.run(1, warm.init())
    copy = jax.tree.map(jnp.copy, states)
    moved = jax.tree.map(lambda leaf: leaf + 0.5 if leaf.dtype == jnp.float32 else leaf, copy.agent)
    renewed, _ = warm.run(1, states)
    otherwise, _ = warm.run(1, copy.replace(agent=moved))
    gap = np.abs(np.asarray(renewed.generator) - np.asarray(otherwise.generator))
    assert gap[..., LAYOUT.action].max() > 0.02


@pytest.mark.slow  # as test_chunks.py's
def test_chunks_give_the_bits_of_the_whole(warm):
    whole, _ = warm.run(2, warm.init())
    states = warm.init()
    for _ in range(2):
        states, _ = warm.run(1, states)
    chex.assert_trees_all_equal(states.generator, whole.generator)
    chex.assert_trees_all_equal(states.agent, whole.agent)


def test_fresh_starts_keep_no_windows(world):
    assert world.init().generator is None
