"""Outliers: single values so far from all others that they set the scale of their column."""

import dataclasses
from typing import Any

import numpy as np

from pgd_jax.core import logging
from pgd_jax.data.base import RawDataset

CENTRE = (0.005, 0.995)  # two quantiles; outliers are compared with their distance
REACH = 100.0  # a value further outside than this many distances of the two quantiles is an outlier


def treat(raw: RawDataset, treatment: str) -> RawDataset:
    """`raw` with its outliers kept, clipped to the range of the other values, or dropped with their rows.

    One message names them. Only observations and rewards can have outliers: actions have bounds, and flags have no
    scale. A column in which 99 % of the values are one number has no outliers.
    """
    arrays = {"observations": raw.observations, "rewards": raw.rewards[:, None]}
    bounds = {key: _bounds(array) for key, array in arrays.items()}
    if raw.next_observations is not None:
        arrays["next_observations"], bounds["next_observations"] = raw.next_observations, bounds["observations"]
    if not any(_reaches_beyond(array, bounds[key]) for key, array in arrays.items()):
        return raw
    outside = {key: (array < bounds[key][0]) | (array > bounds[key][1]) for key, array in arrays.items()}
    _say(raw.name, arrays, outside, treatment)
    if treatment == "keep":
        return raw
    return _clipped(raw, arrays, outside) if treatment == "clip" else _without(raw, outside)


def _bounds(array: np.ndarray) -> np.ndarray:
    """The (lowest, highest) value f64[2, D] that is not an outlier, by column. One column at a time saves memory."""
    found = np.array([np.quantile(array[:, i], CENTRE) for i in range(array.shape[1])], np.float64).T
    reach = REACH * (found[1] - found[0])
    reach[reach == 0.0] = np.inf
    return found + np.stack([-reach, reach])


def _reaches_beyond(array: np.ndarray, bounds: np.ndarray) -> bool:
    return bool((array.min(axis=0) < bounds[0]).any() or (array.max(axis=0) > bounds[1]).any())


def _say(name: str, arrays: dict[str, np.ndarray], outside: dict[str, np.ndarray], treatment: str) -> None:
    key = next(key for key, mask in outside.items() if mask.any())
    row, column = np.argwhere(outside[key])[0]
    count = sum(int(mask.sum()) for each, mask in outside.items() if each != "next_observations") or 1
    where = key if key == "rewards" else f"{key}[:, {column}]"
    done = {"keep": "kept (data.outliers=clip or drop changes that)", "clip": "clipped", "drop": "their rows dropped"}
    logging.warning(
        f"{name}: {where} is {arrays[key][row, column]:g} in row {row}, over {REACH:g} times as far out as 99 % of the "
        f"column; {count} such {'value sets' if count == 1 else 'values set'} the scale of the rest: {done[treatment]}"
    )


def _clipped(raw: RawDataset, arrays: dict[str, np.ndarray], outside: dict[str, np.ndarray]) -> RawDataset:
    changed: dict[str, Any] = {}
    for key, array in arrays.items():
        own = "observations" if key == "next_observations" else key
        ordinary = np.ma.masked_array(arrays[own], outside[own])
        values = np.clip(array, ordinary.min(axis=0).data, ordinary.max(axis=0).data)
        changed[key] = values[:, 0] if key == "rewards" else values
    return dataclasses.replace(raw, **changed)


def _without(raw: RawDataset, outside: dict[str, np.ndarray]) -> RawDataset:
    """`raw` without the rows that are `outside`. Episodes are cut there: the row before has no successor any more."""
    keep = ~np.logical_or.reduce([mask.any(axis=1) for mask in outside.values()])
    before = np.zeros(len(keep), bool)
    before[:-1] = ~keep[1:]
    raw = dataclasses.replace(raw, timeouts=raw.timeouts | (before & ~raw.terminals))
    fields = {name: array for name, array in vars(raw).items() if isinstance(array, np.ndarray)}
    return dataclasses.replace(raw, **{name: array[keep] for name, array in fields.items()})
