"""The points as a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pgd_jax.report.tables import table

COLUMNS = {
    "num_steps": ("steps", "d"), "mflops": ("MFLOP a window", ".1f"), "parameters": ("parameters", ",d"),
    "seconds": ("seconds", ".0f"), "dynamics_error": ("dynamics error", ".4f"),
    "dynamics_error_median": ("of the median window", ".4f"), "reward_error": ("reward error", ".4f"),
    "diversity": ("diversity", ".3f"), "mmd": ("MMD²", ".4f"), "loss_0.02": ("loss at σ 0.02", ".3f"),
    "loss_0.1": ("0.1", ".3f"), "loss_0.5": ("0.5", ".3f"), "loss_2": ("2", ".3f"),
}  # fmt: skip


def line(point: dict[str, Any]) -> str:
    shown = " ".join(f"{name}={point[name]:{digits}}" for name, (_, digits) in COLUMNS.items())
    return f"{point['recipe']}, seed {point['seed']}: {shown}"


def page(points: Sequence[dict[str, Any]]) -> str:
    """Means over seeds, a row for each recipe; of several seeds the dynamics error has its range."""
    recipes: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        recipes.setdefault(point["recipe"], []).append(point)
    rows = []
    for name, found in recipes.items():
        means = [f"{_mean(found, key, digits):{digits}}" for key, (_, digits) in COLUMNS.items()]
        rows.append([name, str(len(found)), *means])
    header = ["recipe", "seeds", *(label for label, _ in COLUMNS.values())]
    return f"# Recipes at equal training FLOPs, {points[0]['dataset']}\n\n{table(header, rows)}\n"


def _mean(found: Sequence[dict[str, Any]], key: str, digits: str) -> Any:
    mean = float(np.mean([point[key] for point in found]))
    return round(mean) if digits.endswith("d") else mean
