"""Minari's episodes -> rows: which parts of an observation are used, and how actions are scaled.

An episode holds T actions, rewards, terminations and truncations, and T + 1 observations (Minari, "Dataset Standards"):
every row has its next observation. What becomes of the spaces:

observations
  - A vector (Box of rank 1) is taken as it is; a Dict is its vectors one after the other, in the space's own order.
  - A goal Dict (observation, achieved_goal, desired_goal: gymnasium-robotics, core.py, GoalEnv) is achieved_goal |
    observation | desired_goal, without achieved_goal where the observation shows it already, and without desired_goal
    where it never changes. So pointmaze, whose goal moves, is observation (4) | desired_goal (2); antmaze is
    achieved_goal (2) | observation (27), then D4RL's 29 columns, | desired_goal (2); kitchen is observation (59). What
    the reward depends on is thus always in the observation.
  - Images, text, tuples and discrete values are refused.
actions
  - A vector with finite bounds, which are scaled to [-1, 1].
flags
  - The last row of an episode is a timeout unless it is a terminal, truncated or not: nothing follows it.
"""

import functools
import operator
from collections.abc import Iterable
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from pgd_jax.errors import UserError

Path = tuple[str, ...]  # of keys into nested dicts

GOAL_PARTS = ("achieved_goal", "observation", "desired_goal")  # in the order in which they become columns

# achieved_goal is the simulator's state; kitchen's observation shows it with uniform noise of at most 5e-4 times 0.1
# (gymnasium-robotics, kitchen_env.py, _get_obs), pointmaze's as it is.
SHOWN_TOLERANCE = 1e-3


class Rows(NamedTuple):
    """Rows of all episodes, one after the other, environment space."""

    observations: np.ndarray  # f32[N, O]
    actions: np.ndarray  # f32[N, A] in [-1, 1], up to what the dataset holds outside its own bounds
    rewards: np.ndarray  # f32[N]
    next_observations: np.ndarray  # f32[N, O]
    terminals: np.ndarray  # bool[N]
    timeouts: np.ndarray  # bool[N]


def convert(
    source: str, observation_space: gymnasium.Space, action_space: gymnasium.Space, episodes: Iterable[Any]
) -> tuple[Rows, str]:
    """(rows of `episodes`, minari.EpisodeData; what was done to their columns, "" where nothing was).

    All of it is in memory, the observations for a moment three times. Raises UserError about `source` for what cannot
    become rows.
    """
    parts = _parts(source, observation_space)
    _check_actions(source, action_space)
    pieces = [_episode(source, parts, action_space, episode) for episode in episodes if len(episode.rewards)]
    if not pieces:
        raise UserError(f"{source} has no rows: no episode with a step in it; remove it and write or fetch it again")
    stop = np.cumsum([len(piece[0]) for piece in pieces])
    shown, actions, rewards, terminals, timeouts = (np.concatenate(piece) for piece in zip(*pieces, strict=True))
    obs, kept = _select(observation_space, parts, shown)
    is_last, is_first = np.zeros(len(obs), bool), np.zeros(len(obs), bool)
    is_last[stop - 1] = is_first[0] = is_first[stop[:-1]] = True
    scaled = _scale(actions, action_space)
    done = [] if isinstance(observation_space, gymnasium.spaces.Box) else [f"observations: {' | '.join(kept)}"]
    if scaled is not actions:
        done.append(f"actions scaled from {_bounds(action_space)} to [-1, 1]")
    return Rows(obs[~is_last], scaled, rewards, obs[~is_first], terminals, timeouts), "; ".join(done)


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


def _check_actions(source: str, space: gymnasium.Space) -> None:
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise UserError(f"{source}: actions are {_describe(space)}; expected continuous vectors (a Box of rank 1)")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all() and (space.low < space.high).all()):
        raise UserError(
            f"{source}: the bounds of actions are {_bounds(space)}; expected finite ones, which are scaled to [-1, 1]"
        )


def _describe(space: gymnasium.Space) -> str:
    return f"{type(space).__name__} of shape {space.shape} and type {space.dtype}"


def _bounds(space: gymnasium.spaces.Box) -> str:
    low, high = np.unique(space.low).tolist(), np.unique(space.high).tolist()
    return f"[{low[0] if len(low) == 1 else low}, {high[0] if len(high) == 1 else high}]"


def _episode(
    source: str, parts: dict[Path, int], action_space: gymnasium.spaces.Box, episode: Any
) -> tuple[np.ndarray, ...]:
    """(observations [T + 1, all parts], actions, rewards, terminals, timeouts) of one episode."""
    length = len(episode.rewards)

    def array(name: str, values: Any, *shape: int) -> np.ndarray:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, which the dataset's check reports
            values = np.asarray(values, np.float32)
        if values.shape != shape:
            raise UserError(f"{source}: episode {episode.id} has {name} of shape {values.shape}; expected {shape}")
        return values

    columns = []
    for path, width in parts.items():
        values = functools.reduce(operator.getitem, path, episode.observations)
        columns.append(array("/".join(("observations", *path)), values, length + 1, width))
    actions = array("actions", episode.actions, length, *action_space.shape)
    terminals = array("terminations", episode.terminations, length) != 0.0
    timeouts = array("truncations", episode.truncations, length) != 0.0
    timeouts[-1] = not terminals[-1]
    rewards = array("rewards", episode.rewards, length)
    return np.concatenate(columns, axis=1), actions, rewards, terminals, timeouts


def _select(space: gymnasium.Space, parts: dict[Path, int], shown: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The columns of all observations `shown` [M, all parts] that are kept, by the rules at the top; their names."""
    dropped = set()
    owner = np.repeat([path[0] if path else "" for path in parts], list(parts.values()))
    if _is_goal_space(space):
        achieved, observation, desired = (shown[:, owner == name] for name in GOAL_PARTS)
        if all(_is_shown(column, observation) for column in achieved.T):
            dropped.add("achieved_goal")
        if (desired == desired[0]).all():
            dropped.add("desired_goal")
    names = [f"{'/'.join(path)} ({width})" for path, width in parts.items() if path and path[0] not in dropped]
    return shown[:, ~np.isin(owner, list(dropped))], names


def _is_shown(column: np.ndarray, observation: np.ndarray) -> bool:
    """Whether a column of `observation` [M, O] is `column` [M], up to the noise of a reading."""
    return bool((np.abs(observation - column[:, None]).max(axis=0) <= SHOWN_TOLERANCE).any())


def _scale(actions: np.ndarray, space: gymnasium.spaces.Box) -> np.ndarray:
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    if (low == -1.0).all() and (high == 1.0).all():
        return actions
    return (2.0 * (actions - low) / (high - low) - 1.0).astype(np.float32)
