"""The measured points: a line of JSON each, written as they come."""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from experiments.claims.fidelity.setting import Request
from pgd_jax.runs import metrics

DIGITS = 5


class Point(NamedTuple):
    task: str
    agent: str
    generator: str
    strength: float
    model: int  # seed of the denoiser and of the world model
    num_windows: int
    seconds: float  # of sampling
    horizons: tuple[int, ...]
    measures: dict[str, np.ndarray]  # measure.py

    @property
    def name(self) -> tuple[Any, ...]:
        """What is measured once. A point of another number of windows is another point."""
        return name(self.task, self.agent, self.model, self.num_windows, Request(self.generator, self.strength))


FIELDS = Point._fields[:-1]  # of a line; its other entries are measures


def name(task: str, agent: str, model: int, num_windows: int, request: Request) -> tuple[Any, ...]:
    return (task, agent, model, num_windows, request.generator, float(request.strength))


def row(point: Point) -> dict[str, Any]:
    fields = {field: getattr(point, field) for field in FIELDS} | {"seconds": round(point.seconds, 1)}
    return fields | {key: _rounded(value) for key, value in point.measures.items()}


def _rounded(value: np.ndarray) -> np.ndarray:
    return np.array([float(f"{x:.{DIGITS}g}") for x in np.ravel(value)]).reshape(np.shape(value))


def path(out: pathlib.Path) -> pathlib.Path:
    return out / "fidelity" / "points.jsonl"


def append(path: pathlib.Path, point: Point) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with metrics.MetricsWriter(path) as writer:  # which ends a half-written last line first
        writer.write([row(point)])


def read(path: pathlib.Path) -> list[Point]:
    return [of_row(found) for found in metrics.read(path)] if path.exists() else []


def of_row(found: dict[str, Any]) -> Point:
    fields = {field: found.pop(field) for field in FIELDS}
    fields["horizons"] = tuple(fields["horizons"])
    return Point(**fields, measures={key: np.asarray(value, np.float64) for key, value in found.items()})


def line(point: Point) -> str:
    """A point in a line: means over policies, errors over the whole window."""
    shown = {name: np.mean(value[..., -1] if value.ndim > 1 else value) for name, value in point.measures.items()}
    del shown["dynamics_error_by_position"]
    where = f"{point.task} {point.agent} {point.generator} {point.strength:g} model {point.model}"
    return f"{where} {point.seconds:.1f}s: " + " ".join(f"{name}={value:.4g}" for name, value in shown.items())
