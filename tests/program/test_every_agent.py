"""Every agent in the program: generate, learn, evaluate, of guided windows and of rollouts."""

import dataclasses

import numpy as np
import pytest

from pgd_jax.agents.base import AGENTS
from pgd_jax.core.errors import UserError
from pgd_jax.train import loop
from tests import worlds

KINDS = {"diffusion": worlds.AGENT_CONFIG, "ensemble": worlds.ENSEMBLE}
QUICK = ("rebrac", "diffusion")  # raw observations and next actions: all that the seam has


@pytest.mark.parametrize(
    "name, kind",
    [
        pytest.param(name, kind, marks=() if (name, kind) == QUICK else pytest.mark.slow)
        for kind in KINDS
        for name in AGENTS.names()
    ],
)
def test_an_agent_learns_from_what_is_generated_under_its_own_policy(name, kind):
    """Two lanes, unguided and guided (without and with a penalty); from the second phase on they differ."""
    world = worlds.build(dataclasses.replace(KINDS[kind], agent=name, num_seeds=1))
    states, metrics = world.run(3, world.init())
    assert all(np.isfinite(leaf).all() for leaf in metrics.values())
    likelihood = np.asarray(metrics["synthetic_log_likelihood"])
    assert likelihood.shape == (2, 3)
    if kind == "diffusion":
        assert likelihood[0, 0] == likelihood[1, 0] and likelihood[1, 2] != likelihood[0, 2]
        # A squashed policy is followed before its tanh, where it has one peak; by actions a wide one has two.
        assert world.program.agent.preimage_log_prob or likelihood[1, 2] > likelihood[0, 2]
    # The last rows of windows have no next action, and none is kept for agents that do not ask.
    real = world.shared.real
    assert (real.next_action is not None) == world.program.agent.needs_next_action


def test_a_generator_without_next_actions_is_refused_by_agents_that_learn_from_them():
    world = worlds.build(worlds.agent_config(agent="rebrac", synthetic_per_batch=0))
    rows = worlds.real_transitions()
    with pytest.raises(UserError, match="learns from next_action, which this generator does not give"):
        loop.as_read(world.program.agent, rows)
    kept = loop.as_read(
        worlds.build(worlds.agent_config(synthetic_per_batch=0)).program.agent, rows._replace(next_action=rows.action)
    )
    assert kept.next_action is None
