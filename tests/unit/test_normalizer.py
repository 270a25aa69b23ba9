"""The normalizer against values worked by hand, and what counts as experience in a generated window."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.types import Layout, Normalizer
from pgd_jax.data import normalizer as normalizers

LAYOUT = Layout(obs_dim=2, action_dim=1)

# arctanh(0.6) = ln(1.6 / 0.4) / 2 = ln 2.
ROWS = np.array(
    [
        # obs     action reward terminal
        [1.0, 5.0, 0.6, 2.0, 0.0],
        [3.0, 5.0, -0.6, 4.0, 0.0],
        [1.0, 5.0, 0.6, 2.0, 0.0],
        [3.0, 5.0, -0.6, 4.0, 1.0],
    ],
    np.float32,
)


def test_fit_by_hand():
    normalizer = normalizers.fit(ROWS, LAYOUT)
    assert normalizer.mean.dtype == normalizer.std.dtype == jnp.float32
    np.testing.assert_allclose(normalizer.mean, [2, 5, 0, 3, 0.25], atol=1e-7)
    # obs 0 and reward: +-1 round the mean. obs 1 is 5: a thousandth of it. Action: +-ln 2. Terminal: sqrt(3/16).
    np.testing.assert_allclose(normalizer.std, [1, 5 * normalizers.CONSTANT_STD, np.log(2), 1, 0.1875**0.5], rtol=1e-6)


def test_encode_by_hand():
    x = normalizers.encode(normalizers.fit(ROWS, LAYOUT), jnp.asarray(ROWS[3]))
    # Terminal: (1 - 1/4) / sqrt(3/16) = sqrt(3).
    np.testing.assert_allclose(x, [1, 0, -1, 1, 3**0.5], rtol=1e-6)


def test_outcomes_of_two_values_are_flag_gap_apart_and_nothing_else_changes():
    plain, flags = normalizers.fit(ROWS, LAYOUT), normalizers.fit(ROWS, LAYOUT, flag_gap=0.4)
    x, shrunk = normalizers.encode(plain, jnp.asarray(ROWS)), normalizers.encode(flags, jnp.asarray(ROWS))
    np.testing.assert_array_equal(shrunk[:, :3], x[:, :3])
    # Reward 2 and 4 round a mean of 3; terminal 0 and 1 round 1/4.
    np.testing.assert_allclose(shrunk[:, 3:], [[-0.2, -0.1], [0.2, -0.1], [-0.2, -0.1], [0.2, 0.3]], rtol=1e-5)
    np.testing.assert_allclose(normalizers.decode(flags, shrunk), ROWS, atol=1e-5)
    np.testing.assert_allclose(normalizers.standardised(flags, shrunk), x, rtol=1e-5)
    rewards = ROWS.copy()
    rewards[2, 3] = 2.5  # a third value: no decision any more
    assert normalizers.fit(rewards, LAYOUT, flag_gap=0.4).outcome_std[0] == 1.0
    never = ROWS.copy()
    never[:, 4] = 0.0
    assert normalizers.fit(never, LAYOUT, flag_gap=0.4).outcome_std[1] == 1.0


def test_statistics_do_not_lose_a_small_spread_on_a_large_mean():
    """10000 +- 0.125 over 2^17 rows: float32 sums would lose it."""
    rows = np.zeros((2**17, 5), np.float32)
    rows[:, 0] = 10000 + np.where(np.arange(2**17) % 2, 0.125, -0.125)
    normalizer = normalizers.fit(rows, LAYOUT)
    np.testing.assert_allclose([normalizer.mean[0], normalizer.std[0]], [10000, 0.125], rtol=1e-6)


@pytest.mark.parametrize("squash", [True, False])
@pytest.mark.parametrize("lead", [(), (7,), (3, 4)])
def test_round_trip_with_any_leading_axes(squash, lead):
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(*lead, 5)).astype(np.float32)
    rows[..., 2] = generator.uniform(-0.99, 0.99, lead)
    normalizer = normalizers.fit(np.concatenate([ROWS, rows.reshape(-1, 5)]), LAYOUT, squash)
    x = jax.jit(normalizers.encode)(normalizer, jnp.asarray(rows))
    np.testing.assert_allclose(normalizers.decode(normalizer, x), rows, atol=1e-5)
    np.testing.assert_allclose(normalizers.decode_obs(normalizer, x[..., :2]), rows[..., :2], atol=1e-5)
    np.testing.assert_allclose(normalizers.encode_obs(normalizer, jnp.asarray(rows[..., :2])), x[..., :2], atol=1e-5)
    np.testing.assert_allclose(normalizers.decode_action(normalizer, x[..., 2:3]), rows[..., 2:3], atol=1e-5)


def test_actions_at_the_bounds_stay_finite_and_legal():
    normalizer = normalizers.fit(ROWS, LAYOUT)
    bounds = jnp.array([[-1.0], [1.0]])
    x = normalizers.encode_action(normalizer, bounds)
    np.testing.assert_allclose(normalizers.decode_action(normalizer, x), [[-0.999], [0.999]], atol=1e-6)
    assert np.all(np.abs(normalizers.decode_action(normalizer, 1e3 * bounds)) <= 1)


def test_without_squash_the_action_map_is_linear():
    normalizer = normalizers.fit(ROWS, LAYOUT, squash=False)
    np.testing.assert_allclose(
        normalizers.decode_action(normalizer, jnp.array([10.0])), [6.0], rtol=1e-6
    )  # 10 * 0.6 + 0


def _normalizer_of_ones() -> Normalizer:
    return Normalizer(jnp.zeros(5), jnp.ones(5), LAYOUT)


def test_what_follows_a_generated_terminal_is_not_experience():
    """T = 4. Window 0 ends in row 1, window 1 never, window 2 only in its last row, window 3 at once and again."""
    terminal = jnp.array([[0.1, 0.6, 0.2, 0.9], [0.49, 0.5, -0.3, 0.4], [0, 0, 0, 1.0], [0.8, 0, 0.7, 0]])
    x = jnp.zeros((4, 4, 5)).at[..., 4].set(terminal)
    made, valid = normalizers.to_transitions(_normalizer_of_ones(), x)
    np.testing.assert_array_equal(made.terminal, [[0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1], [1, 0, 1, 0]])
    # The last row has no successor: only window 2's, which ends the episode there, is a transition.
    np.testing.assert_array_equal(valid, [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]])


def test_transitions_are_in_the_spaces_agents_expect():
    """Row t: network obs (t, 10 t), pre-tanh action t / 4, encoded reward t, decoded as 5 + 2 t."""
    normalizer = _normalizer_of_ones().replace(mean=jnp.array([7.0, 7, 0, 5, 0]), std=jnp.array([3.0, 3, 1, 2, 1]))
    time = jnp.arange(3, dtype=jnp.float32)
    x = jnp.stack([time, 10 * time, time / 4, time, jnp.zeros(3)], axis=-1)
    made, _ = normalizers.to_transitions(normalizer, x)
    np.testing.assert_array_equal(made.obs[:2], [[0, 0], [1, 10]])  # network space, untouched
    np.testing.assert_array_equal(made.next_obs[:2], [[1, 10], [2, 20]])
    np.testing.assert_allclose(made.action, np.tanh([[0], [0.25], [0.5]]), rtol=1e-6)
    np.testing.assert_array_equal(made.next_action[:2], made.action[1:])
    np.testing.assert_allclose(made.reward, [5, 7, 9])
    in_env = normalizers.to_environment_space(normalizer, made)
    np.testing.assert_allclose(in_env.next_obs[:2], [[10, 37], [13, 67]])  # 7 + 3 x
    assert in_env.action is made.action


def test_a_terminal_at_the_end_of_a_data_window_becomes_a_transition():
    """The windows of a dataset show terminals in their last row only; agents must see them."""
    rows = np.concatenate([ROWS[:4, :4], [[0.0], [0.0], [0.0], [1.0]]], axis=1).astype(np.float32)
    normalizer = normalizers.fit(rows, LAYOUT)
    made, valid = normalizers.to_transitions(normalizer, normalizers.encode(normalizer, jnp.asarray(rows)))
    np.testing.assert_array_equal(made.terminal, [0, 0, 0, 1])
    assert valid.all()


def test_under_jit_and_vmap_it_is_the_same():
    x = jax.random.normal(jax.random.key(0), (6, 4, 5))
    normalizer = normalizers.fit(ROWS, LAYOUT)
    whole = normalizers.to_transitions(normalizer, x)
    lanes = jax.jit(jax.vmap(normalizers.to_transitions, in_axes=(None, 0)))(normalizer, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), whole, lanes)


@pytest.mark.parametrize("column", [0, 1, 3])  # both observations, the reward
@pytest.mark.parametrize("scale, offset", [(1e-5, 0.0), (1e6, 0.0), (-3.0, 7.0), (1e-5, 2e-5)])
def test_units_of_a_column_are_of_no_consequence(column, scale, offset):
    """Network-space rows are the same after an affine change of units, small as the new units may make the column."""
    rows = np.random.default_rng(0).normal(size=(500, 5)).astype(np.float32)
    rows[:, 2], rows[:, 4] = np.tanh(rows[:, 2]), rows[:, 4] > 1.0
    other = rows.copy()
    other[:, column] = scale * rows[:, column] + offset
    x, changed = (normalizers.encode(normalizers.fit(each, LAYOUT), jnp.asarray(each)) for each in (rows, other))
    expected = np.array(x)
    expected[:, column] *= np.sign(scale)
    np.testing.assert_allclose(changed, expected, atol=1e-5)
    back = normalizers.decode(normalizers.fit(other, LAYOUT), changed)[:, column]
    np.testing.assert_allclose(back, other[:, column], rtol=1e-4, atol=1e-6 * abs(scale))


def test_only_a_column_that_never_changes_is_constant():
    rows = np.zeros((8, 5), np.float32)
    rows[:, 0] = np.where(np.arange(8) % 2, 1.0, np.nextafter(np.float32(1), np.float32(2)))
    rows[:, 1], rows[:, 3] = -4.0, 0.1
    normalizer = normalizers.fit(rows, LAYOUT)
    np.testing.assert_allclose(normalizer.std, [2.0**-24, 4e-3, 1e-3, 1e-4, 1e-3], rtol=1e-5)
    x = normalizers.encode(normalizer, jnp.asarray(rows))
    np.testing.assert_array_equal(x[:, 1:], np.zeros((8, 4)))


def test_rows_count_as_often_as_windows_show_them():
    counts = np.array([0, 3, 1, 2])
    weighted = normalizers.fit(ROWS, LAYOUT, occurrences=counts)
    repeated = normalizers.fit(np.repeat(ROWS, counts, axis=0), LAYOUT)
    np.testing.assert_allclose(weighted.mean, repeated.mean, rtol=1e-6)
    np.testing.assert_allclose(weighted.std, repeated.std, rtol=1e-6)
