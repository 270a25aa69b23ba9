"""Actions in their own units <-> actions in [-1, 1], which the rest of the library uses.

Bounds are text: "-2:2", or a pair for each dimension, "-2:2,0:1". They are the values of -1 and 1 in the own units. A
setting or a file gives them. They are stored with the dataset and, in the layout of its normalizer, with every model of
the dataset. So exported rows have the units of the rows that were read.
"""

import math

import numpy as np

from pgd_jax.core.errors import UserError

UNIT = ""  # bounds of actions that lie in [-1, 1] as they are


def parse(bounds: str, source: str = "") -> np.ndarray:
    """Bounds as f64[2, A], lowest and highest; A = 1 for one pair. Raises UserError for text in another form."""
    try:
        pairs = [[float(number) for number in pair.split(":")] for pair in bounds.split(",")]
        if all(len(pair) == 2 and pair[0] < pair[1] and all(map(math.isfinite, pair)) for pair in pairs):
            return np.array(pairs).T
    except ValueError:
        pass
    where = f"{source}: " if source else ""
    raise UserError(
        f'{where}action_bounds="{bounds}" must be the lowest and the highest action, such as "-2:2", or such a pair '
        'for each dimension, such as "-2:2,0:1"'
    )


def text_of(low: np.ndarray, high: np.ndarray) -> str:
    """The text of bounds [A]; UNIT if they are -1 and 1."""
    pairs = [f"{_short(a)}:{_short(b)}" for a, b in zip(low, high, strict=True)]
    pairs = pairs[:1] if len(set(pairs)) == 1 else pairs
    return UNIT if pairs == ["-1:1"] else ",".join(pairs)


def _short(number: np.floating) -> str:
    return np.format_float_positional(number, trim="-")


def _of(source: str, bounds: str, action_dim: int) -> np.ndarray:
    found = parse(bounds, source)
    if found.shape[1] not in (1, action_dim):
        raise UserError(
            f'{source}: action_bounds="{bounds}" has {found.shape[1]} pairs, but actions have {action_dim} dimensions'
        )
    return found


def to_unit(source: str, actions: np.ndarray, bounds: str) -> np.ndarray:
    """Actions [N, A] within `bounds` -> float[N, A] in [-1, 1]. Raises UserError for bounds of another width."""
    if bounds == UNIT:
        return actions
    low, high = _of(source, bounds, actions.shape[1])
    return 2.0 * (actions.astype(np.float64) - low) / (high - low) - 1.0


def from_unit(source: str, actions: np.ndarray, bounds: str) -> np.ndarray:
    """Actions f32[N, A] in [-1, 1] -> f32[N, A] within `bounds`. Raises UserError for bounds of another width."""
    if bounds == UNIT:
        return actions
    low, high = _of(source, bounds, actions.shape[1])
    return (low + (high - low) * (actions.astype(np.float64) + 1.0) / 2.0).astype(np.float32)
