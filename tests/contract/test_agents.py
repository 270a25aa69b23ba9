"""What every registered agent must keep: shapes, purity, lanes, and a usable density."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax import agents  # noqa: F401 (registers the agents)
from pgd_jax.agents.base import AGENTS
from pgd_jax.core.types import Transition

OBS_DIM, ACTION_DIM, BATCH = 3, 2, 16
NUM_UPDATES, NUM_LANES = 10, 16


def plan_of(family):
    """The family's own choices at a small size."""
    return dataclasses.replace(family.plan, hidden_dim=16, num_hidden=2)


# Made of what other agents are made of.
SLOW = ("bc_gaussian", "iql_deterministic", "sac_n", "td3_awr")


ROUGH = {"edac": 1e-3}  # directions of gradients that are near 0, as they are at the start


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in AGENTS.names()],
    scope="module",
)
def family(request):
    return AGENTS.get(request.param)


@pytest.fixture(scope="module")
def agent(family):
    return family.build(OBS_DIM, ACTION_DIM, plan_of(family))


def batches(agent, key, num_updates=None):
    keys = jax.random.split(key, 6)
    shape = (() if num_updates is None else (num_updates,)) + (agent.batches_per_update, BATCH)
    next_action = jax.random.uniform(keys[5], (*shape, ACTION_DIM), minval=-1.0)
    return Transition(
        obs=jax.random.normal(keys[0], (*shape, OBS_DIM)),
        action=jax.random.uniform(keys[1], (*shape, ACTION_DIM), minval=-1.0),
        reward=jax.random.normal(keys[2], shape),
        next_obs=jax.random.normal(keys[3], (*shape, OBS_DIM)),
        terminal=jax.random.bernoulli(keys[4], 0.1, shape).astype(jnp.float32),
        next_action=next_action if agent.needs_next_action else None,
    )


def has_critic(family, agent):
    arguments = (jax.random.key(0), jax.eval_shape(agent.init, jax.random.key(0), family.hyper()))
    logs = jax.eval_shape(agent.update, *arguments, batches(agent, jax.random.key(0)), family.hyper())[1]
    return "critic_loss" in logs


def learn(agent, key, state, experience, hyper):
    """Updates in a scan over experience [U, K, B, ...]."""

    def body(state, key_and_batches):
        return agent.update(key_and_batches[0], state, key_and_batches[1], hyper)

    return jax.lax.scan(body, state, (jax.random.split(key, NUM_UPDATES), experience))


@pytest.fixture(scope="module")
def run(agent):
    return jax.jit(functools.partial(learn, agent))


@pytest.fixture(scope="module")
def run_lanes(agent):
    return jax.jit(jax.vmap(functools.partial(learn, agent), in_axes=(0, 0, None, 0)))


@pytest.fixture(scope="module")
def experience(agent):
    return batches(agent, jax.random.key(7), NUM_UPDATES)


def test_hyper_is_all_python_floats(family):
    assert {type(leaf) for leaf in jax.tree.leaves(family.hyper())} == {float}


def test_update_keeps_every_shape_dtype_and_strong_type(family, agent, key):
    hyper = family.hyper()
    state = jax.eval_shape(agent.init, key, hyper)
    new_state, logs = jax.eval_shape(agent.update, key, state, batches(agent, key), hyper)
    for leaf in jax.tree.leaves((state, new_state, logs)):
        assert not leaf.weak_type
    chex.assert_trees_all_equal_shapes_and_dtypes(state, new_state)
    assert logs and all(log.shape == () and log.dtype == jnp.float32 for log in logs.values())


def test_second_update_does_not_retrace(family, agent, key):
    hyper, traces = family.hyper(), []

    @jax.jit
    def update(*args):
        traces.append(args)
        return agent.update(*args)

    state = jax.jit(agent.init)(key, hyper)
    for _ in range(2):
        state, _ = update(key, state, batches(agent, key), hyper)
    assert len(traces) == 1


def test_same_key_same_result_other_key_other_result(family, agent, run, experience, key):
    hyper = jax.tree.map(jnp.float32, family.hyper())
    first, second, other = (run(k, agent.init(k, hyper), experience, hyper) for k in (key, key, jax.random.key(1)))
    chex.assert_trees_all_equal(first, second)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(first, other)


def test_a_lane_is_a_single_run(request, family, agent, run, run_lanes, experience, key):
    """Lanes, each with its own seed and hyperparameters, against runs alone."""
    keys = jax.random.split(key, NUM_LANES)
    hypers = jax.tree.map(lambda value: value * jnp.linspace(1.0, 0.7, NUM_LANES), family.hyper())
    states = jax.vmap(agent.init)(keys, hypers)
    tolerance = ROUGH.get(request.node.callspec.params["family"], 1e-4)
    lanes = run_lanes(keys, states, experience, hypers)
    for lane in range(0, NUM_LANES, 3):
        state, hyper = jax.tree.map(lambda x: x[lane], (states, hypers))
        alone = run(keys[lane], state, experience, hyper)
        chex.assert_trees_all_close(jax.tree.map(lambda x: x[lane], lanes), alone, rtol=tolerance, atol=tolerance)


def test_every_hyperparameter_matters(family, agent, run_lanes, experience, key):
    """Lane 0 has the defaults; lane i has hyperparameter i scaled to almost nothing, and must end elsewhere."""
    paths, treedef = jax.tree_util.tree_flatten_with_path(family.hyper())
    names, defaults = [path[-1].name for path, _ in paths], np.array([value for _, value in paths], np.float32)
    assert len(names) < NUM_LANES
    scales = np.ones((len(names), NUM_LANES), np.float32)
    scales[np.arange(len(names)), 1 + np.arange(len(names))] = 1e-6
    hypers = treedef.unflatten(list(jnp.asarray(scales * defaults[:, None])))
    keys = jnp.stack([key] * NUM_LANES)
    states, _ = run_lanes(keys, jax.vmap(agent.init)(keys, hypers), experience, hypers)
    floats = [x.reshape(NUM_LANES, -1) for x in jax.tree.leaves(states) if x.dtype == jnp.float32]
    final = np.concatenate(floats, axis=1)
    idle = [name for name, lane in zip(names, final[1:]) if np.array_equal(lane, final[0])]
    assert idle == ([] if has_critic(family, agent) else ["discount"])  # which evaluation has a use for


def test_nothing_is_learned_from_beyond_a_terminal(family, agent, key):
    hyper, state = family.hyper(), agent.init(key, family.hyper())
    update = jax.jit(agent.update)
    batch = batches(agent, key)

    def critic_loss(terminal, next_obs):
        changed = batch._replace(terminal=jnp.full_like(batch.terminal, terminal), next_obs=next_obs)
        return update(key, state, changed, hyper)[1]["critic_loss"]

    if not has_critic(family, agent):  # nothing is learned from what comes next at all
        beyond = batch._replace(next_obs=batch.next_obs + 1.0, terminal=1.0 - batch.terminal)
        chex.assert_trees_all_equal(*(update(key, state, rows, hyper) for rows in (batch, beyond)))
        return
    assert critic_loss(1.0, batch.next_obs) == critic_loss(1.0, batch.next_obs + 1.0)
    assert critic_loss(0.0, batch.next_obs) != critic_loss(0.0, batch.next_obs + 1.0)


def test_a_next_action_is_read_where_the_agent_says_so(family, agent, key):
    """And means nothing where the MDP ended."""
    if not agent.needs_next_action:
        return
    hyper, state, update = family.hyper(), agent.init(key, family.hyper()), jax.jit(agent.update)
    batch = batches(agent, key)

    def loss(terminal, change):
        rows = batch._replace(terminal=jnp.full_like(batch.terminal, terminal), next_action=batch.next_action + change)
        return update(key, state, rows, hyper)[1]["critic_loss"]

    assert loss(1.0, 0.0) == loss(1.0, 0.1) and loss(0.0, 0.0) != loss(0.0, 0.1)


def test_half_precision_is_refused_or_raised(family, agent, key):
    """Agents compute in float32, whatever rows are in: nothing is rounded on the way."""
    rows = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), batches(agent, key))
    state = jax.eval_shape(agent.init, key, family.hyper())
    with pytest.raises(jax.dtypes.TypePromotionError):
        jax.eval_shape(agent.update, key, state, rows, family.hyper())
    with jax.numpy_dtype_promotion("standard"):
        found, logs = jax.eval_shape(agent.update, key, state, rows, family.hyper())
    chex.assert_trees_all_equal_shapes_and_dtypes(found, state)
    assert {log.dtype for log in logs.values()} == {jnp.dtype("float32")}


def test_act_is_bounded_and_free_in_its_leading_axes(family, agent, key):
    state = agent.init(key, family.hyper())
    obs = 10.0 * jax.random.normal(key, (4, 5, OBS_DIM))
    action = agent.act(state, obs)
    assert action.shape == (4, 5, ACTION_DIM) and jnp.abs(action).max() <= 1.0
    np.testing.assert_allclose(agent.act(state, obs[1, 2]), action[1, 2], rtol=1e-5, atol=1e-6)
    log_prob = agent.log_prob(state, obs, action)
    assert log_prob.shape == (4, 5)
    np.testing.assert_allclose(agent.log_prob(state, obs[1, 2], action[1, 2]), log_prob[1, 2], rtol=1e-5)


def test_log_prob_is_a_density_over_environment_actions(family, key):
    agent = family.build(OBS_DIM, 1, plan_of(family))
    state = agent.init(key, family.hyper())
    action = jnp.linspace(-8.0, 8.0, 16_001)[:, None]
    density = jnp.exp(agent.log_prob(state, jnp.zeros((16_001, OBS_DIM)), action))
    np.testing.assert_allclose(np.trapezoid(density, action[:, 0]), 1.0, rtol=1e-3)


@pytest.mark.parametrize("edge", [-1.0, 1.0])
def test_score_at_the_edge_of_the_action_box_points_to_the_policy(family, agent, key, edge):
    """Guidance differentiates log_prob at actions of exactly -1 and 1, which datasets hold."""
    state = agent.init(key, family.hyper())
    obs, action = jnp.ones((6, OBS_DIM)), jnp.full((6, ACTION_DIM), edge)
    value, score = jax.value_and_grad(lambda a: agent.log_prob(state, obs, a).sum())(action)
    assert jnp.isfinite(value) and jnp.isfinite(score).all()
    assert (score * (agent.act(state, obs) - action) > 0.0).all()


def test_debug_nans_and_key_reuse_clean(family, agent, key):
    key_init, key_batch, key_update = jax.random.split(key, 3)
    state, batch = agent.init(key_init, family.hyper()), batches(agent, key_batch)
    with jax.debug_nans(True), jax.debug_key_reuse(True):
        _, logs = jax.jit(agent.update)(key_update, state, batch, family.hyper())
    chex.assert_tree_all_finite(logs)
