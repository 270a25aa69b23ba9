"""A run's rows as named curves: of each lane, and of the mean over each group of lanes."""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pgd_jax.runs.metrics import Row

ABOUT = ("lane", "phase", "seed", "setting", "group", "updates", "step")  # what a row says of itself, not measures
SECTIONS = {
    "generation": ("synthetic_", "dynamics_"),
    "evaluation": ("return_", "discounted_return_", "episode_", "normalised_", "host_"),
    "time": ("wall_",),
}
LEARNING = "learning"  # losses, and whatever else an agent or a model says of itself


class Point(NamedTuple):
    """One step of the curves of a lane, or of a group."""

    curve: str  # "lane_3", or the name of the group whose mean it is; "" for a run of one lane without a group
    step: int  # agent updates, or a model's training steps
    values: dict[str, float]  # by tag: "evaluation/return_mean"


def points(rows: Sequence[Row]) -> list[Point]:
    """What there is to plot: the numbers of each row, and their means over each group of a phase."""
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        if "group" in row:
            groups.setdefault((row["phase"], row["group"]), []).append(row)
    return [Point(lane_name(row), step_of(row), tagged(row)) for row in rows] + [
        Point(name, step_of(members[0]), _means(map(tagged, members))) for (_, name), members in groups.items()
    ]


def lane_name(row: Row) -> str:
    return f"lane_{row['lane']}" if "group" in row else ""


def step_of(row: Row) -> int:
    return int(next(row[key] for key in ("updates", "step", "phase") if key in row))


def tagged(row: Row) -> dict[str, float]:
    """The row's measures that are single numbers, by "section/name"."""
    return {f"{section(key)}/{key}": float(row[key]) for key in row if key not in ABOUT and _is_number(row[key])}


@functools.cache
def section(key: str) -> str:
    """What a measure is about: generation, evaluation, time, or learning."""
    return next((name for name, prefixes in SECTIONS.items() if key.startswith(prefixes)), LEARNING)


def lanes(rows: Iterable[Row]) -> dict[str, dict[str, float | str]]:
    """What makes each lane differ from others, by its name: seed, group, and the floats that vary."""
    about = {lane_name(row): row for row in rows if "group" in row}
    return {name: {"seed": row["seed"], "group": row["group"], **row["setting"]} for name, row in about.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _means(found: Iterable[dict[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for each in found:
        for tag, value in each.items():
            values.setdefault(tag, []).append(value)
    return {tag: sum(each) / len(each) for tag, each in values.items()}
