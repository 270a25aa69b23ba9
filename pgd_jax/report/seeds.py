"""The section of a report's page with a row for each seed: the values behind means and intervals."""

from collections.abc import Mapping
from typing import Any

from pgd_jax.report import summary
from pgd_jax.report.tables import DIGITS, LABELS, table

TITLE = "Each seed"
LAST = "Last phase:"
CONTROLLED = "The controlled comparison, by the seed of the policy:"
# Heading of a column -> where the controlled comparison has its values, and their number format.
COLUMNS = {
    "log-likelihood, real actions": ("log_likelihood", "real_actions", ".2f"),
    "log-likelihood, unguided": ("log_likelihood", "unguided", ".2f"),
    "log-likelihood, guided": ("log_likelihood", "guided", ".2f"),
    "dynamics error, unguided": ("dynamics_error", "unguided", ".2g"),
    "dynamics error, guided": ("dynamics_error", "guided", ".2g"),
    "reachable states, unguided": ("dynamics_error_reachable", "unguided", ".2g"),
    "reachable states, guided": ("dynamics_error_reachable", "guided", ".2g"),
    "median window, unguided": ("dynamics_error_median_window", "unguided", ".2g"),
    "median window, guided": ("dynamics_error_median_window", "guided", ".2g"),
}


def section(numbers: Mapping[str, Any]) -> list[str]:
    """The parts of the section; none if there are no numbers."""
    parts = _last(numbers["groups"], numbers["score"]) + _controlled(numbers["groups"], numbers["controlled"])
    return [f"## {TITLE}", *parts] if parts else []


def _last(groups: Mapping[str, Any], score: str | None) -> list[str]:
    keys = [key for key in summary.MEASURES if any(group["by_seed"]["last"][key] for group in groups.values())]
    if not keys:
        return []
    late = [f"{LABELS[score]}, mean of the last three evaluations"] if score else []
    rows = []
    for name, group in groups.items():
        of = group["by_seed"]
        for seed in group["seeds"]:
            texts = [_text(of["last"][key].get(seed), DIGITS[key]) for key in keys]
            texts += [_text(of["late"][score].get(seed), DIGITS[score])] if score else []
            rows.append([name, str(seed), *texts])
    return [LAST, table(["group", "seed", *(LABELS[key] for key in keys), *late], rows)]


def _controlled(groups: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    columns = [name for name, (key, *_) in COLUMNS.items() if any(key in measured for measured in found.values())]
    rows = []
    for name, measured in found.items():
        for index, seed in enumerate(groups[name]["seeds"]):
            row = [name, str(seed)]
            for key, kind, digits in (COLUMNS[column] for column in columns):
                row.append(_text(measured[key][kind].values[index] if key in measured else None, digits))
            rows.append(row)
    return [CONTROLLED, table(["policies of", "seed", *columns], rows)] if rows else []


def _text(value: float | None, digits: str) -> str:
    return "–" if value is None else f"{value:{digits}}"
