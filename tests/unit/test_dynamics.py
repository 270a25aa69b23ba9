import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Layout, Normalizer, Transition
from pgd_jax.envs import maze2d
from pgd_jax.envs.base import EvalEnv
from pgd_jax.measures import dynamics as module
from pgd_jax.measures.dynamics import dynamics_error

ADDER = EvalEnv(
    name="adder",
    obs_dim=2,
    action_dim=1,
    horizon=1,
    reset=lambda key: (jnp.zeros(2), jnp.zeros(2)),
    step=lambda key, state, action: (state + action[0], state + action[0], jnp.float32(0.0), jnp.bool_(False)),
    from_obs=lambda obs: obs,
)


def test_worked_by_hand():
    obs = jnp.array([[[1.0, 2.0], [0.0, 0.0]]])
    action = jnp.array([[[0.5], [1.0]]])  # true successors (1.5, 2.5) and (1, 1)
    next_obs = jnp.array([[[1.5, 3.5], [3.0, 1.0]]])
    # Deviations (0, 1) and (2, 0); over the deviations (2, 4): mean of (0, 1/16) and of (1, 0).
    error = dynamics_error(ADDER, obs, action, next_obs, jnp.array([2.0, 4.0]))
    np.testing.assert_allclose(error, [[1.0 / 32.0, 0.5]])


def test_zero_on_the_environment_s_own_transitions():
    env = maze2d.make("umaze")
    obs, state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 8))
    action = jnp.ones((8, 2))
    next_obs = jax.jit(jax.vmap(env.step, in_axes=(None, 0, 0)))(jax.random.key(1), state, action)[0]
    error = jax.jit(lambda action: dynamics_error(env, obs, action, next_obs, jnp.ones(4)))
    assert float(jnp.max(error(action))) < 1e-12
    assert float(jnp.min(error(-action))) > 1e-2


def test_refusals():
    with pytest.raises(UserError, match='"adder".*from_obs'):
        dynamics_error(ADDER._replace(from_obs=None), jnp.zeros(2), jnp.zeros(1), jnp.zeros(2), jnp.ones(2))
    with pytest.raises(UserError, match=r"action \(3,\)"):
        dynamics_error(ADDER, jnp.zeros(2), jnp.zeros(3), jnp.zeros(2), jnp.ones(2))


def test_rows_that_do_not_fill_a_batch(monkeypatch):
    """7 rows in batches of 3: every row has its own error, the filling rows none."""
    monkeypatch.setattr(module, "ROWS_PER_BATCH", 3)
    obs = jnp.arange(14.0).reshape(7, 2)
    error = dynamics_error(
        ADDER, obs, jnp.zeros((7, 1)), obs + jnp.arange(7.0)[:, None] * jnp.ones((1, 2)), jnp.ones(2)
    )
    np.testing.assert_allclose(error, np.arange(7.0) ** 2)


def test_a_row_without_a_finite_successor_does_not_count():
    """Row 0 is invalid, row 1 breaks the simulator, row 2 is off by (1, 1) / 1."""
    world = ADDER._replace(
        from_obs=lambda obs: jnp.where(obs[0] == 1.0, jnp.nan, obs),
        step=lambda key, state, action: (state, state, 0, 0),
    )
    normalizer = Normalizer(jnp.zeros(5), jnp.ones(5), Layout(2, 1), squash=False)
    obs = jnp.array([[1.0, 0.0], [1.0, 0.0], [2.0, 2.0]])
    rows = Transition(obs, jnp.zeros((3, 1)), jnp.zeros(3), obs + 1.0, jnp.zeros(3))
    error, weight, _ = module.of_transitions(world, normalizer, rows, jnp.array([False, True, True]))
    np.testing.assert_array_equal(weight, [0.0, 0.0, 1.0])
    np.testing.assert_allclose(error, [0.0, 0.0, 1.0])
