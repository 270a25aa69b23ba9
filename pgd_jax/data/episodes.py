"""Recorded rows -> segments (uninterrupted pieces of one episode) -> training windows and transitions.

All of it is numpy on the host. The device gets the rows as one flat array, and gathers windows by their first row.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Normalizer, Transition
from pgd_jax.data import normalizer as normalizers
from pgd_jax.data.base import RawDataset

ROWS_PER_BLOCK = 8_192  # rows that are encoded at once


class Segments(NamedTuple):
    """S pieces of uninterrupted time: rows start[i] up to, not including, stop[i].

    A segment ends in a terminal (the MDP ended; it also counts as a terminal if both flags are 1), in a timeout (the
    recording was cut there), or in neither (the file ended, or the next row does not continue this one).
    """

    start: np.ndarray  # int64[S]
    stop: np.ndarray  # int64[S], exclusive
    ends_in_terminal: np.ndarray  # bool[S]
    ends_in_timeout: np.ndarray  # bool[S]

    @property
    def length(self) -> np.ndarray:
        return self.stop - self.start


def segments(raw: RawDataset) -> Segments:
    """Cuts the rows after terminals and timeouts, where next_observations[t] is not observations[t+1], and at the end.

    The second rule needs `next_observations`. It finds the timeouts that D4RL's medium-replay files do not mark, and
    the place where its medium-expert files join two files.
    """
    cut = raw.terminals | raw.timeouts | _jumps(raw)
    cut[-1] = True
    stop = np.flatnonzero(cut) + 1
    terminal, timeout = raw.terminals[stop - 1], raw.timeouts[stop - 1]
    return Segments(np.concatenate([[0], stop[:-1]]), stop, terminal, timeout & ~terminal)


def _jumps(raw: RawDataset) -> np.ndarray:
    """bool[N]: whether next_observations says that the next row does not continue this one."""
    jumps = np.zeros(len(raw.rewards), bool)
    if raw.next_observations is not None and raw.next_tolerance >= 0.0:
        after, following = raw.next_observations[:-1], raw.observations[1:]
        jumps[:-1] = (np.abs(after - following) > raw.next_tolerance * (1.0 + np.abs(following))).any(axis=1)
    return jumps


def cuts(raw: RawDataset) -> str:
    """A message on episode ends that next_observations shows and flags do not mark; "" if there are none."""
    flags = raw.terminals | raw.timeouts
    more = int((_jumps(raw) & ~flags)[:-1].sum())
    if not more:
        return ""
    found = f"flags mark {flags.sum()} ends of episodes, next_observations {more} more: they are not the next row there"
    return found + (
        f", to {raw.next_tolerance:g} of it (data.next_tolerance; -1: flags alone)" if more > flags.sum() else ""
    )


def take(pieces: Segments, ids: np.ndarray) -> Segments:
    """The segments with these ids, in that order."""
    return Segments(*(field[ids] for field in pieces))


def returns(raw: RawDataset, pieces: Segments) -> np.ndarray:
    """The undiscounted sum of each segment's rewards, float64[S]."""
    total = np.concatenate([[0.0], np.cumsum(raw.rewards, dtype=np.float64)])
    return total[pieces.stop] - total[pieces.start]


def best_first(raw: RawDataset, pieces: Segments) -> Segments:
    """The segments, sorted from the highest return to the lowest. Segments with equal returns stay in order."""
    return take(pieces, np.argsort(-returns(raw, pieces), kind="stable"))


def split(
    pieces: Segments, num_windows: np.ndarray, validation_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(train ids, validation ids), sorted. Whole segments are held out, drawn uniformly with `seed`.

    `validation_fraction` is a share of all windows; segment i has `num_windows[i]`. A drawn segment is held out if at
    least half of it still fits into that share. If two or more segments have windows, at least one is held out: the
    smallest if none fits. A single segment is used for training, and validation is empty. So there is always something
    to train on.
    """
    order = np.random.default_rng(seed).permutation(len(pieces.start))
    usable = order[num_windows[order] > 0]
    wanted, held = validation_fraction * num_windows.sum(), 0
    held_out: list[int] = []
    for segment in usable:
        if held + num_windows[segment] / 2.0 <= wanted and len(held_out) < len(usable) - 1:
            held_out.append(segment)
            held += num_windows[segment]
    if not held_out and len(usable) > 1:
        held_out.append(usable[np.argmin(num_windows[usable])])
    validation = np.sort(np.asarray(held_out, int))
    return np.setdiff1d(np.arange(len(pieces.start)), validation), validation


def window_counts(pieces: Segments, length: int, stride: int, past_end: bool = False) -> np.ndarray:
    """The number of `window_starts` in each segment, int64[S]."""
    last, along = _grid(pieces, length, stride, past_end)
    extra = (last >= pieces.start) & pieces.ends_in_terminal & ((last - pieces.start) % stride != 0)
    return along + (extra & ~np.asarray(past_end))


def _grid(pieces: Segments, length: int, stride: int, past_end: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """For each segment: the start of the window that ends with it, and the number of windows at every `stride` rows."""
    last = pieces.stop - length
    # A timeout can only be the last row of a segment. Dropping its window means stopping one row earlier.
    room = last - pieces.start - pieces.ends_in_timeout
    # room = -1, a lone timeout window: -1 // stride + 1 = 0
    along = np.where(last >= pieces.start, room // stride + 1, 0)
    if past_end:
        # A single row is no episode: files without an order of rows consist of such rows.
        is_padded = pieces.ends_in_terminal & (pieces.length > 1)
        along = np.where(is_padded, (pieces.length - 1) // stride + 1, along)
    return last, along


def window_starts(pieces: Segments, length: int, stride: int, past_end: bool = False) -> np.ndarray:
    """First rows i32[W] of the training windows of `length` rows, sorted and unique (PGD, arXiv 2404.06356).

    Windows start at every `stride` rows of a segment, counted from its first row. One more window ends in the segment's
    true terminal. No window crosses a segment's end. A window whose last row is a timeout is dropped. A segment that is
    cut without a flag is used to its last row. Raises UserError if no window remains.

    With `past_end`, windows start at every `stride` rows up to the terminal itself and may reach past it (`last_rows`);
    a segment of one terminal row has none. Without `past_end` a terminal is in one window only, but other rows are in
    length / stride windows. A model of these windows ends episodes less often than the data.
    """
    if length < 2 or stride < 1:
        raise UserError(f"window length {length}, stride {stride}: a window needs 2 rows or more, a stride 1 or more")
    last, count = _grid(pieces, length, stride, past_end)
    first_of_segment = np.repeat(np.cumsum(count) - count, count)
    step = np.arange(count.sum()) - first_of_segment
    starts = np.repeat(pieces.start, count) + step * stride
    if not past_end:
        starts = np.unique(np.concatenate([starts, last[(last >= pieces.start) & pieces.ends_in_terminal]]))
    if starts.size == 0:
        raise UserError(too_short(pieces, length))
    return np.sort(starts).astype(np.int32)


def too_short(pieces: Segments, length: int) -> str:
    """The error message for segments that are all shorter than a window."""
    return (
        f"no complete window of {length} rows: the longest of {len(pieces.start)} segments has "
        f"{pieces.length.max(initial=0)} rows (windows that end in a timeout are dropped); use a shorter window"
    )


def last_rows(pieces: Segments, starts: np.ndarray, length: int) -> np.ndarray:
    """The last row i32[W] of each window. A window that reaches past the end of its segment repeats the last row there.

    `pieces` must be in the order of their rows.
    """
    end = pieces.stop[np.searchsorted(pieces.stop, starts, side="right")] - 1
    return np.minimum(starts + length - 1, end).astype(np.int32)


def occurrences(starts: np.ndarray, last: np.ndarray, length: int, num_rows: int) -> np.ndarray:
    """int64[num_rows]: how often each row occurs in the windows with first rows `starts` and last rows `last`."""
    change = np.bincount(starts, minlength=num_rows + 1)
    change -= np.bincount(np.asarray(last) + 1, minlength=num_rows + 1)
    repeated = np.asarray(starts, np.int64) + length - 1 - last
    return np.cumsum(change)[:num_rows] + np.bincount(last, repeated, num_rows).astype(np.int64)


def random_windows(key: jax.Array, raw: RawDataset, length: int, num_windows: int) -> np.ndarray:
    """Row numbers int64[num_windows, length] of windows drawn with replacement.

    Raises UserError if no segment is long enough.
    """
    starts = window_starts(segments(raw), length, 1)
    chosen = starts[np.asarray(jax.random.randint(key, (num_windows,), 0, len(starts)))]
    return chosen[:, None] + np.arange(length)[None, :]


def rows(raw: RawDataset) -> np.ndarray:
    """Trajectory rows f32[N, O + A + 2], environment space: obs | action | reward | terminal."""
    columns = [raw.observations, raw.actions, raw.rewards[:, None], raw.terminals[:, None]]
    return np.concatenate(columns, axis=1, dtype=np.float32)


def transitions(raw: RawDataset, pieces: Segments, normalizer: Normalizer, has_next_action: bool = False) -> Transition:
    """Every real transition of these segments as numpy arrays, obs in network space.

    If the file has no `next_observations`, next_obs is the segment's next row. The last row of a segment then has none.
    It is dropped unless it is terminal; a terminal row gets its own obs as next_obs, which is never bootstrapped from.
    The same holds with `has_next_action` for every file, because the action after the last row is not recorded.
    """
    row = next_row = _rows_of(pieces)
    if raw.next_observations is None or has_next_action:
        follows = np.ones(len(raw.rewards), bool)  # whether the next row continues this one
        follows[pieces.stop - 1] = False
        row = row[follows[row] | raw.terminals[row]]
        next_row = np.where(raw.terminals[row], row, row + 1)
    following = (raw.observations, next_row) if raw.next_observations is None else (raw.next_observations, row)
    normalizer = jax.device_get(normalizer)  # numpy statistics: the encoding below stays on the host
    return Transition(
        obs=_encoded(normalizer, raw.observations, row),
        action=raw.actions[row],
        reward=raw.rewards[row],
        next_obs=_encoded(normalizer, *following),
        terminal=raw.terminals[row].astype(np.float32),
        next_action=raw.actions[next_row] if has_next_action else None,
    )


def _rows_of(pieces: Segments) -> np.ndarray:
    """The row numbers of all segments, concatenated."""
    offset = np.repeat(pieces.start - (np.cumsum(pieces.length) - pieces.length), pieces.length)
    return np.arange(pieces.length.sum()) + offset


def _encoded(normalizer: Normalizer, observations: np.ndarray, row: np.ndarray) -> Any:
    """observations[row] in network space, a numpy f32[K, O]. It works in blocks to keep temporary arrays small."""
    encoded = np.empty((len(row), observations.shape[1]), np.float32)
    for start in range(0, len(row), ROWS_PER_BLOCK):
        block = slice(start, start + ROWS_PER_BLOCK)
        encoded[block] = normalizers.encode_obs(normalizer, observations[row[block]])
    return encoded
