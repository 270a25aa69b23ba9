"""The numbers of a report, by group of lanes: last phase, end of the run, curves, differences, comparison."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pgd_jax.report import plots, results, stats
from pgd_jax.report.comparison import Comparison
from pgd_jax.report.results import Group
from pgd_jax.runs.metrics import SCORES

LIKELIHOOD, ERROR, REACHABLE = "synthetic_log_likelihood", "dynamics_error", "synthetic_reachable_share"
MEASURES = (*SCORES, LIKELIHOOD, ERROR)
ERROR_RATIO_LIMIT = 1.5  # guidance must not make synthetic data less true than this


def score_key(groups: Sequence[Group]) -> str | None:
    """The score of the report: the first of SCORES that all groups have, else the first that any has, else None."""
    having = {key: [results.curve(group, key) is not None for group in groups] for key in SCORES}
    return next((key for key in SCORES if all(having[key])), next((key for key in SCORES if any(having[key])), None))


def curves(groups: Sequence[Group], key: str) -> dict[str, plots.Curve]:
    """`key` along the updates of each group that has it."""
    found = {group.name: results.curve(group, key) for group in groups}
    return {
        name: plots.Curve(curve[0], curve[1], [stats.mean(values) for values in curve[1].T])
        for name, curve in found.items()
        if curve is not None
    }


def of_groups(groups: Sequence[Group], updates: int) -> dict[str, dict[str, Any]]:
    """By group: kind, seeds, and each measure or None, in the last phase within `updates` ("last") and over the last
    three ("late").

    Both have values "by_seed" too. Scores also have the interquartile mean of the last phase ("interquartile").
    """
    return {group.name: _of_group(group, updates) for group in groups}


def _of_group(group: Group, updates: int) -> dict[str, Any]:
    last = {key: results.last(group, key, updates) for key in MEASURES}
    late = {key: results.late(group, key, updates) for key in MEASURES}
    return {
        "kind": group.kind,
        "guidance_coefficient": group.coefficient,
        "seeds": sorted(group.rows),
        "last": {key: _mean(values) for key, values in last.items()},
        "late": {key: _mean(values) for key, values in late.items()},
        "by_seed": {"last": last, "late": late},
        "interquartile": {
            key: stats.stratified_bootstrap(stats.interquartile_mean, [list(last[key].values())])
            for key in SCORES
            if last[key]
        },
    }


def of_curves(groups: Sequence[Group]) -> dict[str, dict[str, Any]]:
    """By measure and group: updates, and mean and interval at each."""
    return {
        key: {
            name: {"updates": curve.updates, "mean": [e.mean for e in curve.estimates],
                   "low": [e.low for e in curve.estimates], "high": [e.high for e in curve.estimates]}
            for name, curve in curves(groups, key).items()
        }
        for key in MEASURES
    }  # fmt: skip


def differences(groups: Sequence[Group], key: str, updates: int) -> list[dict[str, Any]]:
    """For each pair of `results.pairs`: a - b of `key`, in the last phase and over the last three, and the verdict."""
    found = []
    evaluated = [group for group in groups if results.last(group, key, updates)]
    for a, b in results.pairs(evaluated):
        last = stats.difference(results.last(a, key, updates), results.last(b, key, updates))
        late = stats.difference(results.late(a, key, updates), results.late(b, key, updates))
        verdicts = {"verdict": stats.verdict(last.estimate), "late_verdict": stats.verdict(late.estimate)}
        found.append(
            {"a": a.name, "b": b.name, "paired": last.paired, "last": last.estimate, "late": late.estimate, **verdicts}
        )
    return found


def controlled(
    groups: Sequence[Group], comparisons: Mapping[pathlib.Path, Comparison], real: Mapping[pathlib.Path, np.ndarray]
) -> dict[str, dict[str, Any]]:
    """The controlled comparison by group of lanes; `real` is log pi of real actions, f32[L], by run."""
    found = {}
    for group in groups:
        lanes = [lane for _, lane in sorted(group.lanes.items())]
        if not all(path in comparisons for path, _ in lanes):
            continue
        taken = {
            key: np.array([comparisons[path].metrics[key][lane] for path, lane in lanes], np.float64)
            for key in (
                LIKELIHOOD,
                ERROR,
                REACHABLE,
                f"{ERROR}_reachable",
                f"{ERROR}_by_position",
                f"{ERROR}_by_window",
            )
            if all(key in comparisons[path].metrics for path, _ in lanes)
        }
        first, lane = lanes[0]
        found[group.name] = {
            "guidance_coefficient": float(comparisons[first].coefficients[lane]),
            "num_windows": comparisons[first].num_windows,
            "log_likelihood": _paired(taken[LIKELIHOOD])
            | {"real_actions": stats.mean([float(real[path][lane]) for path, lane in lanes])},
        }
        if ERROR in taken:
            by_position = taken[f"{ERROR}_by_position"].mean(axis=0)
            mean, median = _error(taken[ERROR]), _error(np.median(taken[f"{ERROR}_by_window"], axis=-1))
            found[group.name] |= {
                "dynamics_error": mean,
                "dynamics_error_reachable": _error(taken[f"{ERROR}_reachable"]),
                "dynamics_error_median_window": median,
                "reachable_share": _paired(taken[REACHABLE]),
            }
            found[group.name]["dynamics_error_by_position"] = dict(
                zip(("unguided", "guided"), by_position, strict=True)
            )
    return found


def _paired(values: np.ndarray) -> dict[str, stats.Estimate]:
    """values [S, 2]: unguided, guided."""
    unguided, guided = values.T
    return {"unguided": stats.mean(unguided), "guided": stats.mean(guided), "difference": stats.mean(guided - unguided)}


def _error(values: np.ndarray) -> dict[str, Any]:
    """values [S, 2]: unguided, guided dynamics errors."""
    ratio = stats.ratio(values[:, 1], values[:, 0])
    return _paired(values) | {"ratio": ratio, "within_limit": within_limit(ratio)}


def within_limit(ratio: stats.Estimate) -> str:
    """Whether the ratio is within the limit. The whole interval decides; with few seeds it is the mean."""
    if math.isnan(ratio.mean):
        return "unknown"
    if not ratio.has_interval:
        return ("yes" if ratio.mean <= ERROR_RATIO_LIMIT else "no") + " (too few seeds)"
    if ratio.high <= ERROR_RATIO_LIMIT:
        return "yes"
    return "no" if ratio.low > ERROR_RATIO_LIMIT else "not clear"


def _mean(values: Mapping[int, float]) -> stats.Estimate | None:
    return stats.mean(list(values.values())) if values else None
