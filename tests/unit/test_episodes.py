"""Window rules on a hand-written episode list (design: every stride, every true terminal, nothing across a cut)."""

import dataclasses

import jax
import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Layout
from pgd_jax.data import episodes, normalizer as normalizers
from pgd_jax.data.base import RawDataset

# 22 rows: 0-7 terminal, 8-14 timeout, 15-18 cut without a flag (row 19 does not continue row 18), 19-21 end of file.
CUTS = [8, 15, 19, 22]


@pytest.fixture
def raw() -> RawDataset:
    """Row t shows obs (t, -t); next_obs continues with t + 1, but row 18 leads to 100 while row 19 shows 19."""
    time = np.arange(22, dtype=np.float32)
    next_time = time + 1
    next_time[[7, 14, 18, 21]] = 100.0
    return RawDataset(
        name="hand", env="", reference="",
        observations=np.stack([time, -time], axis=1),
        actions=np.full((22, 1), 0.5, np.float32),
        rewards=10.0 * time,
        next_observations=np.stack([next_time, -next_time], axis=1),
        terminals=time == 7,
        timeouts=time == 14,
    )  # fmt: skip


def test_segments_are_cut_at_flags_at_jumps_and_at_the_end(raw):
    pieces = episodes.segments(raw)
    np.testing.assert_array_equal(pieces.start, [0, 8, 15, 19])
    np.testing.assert_array_equal(pieces.stop, CUTS)
    np.testing.assert_array_equal(pieces.ends_in_terminal, [True, False, False, False])
    np.testing.assert_array_equal(pieces.ends_in_timeout, [False, True, False, False])


def test_without_next_observations_only_flags_cut(raw):
    pieces = episodes.segments(dataclasses.replace(raw, next_observations=None))
    np.testing.assert_array_equal(pieces.stop, [8, 15, 22])


def test_float_noise_is_no_cut_and_a_small_jump_of_one_column_is(raw):
    noisy = raw.next_observations * np.float32(1 + 3e-7)
    np.testing.assert_array_equal(episodes.segments(dataclasses.replace(raw, next_observations=noisy)).stop, CUTS)
    noisy[2, 1] += 2e-3
    np.testing.assert_array_equal(episodes.segments(dataclasses.replace(raw, next_observations=noisy)).stop, [3, *CUTS])


def test_a_row_with_both_flags_ends_in_a_terminal(raw):
    pieces = episodes.segments(dataclasses.replace(raw, timeouts=raw.timeouts | raw.terminals))
    np.testing.assert_array_equal(pieces.ends_in_terminal, [True, False, False, False])
    np.testing.assert_array_equal(pieces.ends_in_timeout, [False, True, False, False])


@pytest.mark.parametrize(
    ("length", "stride", "expected"),
    [
        # 0-7 (terminal): 0, 3; and 4, which ends in the terminal row 7. 8-14 (timeout): 8; 11 would end in row 14.
        # 15-18 (cut): 15, to its last row. 19-21: too short.
        (4, 3, [0, 3, 4, 8, 15]),
        # 0-7: 0..4. 8-14: 8, 9, 10, not 11. 15-18: 15.
        (4, 1, [0, 1, 2, 3, 4, 8, 9, 10, 15]),
        # 0-7: 0 and 1, the terminal one. 8-14: 7 rows, the only window ends in the timeout.
        (7, 5, [0, 1]),
        # The one window of 0-7 is at once the first and the terminal one.
        (8, 2, [0]),
        # A segment exactly as long as the window and cut without a flag counts, from 19 too.
        (3, 100, [0, 5, 8, 15, 19]),
    ],
)
def test_window_starts(raw, length, stride, expected):
    starts = episodes.window_starts(episodes.segments(raw), length, stride)
    assert starts.dtype == np.int32
    np.testing.assert_array_equal(starts, expected)


def test_window_starts_of_a_subset(raw):
    subset = episodes.take(episodes.segments(raw), np.array([1, 3]))
    np.testing.assert_array_equal(episodes.window_starts(subset, 3, 2), [8, 10, 19])


def test_no_complete_window_names_the_lengths(raw):
    with pytest.raises(UserError, match="no complete window of 9 rows: the longest of 4 segments has 8 rows"):
        episodes.window_starts(episodes.segments(raw), 9, 1)
    only_timeout = episodes.take(episodes.segments(raw), np.array([1]))
    with pytest.raises(UserError, match="end in a timeout"):
        episodes.window_starts(only_timeout, 7, 1)


def test_windows_agree_with_the_rule_spelt_out(raw):
    """A brute-force oracle over every possible start, on a random recording."""
    flags = np.random.default_rng(0).choice(3, 500, p=[0.9, 0.06, 0.04])
    many = RawDataset("", "", "", np.zeros((500, 1)), np.zeros((500, 1)), np.zeros(500), None, flags == 1, flags == 2)
    pieces, length, stride = episodes.segments(many), 6, 4
    expected = []
    for start in range(500 - length + 1):
        crosses = (flags[start : start + length - 1] != 0).any()
        since_cut = start - max([-1, *np.flatnonzero(flags[:start])]) - 1
        on_grid, last = since_cut % stride == 0, flags[start + length - 1]
        if not crosses and last != 2 and (on_grid or last == 1):
            expected.append(start)
    np.testing.assert_array_equal(episodes.window_starts(pieces, length, stride), expected)
    of_each = [((pieces.start[i] <= expected) & (expected < pieces.stop[i])).sum() for i in range(len(pieces.start))]
    np.testing.assert_array_equal(episodes.window_counts(pieces, length, stride), of_each)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_windows_past_the_end_hold_a_terminal_as_often_as_any_row(stride):
    """Segments cut by a timeout or without a flag keep their windows."""
    terminals, timeouts = np.zeros(64, bool), np.zeros(64, bool)
    terminals[[20, 22]], timeouts[40] = True, True  # segments of 21, 2, 18 and 23 rows; the last is cut without a flag
    raw = RawDataset("", "", "", np.zeros((64, 1)), np.zeros((64, 1)), np.zeros(64), None, terminals, timeouts)
    pieces, length = episodes.segments(raw), 4
    starts = episodes.window_starts(pieces, length, stride, past_end=True)
    last = episodes.last_rows(pieces, starts, length)
    np.testing.assert_array_equal(starts[starts < 23], [*range(0, 21, stride), *range(21, 23, stride)])
    np.testing.assert_array_equal(
        starts[starts >= 23], [s for s in episodes.window_starts(pieces, length, stride) if s >= 23]
    )
    np.testing.assert_array_equal(last[starts >= 23], starts[starts >= 23] + length - 1)
    windows = np.minimum(starts[:, None] + np.arange(length), last[:, None])
    assert not terminals[windows[:, :-1]][windows[:, :-1] != windows[:, 1:]].any()  # none goes on after a terminal
    within = [(windows == row).any(axis=1).sum() for row in range(64)]
    assert set(within[length - 1 : 21]) == {length // stride}
    np.testing.assert_array_equal(
        episodes.occurrences(starts, last, length, 64), np.bincount(windows.ravel(), minlength=64)
    )
    alone = episodes.Segments(np.array([0]), np.array([1]), np.array([True]), np.array([False]))
    assert episodes.window_counts(alone, length, stride, past_end=True) == [0]
    counts = episodes.window_counts(pieces, length, stride, past_end=True)
    np.testing.assert_array_equal(counts, np.histogram(starts, [0, 21, 23, 41, 64])[0])


@pytest.mark.parametrize(
    ("num_segments", "fraction", "held_out"), [(40, 0.05, 2), (2, 0.05, 1), (3, 0.99, 2), (1, 0.5, 0)]
)
def test_split_holds_out_whole_segments(num_segments, fraction, held_out):
    flags = np.zeros(num_segments, bool)
    pieces = episodes.Segments(np.arange(num_segments), np.arange(num_segments) + 1, flags, flags)
    train, validation = episodes.split(pieces, np.full(num_segments, 7), fraction, seed=3)
    assert len(validation) == held_out
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(num_segments))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("counts", "most"),
    [([100, 0], 0), ([100, 0, 0, 0, 0], 0), ([100, 1, 1, 1], 5), ([1, 100], 1), ([40, 60], 40), ([10] * 40, 20)],
)
def test_the_split_counts_windows_and_leaves_some_to_train_on(counts, most, seed):
    """5 % of them. A segment without windows is held out for nothing."""
    counts = np.array(counts)
    flags = np.zeros(len(counts), bool)
    train, validation = episodes.split(episodes.Segments(flags, flags, flags, flags), counts, 0.05, seed)
    held = counts[validation]
    assert held.sum() <= most and (held > 0).all() and counts[train].sum() > 0
    assert (held.sum() > 0) == ((counts > 0).sum() > 1), "where two have windows, one of them is held out"


def test_split_depends_on_its_seed_alone():
    flags = np.zeros(100, bool)
    pieces = episodes.Segments(np.arange(100), np.arange(100) + 1, flags, flags)
    counts = np.ones(100, int)
    same = [episodes.split(pieces, counts, 0.1, seed=1)[1] for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert set(same[0]) != set(episodes.split(pieces, counts, 0.1, seed=2)[1])


def test_rows_are_obs_action_reward_terminal(raw):
    table = episodes.rows(raw)
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table[7], [7, -7, 0.5, 70, 1])
    np.testing.assert_array_equal(table[14], [14, -14, 0.5, 140, 0])  # a timeout is no terminal


def _normalizer(raw: RawDataset) -> normalizers.Normalizer:
    return normalizers.fit(episodes.rows(raw), Layout(2, 1))


def test_transitions_take_next_observations_where_the_file_has_them(raw):
    normalizer, pieces = _normalizer(raw), episodes.segments(raw)
    made = episodes.transitions(raw, episodes.take(pieces, np.array([0, 2])), normalizer)
    assert made.next_action is None  # nobody asked for it
    assert all(type(field) is np.ndarray and field.dtype == np.float32 for field in made[:5])
    np.testing.assert_array_equal(made.reward, 10.0 * np.array([0, 1, 2, 3, 4, 5, 6, 7, 15, 16, 17, 18]))
    np.testing.assert_array_equal(made.terminal, np.eye(12)[7])
    np.testing.assert_array_equal(made.action, np.full((12, 1), 0.5))
    # Network space: time has mean 10.5 and variance (22^2 - 1) / 12 = 40.25; row 18 leads to 100.
    np.testing.assert_allclose(made.obs[-1, 0], (18 - 10.5) / 40.25**0.5, rtol=1e-6)
    np.testing.assert_allclose(made.next_obs[-1, 0], (100 - 10.5) / 40.25**0.5, rtol=1e-6)


def test_transitions_without_next_observations_drop_what_is_unknown(raw):
    raw = dataclasses.replace(raw, next_observations=None)
    normalizer, pieces = _normalizer(raw), episodes.segments(raw)
    made = episodes.transitions(raw, pieces, normalizer)
    kept = [t for t in range(22) if t not in (14, 21)]  # the timeout's and the file's last row have no next obs
    np.testing.assert_array_equal(made.reward, 10.0 * np.array(kept))
    after = jax.device_get(normalizers.decode_obs(normalizer, made.next_obs))[:, 0]
    np.testing.assert_allclose(after, [7 if t == 7 else t + 1 for t in kept], atol=1e-5)  # the terminal row: itself


@pytest.mark.parametrize("has_next", [False, True])
def test_a_next_action_is_the_next_row_s_of_the_same_segment(raw, has_next):
    """Last rows have none, and are dropped; the terminal row 7 stays, as nothing is learned from beyond it."""
    actions = np.linspace(-1.0, 1.0, 22, dtype=np.float32)[:, None]
    nexts = raw.next_observations if has_next else None
    raw = dataclasses.replace(raw, actions=actions, next_observations=nexts)
    normalizer, pieces = _normalizer(raw), episodes.segments(raw)
    # Without next_observations nothing says that row 18 does not lead to row 19.
    kept = [t for t in range(22) if t not in ((14, 18, 21) if has_next else (14, 21))]
    made = episodes.transitions(raw, pieces, normalizer, has_next_action=True)
    np.testing.assert_array_equal(made.reward, 10.0 * np.array(kept))
    np.testing.assert_array_equal(made.next_action, [actions[7 if t == 7 else t + 1] for t in kept])
    after = jax.device_get(normalizers.decode_obs(normalizer, made.next_obs))[:, 0]
    expected = [(100 if has_next else 7) if t == 7 else t + 1 for t in kept]
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-5)
    # Segments in another order: whose the next row is does not hang on it.
    turned = episodes.transitions(raw, episodes.take(pieces, np.array([1, 0])), normalizer, has_next_action=True)
    np.testing.assert_array_equal(turned.next_action[:6], actions[9:15])


def test_the_best_segments_are_those_of_the_highest_return(raw):
    """Rewards are 10 t: 0-7 pay 280, 8-14 pay 770, 15-18 pay 660, 19-21 pay 600."""
    pieces = episodes.segments(raw)
    np.testing.assert_array_equal(episodes.returns(raw, pieces), [280, 770, 660, 600])
    best = episodes.best_first(raw, pieces)
    np.testing.assert_array_equal(best.start, [8, 15, 19, 0])
    made = episodes.transitions(raw, best, _normalizer(raw))
    np.testing.assert_array_equal(made.reward / 10, [*range(8, 22), *range(8)])
    even = episodes.best_first(dataclasses.replace(raw, rewards=np.zeros(22, np.float32)), pieces)
    np.testing.assert_array_equal(even.start, pieces.start)
