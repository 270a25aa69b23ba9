"""Points of the study as estimates over seeds, and the comparison that decides: likelihood against dynamics error."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.guidance_study.cells import Cell
from pgd_jax.report import stats

LIKELIHOOD, ERROR = "log_likelihood", "dynamics_error"


class Point(NamedTuple):
    """One cell at one lambda, for one task and kind of target policy."""

    task: str
    agent: str
    cell: Cell
    coefficient: float
    calls: int
    seconds: float
    noise: int  # the seed of sampling
    measures: dict[str, np.ndarray]  # [S] or [S, ...]

    def estimate(self, name: str) -> stats.Estimate:
        return stats.mean(self.measures[name])


def point(row: dict[str, Any]) -> Point:
    """From a line of the measurements."""
    measures = {name: np.asarray(values, np.float64) for name, values in row["measures"].items()}
    names = ("task", "agent", "coefficient", "calls", "seconds", "noise")
    return Point(cell=Cell(**row["cell"]), measures=measures, **{name: row[name] for name in names})


class Match(NamedTuple):
    """A point held against a reference: at least its likelihood, at no more than its error?"""

    reference: Point
    found: Point
    likelihood_gain: stats.Estimate  # found - reference, paired by seed
    error_ratio: stats.Estimate  # found / reference, paired by seed, geometric mean

    @property
    def is_reached(self) -> bool:
        """In the means over seeds, as the table shows them."""
        return (
            self.likelihood_gain.mean >= 0.0 and self.found.estimate(ERROR).mean <= self.reference.estimate(ERROR).mean
        )

    @property
    def is_clear(self) -> bool:
        """Whether both intervals exclude the opposite."""
        return self.likelihood_gain.low >= 0.0 and self.error_ratio.high <= 1.0


def compare(reference: Point, found: Point) -> Match:
    gain = stats.mean(found.measures[LIKELIHOOD] - reference.measures[LIKELIHOOD])
    return Match(reference, found, gain, stats.ratio(found.measures[ERROR], reference.measures[ERROR]))


def best(reference: Point, candidates: Sequence[Point]) -> Match:
    """Of the candidates at least as likely as the reference, the one of least error; else the most likely one."""
    likely = [p for p in candidates if np.mean(p.measures[LIKELIHOOD] - reference.measures[LIKELIHOOD]) >= 0.0]
    if likely:
        return compare(reference, min(likely, key=lambda p: p.estimate(ERROR).mean))
    return compare(reference, max(candidates, key=lambda p: p.estimate(LIKELIHOOD).mean))


def changed(cell: Cell) -> dict[str, Any]:
    """What of the cell is not as in the chosen setting."""
    default = dataclasses.asdict(Cell())
    return {name: value for name, value in dataclasses.asdict(cell).items() if value != default[name]}


def is_like(point: Point, fields: dict[str, Any]) -> bool:
    """Whether the point's cell is the chosen one with `fields`, at any number of steps."""
    return dataclasses.replace(point.cell, num_steps=0) == dataclasses.replace(Cell(), **fields | {"num_steps": 0})


def select(points: Sequence[Point], **fields: Any) -> list[Point]:
    """Points whose cell differs from the default cell in nothing but `fields`, by rising lambda."""
    wanted = dataclasses.replace(Cell(), **fields)
    found = [p for p in points if p.cell == wanted]
    return sorted(found, key=lambda p: p.coefficient)
