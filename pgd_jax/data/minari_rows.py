"""Minari's episodes -> rows: which parts of an observation are used, and how actions are scaled.

An episode holds T actions, rewards, terminations and truncations, and T + 1 observations (Minari, "Dataset Standards").
So every row has its next observation. The spaces become columns like this:

observations
  - A vector (Box of rank 1) is taken as it is. The vectors of a Dict are concatenated in the space's own order.
  - A goal Dict (observation, achieved_goal, desired_goal: gymnasium-robotics, core.py, GoalEnv) becomes achieved_goal |
    observation | desired_goal. achieved_goal is left out if the observation has it already. desired_goal is left out if
    it never changes. So pointmaze, whose goal moves, is observation (4) | desired_goal (2); antmaze is achieved_goal
    (2) | observation (27), which are D4RL's 29 columns, | desired_goal (2); kitchen is observation (59). The
    observation thus always has everything that the reward depends on.
  - Images, text, tuples and discrete values are refused.
actions
  - A vector with finite bounds. The bounds become -1 and 1 (core/action_bounds.py).
flags
  - The last row of an episode is a timeout unless it is terminal, whether it is truncated or not: nothing follows it.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import gymnasium
import h5py
import numpy as np

from pgd_jax.core import action_bounds
from pgd_jax.core.errors import UserError
from pgd_jax.data import columns

Path = tuple[str, ...]  # of keys into nested dicts

GOAL_PARTS = ("achieved_goal", "observation", "desired_goal")  # in the order in which they become columns

# achieved_goal is the simulator's state. Kitchen's observation has it with uniform noise of at most 5e-4 times 0.1
# (gymnasium-robotics, kitchen_env.py, _get_obs); pointmaze's has it without noise.
SHOWN_TOLERANCE = 1e-3

CHUNK_ROWS = 1024  # of the arrays in a file


class Rows(NamedTuple):
    """Rows of an episode, environment space."""

    observations: np.ndarray  # f32[N, O]
    actions: np.ndarray  # f32[N, A] in the dataset's own units
    rewards: np.ndarray  # f32[N]
    next_observations: np.ndarray  # f32[N, O]
    terminals: np.ndarray  # bool[N]
    timeouts: np.ndarray  # bool[N]


def convert(
    source: str,
    observation_space: gymnasium.Space,
    action_space: gymnasium.Space,
    episodes: Callable[[], Iterable[Any]],
) -> tuple[Iterator[Rows], str, str]:
    """(rows of each episode that has any; action bounds; a message on changes to the columns, or "").

    `episodes()` gives minari.EpisodeData. One episode is in memory at a time. Observations with goals are read once
    more, to see which parts are kept. Raises UserError about `source` for episodes that cannot become rows, now or
    while the rows are iterated over.
    """
    parts = _parts(source, observation_space)
    box = _box_of_actions(source, action_space)

    def pieces() -> Iterator[tuple[np.ndarray, ...]]:
        roundings: dict[str, columns.Rounding] = {}
        for episode in episodes():
            if len(episode.rewards):
                yield _episode(source, parts, box, episode, roundings)
        for name, rounding in roundings.items():
            rounding.check(source, name)

    dropped = _dropped(parts, pieces()) if _is_goal_space(observation_space) else set()
    kept = ~np.isin(_owners(parts), list(dropped))
    names = [f"{'/'.join(path)} ({width})" for path, width in parts.items() if path and path[0] not in dropped]
    done = [f"observations: {' | '.join(names)}"] if names else []
    if bounds := action_bounds.text_of(box.low, box.high):
        done.append(f"actions scaled from {_bounds(box)} to [-1, 1]")
    return (_rows(piece, kept) for piece in pieces()), bounds, "; ".join(done)


def _rows(piece: tuple[np.ndarray, ...], kept: np.ndarray) -> Rows:
    shown, actions, rewards, terminals, timeouts = piece
    obs = shown[:, kept]
    return Rows(obs[:-1], actions, rewards, obs[1:], terminals, timeouts)


def append(source: str, file: h5py.File, pieces: Iterator[Rows], bounds: str = action_bounds.UNIT) -> int:
    """Checks rows and writes them to the arrays of an empty file, piece by piece. Returns the number of rows.

    Actions stay in their own units, within `bounds`; the file's metadata has the bounds. Raises UserError about
    `source` for values that no dataset may hold (see columns.convert), and if there are no rows.
    """
    num_rows = 0
    for rows in _batches(pieces):
        arrays = rows._asdict()
        stop = num_rows + columns.agree(source, arrays)
        for key, array in arrays.items():
            values, width = columns.convert(source, key, array, num_rows, bounds), array.shape[1:]
            values = array if key == "actions" else values
            if not num_rows:
                file.create_dataset(
                    key, (0, *width), values.dtype, chunks=(CHUNK_ROWS, *width), maxshape=(None, *width)
                )
            file[key].resize(stop, axis=0)
            file[key][num_rows:] = values
        num_rows = stop
    if bounds:
        file["metadata/action_bounds"] = bounds
    if not num_rows:
        raise UserError(f"{source} has no rows: no episode with a step in it; remove it and write or fetch it again")
    return num_rows


def _batches(pieces: Iterable[Rows]) -> Iterator[Rows]:
    """Joins short episodes to at least CHUNK_ROWS rows: appending to a file takes longer than reading an episode."""
    held: list[Rows] = []
    for rows in pieces:
        held.append(rows)
        if sum(len(each.rewards) for each in held) >= CHUNK_ROWS:
            yield Rows(*map(np.concatenate, zip(*held, strict=True)))
            held = []
    if held:
        yield Rows(*map(np.concatenate, zip(*held, strict=True)))


def _parts(source: str, space: gymnasium.Space, path: Path = ()) -> dict[Path, int]:
    """Key path -> width of each vector of an observation space, in order; one with the empty path for a Box."""
    if isinstance(space, gymnasium.spaces.Dict):
        keys = GOAL_PARTS if _is_goal_space(space) else space
        return {key: width for name in keys for key, width in _parts(source, space[name], (*path, name)).items()}
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
        return {path: space.shape[0]}
    raise UserError(
        f"{source}: {'/'.join(('observations', *path))} are {_describe(space)}; expected vectors (a Box of rank 1, or "
        "a Dict of them): images, text and discrete values are not supported"
    )


def _is_goal_space(space: gymnasium.Space) -> bool:
    return isinstance(space, gymnasium.spaces.Dict) and set(space) == set(GOAL_PARTS)


def _box_of_actions(source: str, space: gymnasium.Space) -> gymnasium.spaces.Box:
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise UserError(f"{source}: actions are {_describe(space)}; expected continuous vectors (a Box of rank 1)")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all() and (space.low < space.high).all()):
        raise UserError(
            f"{source}: the bounds of actions are {_bounds(space)}; expected finite ones, which are scaled to [-1, 1]"
        )
    return space


def _describe(space: gymnasium.Space) -> str:
    return f"{type(space).__name__} of shape {space.shape} and type {space.dtype}"


def _bounds(space: gymnasium.spaces.Box) -> str:
    low, high = np.unique(space.low).tolist(), np.unique(space.high).tolist()
    return f"[{low[0] if len(low) == 1 else low}, {high[0] if len(high) == 1 else high}]"


def _episode(
    source: str,
    parts: dict[Path, int],
    action_space: gymnasium.spaces.Box,
    episode: Any,
    roundings: dict[str, columns.Rounding],
) -> tuple[np.ndarray, ...]:
    """(observations [T + 1, all parts], actions, rewards, terminals, timeouts) of one episode."""
    length = len(episode.rewards)

    def array(name: str, values: Any, *shape: int) -> np.ndarray:
        exact = np.asarray(values)
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, which the dataset's check reports
            values = np.asarray(exact, np.float32)
        if values.shape != shape:
            raise UserError(f"{source}: episode {episode.id} has {name} of shape {values.shape}; expected {shape}")
        with np.errstate(invalid="ignore", over="ignore"):
            roundings.setdefault(name, columns.Rounding()).add(exact, values)
        return values

    shown = []
    for path, width in parts.items():
        values = functools.reduce(operator.getitem, path, episode.observations)
        shown.append(array("/".join(("observations", *path)), values, length + 1, width))
    actions = array("actions", episode.actions, length, *action_space.shape)
    terminals = array("terminations", episode.terminations, length) != 0.0
    timeouts = array("truncations", episode.truncations, length) != 0.0
    timeouts[-1] = not terminals[-1]
    rewards = array("rewards", episode.rewards, length)
    return np.concatenate(shown, axis=1), actions, rewards, terminals, timeouts


def _owners(parts: dict[Path, int]) -> np.ndarray:
    """The top-level key of each column of all parts; "" for a Box."""
    return np.repeat([path[0] if path else "" for path in parts], list(parts.values()))


def _dropped(parts: dict[Path, int], pieces: Iterable[tuple[np.ndarray, ...]]) -> set[str]:
    """The parts of a goal space that are left out by the rules above. It reads every observation."""
    owners, first, is_moving, distance = _owners(parts), None, False, np.zeros((1, 1))
    for shown, *_ in pieces:
        achieved, observation, desired = (shown[:, owners == name] for name in GOAL_PARTS)
        first = desired[0] if first is None else first
        is_moving |= bool((desired != first).any())
        furthest = np.array([np.abs(observation - column[:, None]).max(axis=0) for column in achieved.T])
        distance = np.maximum(distance, furthest)  # from each column of achieved_goal to each column of observation
    is_shown = (distance <= SHOWN_TOLERANCE).any(axis=-1).all()
    return {name for name, goes in (("achieved_goal", is_shown), ("desired_goal", not is_moving)) if goes}
