"""Two reports of the benchmark side by side."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from pgd_jax.bench import speed
from pgd_jax.errors import UserError


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


COLUMNS = {
    "part": lambda row: row["name"],
    "first": lambda row: f"{row['first']:.4g}",
    "second": lambda row: f"{row['second']:.4g} {row['unit']}/s",
    "best / best": lambda row: f"{row['second'] / row['first']:.3f}x",
    "median / median": lambda row: f"{row['second_median'] / row['first_median']:.3f}x",
    "of matmul": lambda row: f"{row['first_share']:.1%} -> {row['second_share']:.1%}",
    "compile": lambda row: f"{row['first_compile']:.1f} -> {row['second_compile']:.1f} s",
}


def pairs(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each part of both reports, in the first's order."""
    others = {row["name"]: row for row in second}
    return [
        {
            "name": row["name"], "unit": row["unit"],
            "first": row["best_per_s"], "second": others[row["name"]]["best_per_s"],
            "first_median": row["median_per_s"], "second_median": others[row["name"]]["median_per_s"],
            "first_share": row["share_of_matmul"], "second_share": others[row["name"]]["share_of_matmul"],
            "first_compile": row["compile_s"], "second_compile": others[row["name"]]["compile_s"],
        }
        for row in first
        if row["name"] in others
    ]  # fmt: skip
