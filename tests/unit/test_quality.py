"""Measures of windows: worked by hand in a world that adds, and on real windows, which obey their environment."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Layout, Normalizer
from pgd_jax.data import episodes, normalizer as normalizers
from pgd_jax.data.base import RawDataset
from pgd_jax.data.mazes import collect
from pgd_jax.envs.base import ENVS, EvalEnv
from pgd_jax.measures import quality

# The next observation is obs + action, the reward 2 action, except at 7, where there is none; 10 is out of reach.
ADDER = EvalEnv(
    name="adder",
    obs_dim=1,
    action_dim=1,
    horizon=1,
    reset=lambda key: (jnp.zeros(1), jnp.zeros(1)),
    step=lambda key, state, action: (
        state + action,
        state + action,
        jnp.where(state[0] == 7.0, jnp.nan, 2.0 * action[0]),
        jnp.bool_(False),
    ),
    from_obs=lambda obs: obs,
    is_reachable=lambda obs: obs[0] < 10.0,
)
CODEC = Normalizer(jnp.zeros(4), jnp.array([2.0, 1.0, 4.0, 1.0]), Layout(1, 1), squash=False)

# obs, action, reward, terminal; what is wrong with a row is said behind it.
BY_HAND = np.array(
    [
        [
            [0, 1, 2, 0],
            [1, 1, 0, 0],  # to 2, not 3: (1 / 2)^2; reward 2, not 0: (2 / 4)^2
            [3, 50, 9, 0],  # no successor, not valid
        ],
        [
            [0, 1, 6, 0],  # to 1, not 5: (4 / 2)^2; reward 2, not 6: (4 / 4)^2
            [5, 1, 2, 1],  # an early terminal: valid, not measured
            [7, 50, 2, 0],  # after it
        ],
        [
            [12, 1, 2, 0],  # unreachable; to 13, not 15: (2 / 2)^2
            [15, 2, 8, 0],  # unreachable; reward 4, not 8: (4 / 4)^2
            [17, 5, 0, 1],  # unreachable; a terminal where it belongs: valid, not measured
        ],
        [
            [20, 3, 0, 1],  # unreachable and an early terminal: valid, not measured
            [0, 50, 0, 0],
            [0, 50, 0, 0],
        ],
        [
            [7, 0, 0, 0],  # no reward at 7: not defined
            [7, 0, 0, 0],
            [7, 50, 0, 0],
        ],
    ],
    np.float32,
)
REFERENCE = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3, 4)), jnp.float32)


def action_or_infinity(obs, action):
    """A log-probability that is 0 of actions that do not count."""
    return jnp.where(action[..., 0] == 50.0, -jnp.inf, action[..., 0])


@functools.partial(jax.jit, static_argnums=(1, 2, 5, 6))
def measure(windows, log_prob, env, normalizer, reference, dynamics_windows, reward_of=None):
    return quality.measure(windows, log_prob, normalizer, env, reference, dynamics_windows, reward_of)


def test_worked_by_hand():
    windows = normalizers.encode(CODEC, jnp.asarray(BY_HAND))
    found = measure(windows, action_or_infinity, ADDER, CODEC, REFERENCE, 5)
    expected = {
        "log_likelihood": (1 + 1 + 1 + 1 + 1 + 2 + 5 + 3 + 0 + 0) / 10,
        "unreachable_share": 4 / 10,
        "early_terminal_share": 2 / 5,  # windows 1 and 3
        "impossible_share": 8 / 15,  # two rows of window 1, all of windows 2 and 3
        "dynamics_error": (0 + 1 / 4 + 4 + 1 + 0) / 5,
        "dynamics_error_reachable": (0 + 1 / 4 + 4) / 3,
        "dynamics_error_median": 1 / 2,  # of 1/8, 4 and 1/2
        "dynamics_error_by_position": [(0 + 4 + 1) / 3, (1 / 4 + 0) / 2],
        "reward_error": (0 + 1 / 4 + 1 + 0 + 1) / 5,
        "reward_error_by_position": [(0 + 1 + 0) / 3, (1 / 4 + 1) / 2],
        "dynamics_defined_share": 5 / 7,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found.pop(name), value, rtol=1e-6, err_msg=name)
    assert set(found) == {"wasserstein", "wasserstein_by_column", "mmd", "diversity", "nearest_distance"}
    assert found["wasserstein_by_column"].shape == (4,)
    np.testing.assert_allclose(found["wasserstein"], np.mean(found["wasserstein_by_column"]), rtol=1e-6)


def test_only_the_first_windows_are_stepped():
    windows = normalizers.encode(CODEC, jnp.asarray(BY_HAND))
    found = measure(windows, action_or_infinity, ADDER, CODEC, REFERENCE, 2)
    np.testing.assert_allclose(found["dynamics_error"], (0 + 1 / 4 + 4) / 3, rtol=1e-6)
    np.testing.assert_allclose(found["dynamics_error_median"], (1 / 8 + 4) / 2, rtol=1e-6)  # of an even number
    np.testing.assert_allclose(found["unreachable_share"], 4 / 10, rtol=1e-6)


def test_what_an_environment_cannot_answer_is_not_asked():
    windows = normalizers.encode(CODEC, jnp.asarray(BY_HAND))
    blind = ADDER._replace(from_obs=None, is_reachable=None)
    for env, num in ((None, 5), (blind, 5), (ADDER, 0)):
        found = measure(windows, action_or_infinity, env, CODEC, REFERENCE, num)
        assert not {name for name in found if name.startswith(("dynamics", "reward"))}
        unreachable, impossible = (4 / 10, 8 / 15) if env is ADDER else (0.0, 5 / 15)
        np.testing.assert_allclose(found["unreachable_share"], unreachable, rtol=1e-6)
        np.testing.assert_allclose(found["impossible_share"], impossible, rtol=1e-6)


def test_windows_that_end_at_once_are_finite():
    rows = jnp.zeros((4, 3, 4)).at[:, 0, 3].set(1.0)
    found = measure(normalizers.encode(CODEC, rows), action_or_infinity, ADDER, CODEC, REFERENCE, 4)
    assert all(np.isfinite(value).all() for value in found.values())
    assert found["early_terminal_share"] == found["impossible_share"] == 1.0
    assert found["dynamics_error"] == found["dynamics_error_median"] == found["reward_error"] == 0.0


def test_a_lane_is_a_single_run():
    lanes = normalizers.encode(CODEC, jnp.stack([jnp.asarray(BY_HAND), jnp.asarray(BY_HAND[::-1]) + 0.5]))
    policy = jnp.array([1.0, -2.0])

    def lane(windows, scale):
        return quality.measure(windows, lambda obs, action: scale * obs[..., 0], CODEC, ADDER, REFERENCE, 3)

    together = jax.jit(jax.vmap(lane))(lanes, policy)
    single = jax.jit(lane)
    for i in range(2):
        for name, value in single(lanes[i], policy[i]).items():
            np.testing.assert_allclose(together[name][i], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(AssertionError):
        quality.measure(REFERENCE, action_or_infinity, CODEC, ADDER, REFERENCE[:, :2], 1)
    with pytest.raises(UserError, match="found 1 generated"):
        quality.measure(REFERENCE[:1], action_or_infinity, CODEC, ADDER, REFERENCE, 1)


def real_windows(recording, layout, rewards=None):
    """(normalizer, windows f32[M, 8, D] in network space) of recorded rows, as training cuts them; in random order."""
    flat = recording.flat._asdict() | ({} if rewards is None else {"rewards": rewards})
    raw = RawDataset("recorded", "", "", **flat)
    rows, starts = episodes.rows(raw), episodes.window_starts(episodes.segments(raw), 8, 4)
    normalizer = normalizers.fit(rows, layout)
    starts = np.random.default_rng(0).permutation(starts)[:240]
    return normalizer, normalizers.encode(normalizer, jnp.asarray(rows[starts[:, None] + np.arange(8)]))


def log_prob(obs, action):
    return -jnp.sum(action**2, axis=-1)


@pytest.fixture(scope="module")
def pendulum():
    return real_windows(collect.generate("pendulum-mixed-v0", 1_200), Layout(3, 1))


def test_real_windows_of_pendulum_are_true_and_their_own_law(pendulum):
    normalizer, windows = pendulum
    found = measure(windows, log_prob, ENVS.get("pendulum")(), normalizer, windows, len(windows))
    # What is left is the normalizer's, which clips actions of 1 to 0.999.
    assert max(found["dynamics_error"], found["reward_error"], found["wasserstein"]) < 1e-6
    assert found["dynamics_defined_share"] == 1.0 and found["impossible_share"] == 0.0
    np.testing.assert_allclose([found["diversity"], found["nearest_distance"]], 1.0, rtol=1e-6)
    assert -2.0 / len(windows) < found["mmd"] < 0.0


def test_a_known_mistake_is_found_where_it_is(pendulum):
    """The last observation is off by a standard deviation, the third reward by half of one."""
    normalizer, windows = pendulum
    layout = normalizer.layout
    wrong = windows.at[:, -1, layout.obs].add(1.0).at[:, 2, layout.reward].add(0.5)
    found = measure(wrong, log_prob, ENVS.get("pendulum")(), normalizer, windows, len(windows))
    np.testing.assert_allclose(found["dynamics_error_by_position"], [0, 0, 0, 0, 0, 0, 1.0], atol=1e-3)
    np.testing.assert_allclose(found["reward_error_by_position"], [0, 0, 0.25, 0, 0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(found["dynamics_error"], 1.0 / 7.0, rtol=1e-3)
    np.testing.assert_allclose(found["reward_error"], 0.25 / 7.0, rtol=1e-3)
    # A row of eight is off by 1, or by 0.5, all to one side.
    np.testing.assert_allclose(found["wasserstein_by_column"][layout.obs], 1.0 / 8.0, rtol=1e-3)
    np.testing.assert_allclose(found["wasserstein_by_column"][layout.reward], 0.5 / 8.0, rtol=1e-3)


@pytest.mark.slow
def test_maze2d_pays_by_either_rule():
    """Rows recorded here are paid for obs[t + 1], D4RL's files were relabelled by obs[t]: both are true to the maze."""
    recording = collect.generate("maze2d-umaze-waypoint-v0", 1_500)
    env = ENVS.get("maze2d-umaze")()
    relabelled = np.asarray(jax.vmap(env.reward_of)(jnp.asarray(recording.flat.observations)))
    assert (relabelled != recording.flat.rewards).any()

    error = {}
    for name, rewards in (("recorded", None), ("relabelled", relabelled)):
        normalizer, windows = real_windows(recording, Layout(4, 2), rewards)
        for rule in (None, env.reward_of):
            found = measure(windows, log_prob, env, normalizer, windows, len(windows), rule)
            assert found["dynamics_error"] < 1e-6 and found["unreachable_share"] == 0.0
            error[name, rule is None] = float(found["reward_error"])
    assert max(error["recorded", True], error["recorded", False], error["relabelled", False]) < 1e-6
    assert error["relabelled", True] > 1e-2
