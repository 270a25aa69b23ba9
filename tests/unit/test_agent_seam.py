"""What an agent's family says of it, and how its choice of observations reaches all of its functions."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.agents.base import AGENTS, AgentPlan, greedy, log_prob_of
from pgd_jax.core.config import AgentConfig
from pgd_jax.core.types import Layout, Normalizer, Squashed, Transition
from pgd_jax.data import normalizer as normalizers

PLAN = AgentPlan(hidden_dim=8, num_hidden=1)
NORMALIZER = Normalizer(jnp.array([3.0, -2.0, 0.0, 1.0, 0.1]), jnp.array([0.5, 4.0, 1.0, 2.0, 0.3]), Layout(2, 1))


def test_sizes_are_the_published_ones_where_the_config_has_none():
    family = AGENTS.get("td3_bc")._replace(plan=AgentPlan(num_hidden=3, critic_norm="layer", num_critics=5))
    assert family.plan_of(AgentConfig()) == family.plan
    given = AgentConfig(hidden_dim=16, critic_norm="none", critic_num_hidden=1)
    expected = AgentPlan(hidden_dim=16, num_hidden=3, critic_num_hidden=1, critic_norm="none", num_critics=5)
    assert family.plan_of(given) == expected


def test_critics_have_their_own_size_norm_and_number(key):
    plan = AgentPlan(8, 1, critic_hidden_dim=6, critic_num_hidden=2, critic_norm="layer", num_critics=5)
    for name in ("td3_bc", "iql"):
        family = AGENTS.get(name)
        state = jax.eval_shape(family.build(3, 2, plan).init, key, family.hyper())
        shapes = jax.tree.map(jnp.shape, state.critic.params)
        assert shapes["Dense_0"]["kernel"] == (5, 5, 6) and shapes["Dense_1"]["kernel"] == (5, 6, 6)
        assert shapes["LayerNorm_1"] == {"bias": (5, 6), "scale": (5, 6)} and shapes["Dense_2"]["kernel"] == (5, 6, 1)
        actor = state.actor.params["mean"] if name == "iql" else state.actor.params
        assert jax.tree.map(jnp.shape, actor)["Dense_0"]["kernel"] == (3, 8) and "LayerNorm_0" not in actor


def test_an_agent_on_raw_observations_is_called_like_every_other(key):
    """In network space; what it sees, in update, act and log_prob alike, are the environment's own."""
    family = AGENTS.get("td3_bc")._replace(plan=PLAN, sees_raw_obs=True)
    inside, agent = family.build(2, 1, PLAN), family.make(AgentConfig(), NORMALIZER)
    hyper = family.hyper()
    state = inside.init(key, hyper)
    chex.assert_trees_all_equal(agent.init(key, hyper), state)
    raw = normalizers.decode_obs(NORMALIZER, jax.random.normal(key, (2, 6, 2)))
    action, one = jnp.tanh(raw[..., :1]), raw[..., 0]
    batches = Transition(raw, action, one, raw[:, ::-1], jnp.zeros((2, 6)))
    seen = normalizers.encode_obs(NORMALIZER, raw)
    shown = batches._replace(obs=seen, next_obs=seen[:, ::-1])
    # Adam's first step is about the sign of the gradient: its moments are compared.
    moments = [jax.jit(each.update)(key, state, rows, hyper)[0].critic.moments.mu for each, rows in
               ((inside, batches), (agent, shown))]  # fmt: skip
    chex.assert_trees_all_close(*moments, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(agent.act(state, seen), inside.act(state, raw), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(greedy(agent, state, NORMALIZER)(raw), inside.act(state, raw), rtol=1e-5, atol=1e-6)
    expected = inside.log_prob(state, raw, action)
    np.testing.assert_allclose(agent.log_prob(state, seen, action), expected, rtol=1e-5)


def test_a_squashed_policy_tells_the_density_before_tanh(key):
    """Of what it sees, raw or not; and the two densities differ by the slope of tanh."""
    family = AGENTS.get("sac_n")._replace(plan=PLAN)
    assert family.sees_raw_obs
    inside, agent = family.build(2, 1, PLAN), family.make(AgentConfig(), NORMALIZER)
    state = inside.init(key, family.hyper())
    raw, u = jax.random.normal(key, (5, 2)), jnp.linspace(-1.5, 1.5, 5)[:, None]
    log_prob = log_prob_of(agent, state)
    assert isinstance(log_prob, Squashed)
    found = log_prob.preimage(normalizers.encode_obs(NORMALIZER, raw), u)
    np.testing.assert_allclose(found, inside.preimage_log_prob(state, raw, u), rtol=1e-5)
    of_action = log_prob(normalizers.encode_obs(NORMALIZER, raw), jnp.tanh(u))
    np.testing.assert_allclose(of_action, found - jnp.log(1.0 - jnp.tanh(u[:, 0]) ** 2), rtol=1e-4, atol=1e-5)
    assert not isinstance(log_prob_of(AGENTS.get("iql").build(2, 1, PLAN), state), Squashed)
