"""Two reports of the benchmark side by side."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from experiments.bench import speed
from pgd_jax.core.errors import UserError


def read(path: pathlib.Path) -> dict[str, Any]:
    """A report as `--out` wrote it; UserError for anything else."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a report of this benchmark ({error})") from None
    if not isinstance(report, dict) or not {"machine", "setting", "parts"} <= report.keys():
        raise UserError(f"{path}: not a report of this benchmark; it must be a file that --out wrote")
    return report


def table(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Parts that both have, and what differs between their machines and settings."""
    lines = [
        f"{group}.{name}: {value} -> {second[group].get(name)}"
        for group in ("machine", "setting")
        for name, value in first[group].items()
        if second[group].get(name) != value
    ]
    return "\n".join([*lines, speed.table(pairs(first["parts"], second["parts"]), COLUMNS)])


# Of (the first report's row, the second's).
COLUMNS = {
    "part": lambda pair: pair[0]["name"],
    "first": lambda pair: f"{pair[0]['best_per_s']:.4g}",
    "second": lambda pair: f"{pair[1]['best_per_s']:.4g} {pair[1]['unit']}/s",
    "best / best": lambda pair: f"{pair[1]['best_per_s'] / pair[0]['best_per_s']:.3f}x",
    "median / median": lambda pair: f"{pair[1]['median_per_s'] / pair[0]['median_per_s']:.3f}x",
    "of matmul": lambda pair: " -> ".join(f"{row['share_of_matmul']:.1%}" for row in pair),
    "compile": lambda pair: " -> ".join(f"{row['compile_s']:.1f} s" for row in pair),
}


def pairs(
    first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The rows of each part that both reports have, in the first's order."""
    others = {row["name"]: row for row in second}
    return [(row, others[row["name"]]) for row in first if row["name"] in others]
