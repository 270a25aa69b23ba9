"""What every registered environment promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgd_jax.envs  # noqa: F401  registers
from pgd_jax.envs.base import ENVS
from pgd_jax.envs.evaluate import evaluate

# The mazes differ in a table and a reward: two of them are compiled, all are traced. Of the walkers, which take long to
# compile, hopper and the one with a free joint; test_parity.py steps all of them.
SIMILAR = [name for name in ENVS if name.startswith("maze2d")] + ["walker2d", "halfcheetah"]
COMPILED = [name for name in ENVS if name not in SIMILAR or name in ("maze2d-umaze", "maze2d-large-dense")]
COMPILED = [pytest.param(name, marks=pytest.mark.slow) if name in ("hopper", "ant") else name for name in COMPILED]


@functools.cache
def compiled_step(name):
    return jax.jit(ENVS.get(name)().step)


@pytest.fixture(params=ENVS)
def traced_env(request):
    return ENVS.get(request.param)()


@pytest.fixture(params=COMPILED)
def env(request):
    return ENVS.get(request.param)()


def test_shapes_and_types_are_kept(traced_env, key):
    """A step gives back the state it took, weak types included, or a scan over it would be traced twice or fail."""
    obs, state = jax.eval_shape(traced_env.reset, key)
    action = jax.ShapeDtypeStruct((traced_env.action_dim,), jnp.float32)
    new_obs, new_state, reward, terminal = jax.eval_shape(traced_env.step, key, state, action)
    assert obs.shape == new_obs.shape == (traced_env.obs_dim,)
    assert obs.dtype == new_obs.dtype == reward.dtype == jnp.float32
    assert reward.shape == terminal.shape == () and terminal.dtype == jnp.bool_
    kinds = [[(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(s)] for s in (state, new_state)]
    assert kinds[0] == kinds[1] and not any(weak for _, _, weak in kinds[0])
    assert jax.tree.structure(state) == jax.tree.structure(new_state)
    assert isinstance(traced_env.horizon, int) and traced_env.horizon > 0


def test_same_object_each_time(traced_env):
    """A program is compared by the identity of its functions: a new adapter would be a new compilation."""
    assert ENVS.get(traced_env.name)() is traced_env


def test_from_obs_shows_the_observation_and_moves_alike(env, key):
    if env.from_obs is None:
        pytest.skip("an observation does not determine a state here")
    obs, state = jax.jit(env.reset)(key)
    again = env.from_obs(obs)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    step = compiled_step(env.name)
    action = jnp.full(env.action_dim, 0.3)
    for _ in range(3):
        _, state, _, _ = step(key, state, action)
        _, again, _, _ = step(key, again, action)
    np.testing.assert_allclose(step(key, again, action)[0], step(key, state, action)[0], atol=1e-5)


def test_actions_beyond_the_box_act_as_its_edge(env, key):
    state = jax.jit(env.reset)(key)[1]
    step = compiled_step(env.name)
    edge, beyond = (step(key, state, jnp.full(env.action_dim, size)) for size in (1.0, 3.0))
    jax.tree.map(np.testing.assert_array_equal, edge, beyond)


def test_evaluates_with_one_trace_and_the_same_result(env):
    if env.simulator is not None:
        pytest.skip("a minute to compile: tests/learning/test_two_sample.py evaluates hopper")
    traces = []

    def policy(obs):
        traces.append(1)
        return jnp.tanh(obs[:, : env.action_dim])

    run = jax.jit(lambda key: evaluate(key, policy, env._replace(horizon=20), 4, 0.9))
    first = run(jax.random.key(1))
    num_traces = len(traces)
    again, other = run(jax.random.key(1)), run(jax.random.key(2))
    assert len(traces) == num_traces
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert np.isfinite(first.returns).all()
    if len(np.unique(first.returns)) > 1:  # a sparse reward may be all zero
        assert not np.array_equal(first.returns, other.returns)


# (task, first numbers of the observation: height and, but for ant, angle; whether an episode ends there)
ENDS = [
    ("hopper", (1.2, 0.0), False), ("hopper", (0.69, 0.0), True), ("hopper", (1.2, 0.21), True),
    ("hopper", (1.2, 0.0, 101.0), True), ("walker2d", (1.2, 0.0), False), ("walker2d", (0.79, 0.0), True),
    ("walker2d", (2.01, 0.0), True), ("walker2d", (1.2, -1.01), True), ("ant", (0.5,), False), ("ant", (0.19,), True),
    ("ant", (1.01,), True), ("halfcheetah", (9.0, 9.0), False), ("maze2d-umaze", (1.0, 1.0), False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "first", "ends"), ENDS)
def test_the_rule_of_an_end(name, first, ends):
    made = ENVS.get(name)()
    assert bool(made.is_terminal(jnp.zeros(made.obs_dim).at[: len(first)].set(jnp.array(first)))) == ends


def test_an_episode_ends_where_the_rule_says(env, key):
    """Random actions fall within some steps, where there are falls; tasks without a rule say nothing."""
    if env.is_terminal is None:
        pytest.skip("what ends an episode is not known from the observation")
    _, state = jax.jit(env.reset)(key)
    for i in range(60):
        action = jax.random.uniform(jax.random.fold_in(key, i), (env.action_dim,), minval=-1.0)
        obs, state, _, terminal = compiled_step(env.name)(key, state, action)
        assert bool(env.is_terminal(obs)) == bool(terminal)
