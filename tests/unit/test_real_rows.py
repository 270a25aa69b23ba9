"""Which of the real rows a lane learns from, and in which unit their rewards are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.data import episodes
from pgd_jax.data.base import RawDataset
from pgd_jax.runs import experiment
from pgd_jax.train import lanes, loop
from tests import worlds


def drawn(world, share):
    """Rewards, which number the rows."""
    real = world.shared.real
    numbered = real._replace(reward=jnp.arange(len(real.reward), dtype=jnp.float32))
    shared = world.shared.replace(real=numbered)
    hyper = loop.ProgramHyper(None, best_share=share)
    return np.asarray(loop.draw(jax.random.key(0), None, hyper, shared, world.program).reward)


def test_a_share_of_the_rows_is_of_the_first_ones():
    world = worlds.build(worlds.agent_config(agent="bc", synthetic_per_batch=0, batch_size=1_000))
    whole = drawn(world, 1.0)  # of 40 rows
    assert whole.min() == 0 and whole.max() == 39
    np.testing.assert_array_equal(drawn(world, jnp.float32(1.0)), whole)
    assert set(drawn(world, 0.1).ravel()) == {0, 1, 2, 3}
    assert set(drawn(world, 1e-6).ravel()) == {0}


def raw(rewards):
    obs, flags = np.zeros((4, 1), np.float32), np.arange(4) % 2 == 1  # two episodes of two rows
    return RawDataset("x", "", "", obs, obs, np.asarray(rewards, np.float32), None, flags, flags)


def test_returns_span_the_range_that_is_asked_for():
    """Episodes return 3 and 5: a range of 1000 is 500 times theirs; 0 leaves rewards as they are, scaled or not."""
    data = raw([1, 2, 3, 2])
    hyper = experiment.hyper_of(worlds.agent_config(synthetic_per_batch=0))
    hypers = lanes.build(hyper, {"return_range": (0, 1000), "reward_scale": (1, 2)}, 1, 0).hypers
    found = experiment._scaled(hypers, data, episodes.segments(data))
    np.testing.assert_allclose(sorted(found.reward_scale), [1, 2, 500, 1000])
    unasked = lanes.build(hyper, {}, 1, 0).hypers
    assert experiment._scaled(unasked, data, episodes.segments(data)) is unasked
    with pytest.raises(UserError, match="all 2 episodes of x have the same return"):
        experiment._scaled(hypers, raw([1, 2, 2, 1]), episodes.segments(data))
