"""The report over a sweep's jobs as one Markdown page; its numbers are those of report.json."""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pgd_jax.report import folder
from pgd_jax.report.tables import DIGITS, LABELS, bullets, table

NUM_SHOWN = 30  # settings, their seeds, values of a setting, and jobs; all of them are in the files
HOW = (
    "Of each seed it is the score of its last evaluation, never the best. Square brackets: 95 % Student-t interval of "
    "the mean over seeds, given from 3 seeds on. The best of many settings looks better than it is: judge it again on "
    "fresh seeds."
)
MARGINS = "Each value's mean over all settings that have it, whatever else they have."


def render(numbers: Mapping[str, Any]) -> str:
    """The whole page."""
    settings = numbers["settings"]
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = collections.defaultdict(list)
    for setting in settings:
        groups[setting["dataset"], setting["measure"]].append(setting)
    num_jobs = sum(numbers["states"].values())
    states = ", ".join(f"{count} {state}" for state, count in sorted(numbers["states"].items()))
    parts = [f"# Sweep of {num_jobs} jobs", f"{states.capitalize()}."]
    for (dataset, measure), found in groups.items():
        parts += _group(dataset, measure, found)
    parts += _named("Jobs that failed", [f"{item['job']}: {item['about']}" for item in numbers["failed"]])
    parts += _named("Runs that could not be read", numbers["notes"])
    parts.append(
        f"Every evaluation's score is in [{folder.RESULTS}]({folder.RESULTS}), every setting in "
        f"[{folder.SETTINGS}]({folder.SETTINGS}), and all of this page's numbers are in "
        f"[{folder.NUMBERS}]({folder.NUMBERS})."
    )
    return "\n\n".join(parts) + "\n"


def _group(dataset: str, measure: str, found: Sequence[Mapping[str, Any]]) -> list[str]:
    is_score = measure in LABELS
    digits, label = DIGITS.get(measure, ".4g"), LABELS.get(measure, measure.replace("_", " "))
    ordered = sorted(found, key=lambda item: _rank(item["mean"], is_score))
    header = ["method", "setting", label, "interquartile mean", "seeds", "each seed", "update", ""]
    rows = [_row(item, digits) for item in ordered[:NUM_SHOWN]]
    shown = f"the best {NUM_SHOWN} of {len(found)} settings" if len(found) > NUM_SHOWN else "all settings, best first"
    return [f"## {dataset}", f"{label.capitalize()}, {shown}. {HOW}", table(header, rows), *_margins(found, digits)]


def _rank(value: float, is_score: bool) -> tuple[bool, float]:
    """The best first, those that are not finite last."""
    return (not math.isfinite(value), -value if is_score else value)


def _row(item: Mapping[str, Any], digits: str) -> list[str]:
    interval = f" [{item['low']:{digits}}, {item['high']:{digits}}]" if math.isfinite(item["low"]) else ""
    note = "not finished" if item["unfinished_jobs"] else ""
    mean, middle = f"{item['mean']:{digits}}{interval}", f"{item['interquartile_mean']:{digits}}"
    each = " ".join(f"{score:{digits}}" for score in item["scores"][:NUM_SHOWN]) + " …" * (item["seeds"] > NUM_SHOWN)
    lanes = [item["method"], item["setting"].replace(";", "; ")]
    return [*lanes, mean, middle, str(item["seeds"]), each, str(item["update"]), note]


def _margins(found: Sequence[Mapping[str, Any]], digits: str) -> list[str]:
    """For each setting that has several values: the mean by value."""
    axes: dict[str, dict[str, list[float]]] = {}
    for item in found:
        pairs = [("method", item["method"])]
        pairs += [(name, value) for name, _, value in (part.partition("=") for part in item["setting"].split(";"))]
        for name, value in pairs:
            if value and math.isfinite(item["mean"]):
                axes.setdefault(name, {}).setdefault(value, []).append(item["mean"])
    rows = [
        [name, value, f"{sum(means) / len(means):{digits}}", str(len(means))]
        for name, values in axes.items()
        if len(values) > 1
        for value, means in list(values.items())[:NUM_SHOWN]
    ]
    return [MARGINS, table(["setting", "value", "mean", "settings"], rows)] if rows else []


def _named(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    more = [f"and {len(lines) - NUM_SHOWN} more"] if len(lines) > NUM_SHOWN else []
    return [f"## {title}", bullets([*lines[:NUM_SHOWN], *more])]
