"""A tidy table of scores -> statistics of each method on each task and over all tasks.

    rows = [{"dataset": "hopper-medium-v2", "method": "td3_bc real", "seed": 0, "score": 54.1}, ...]
    print(tasks.markdown(tasks.summarise(rows)))

Rows may also have `setting` (the settings of a method are compared as if they were methods), `update` and `measure`
(the kind of score). With `update`, the score is that of the last update that all rows of the dataset reach; the mean of
the last three is given too. Rows of `exchange.read_results` have all of these.
"""

import collections
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pgd_jax.core.errors import UserError
from pgd_jax.report import stats, tables

NUM_LATE = 3  # evaluations: the end of a run, averaged as a less noisy number than the last one
NUM_THRESHOLDS = 101  # of a profile
NEEDED = ("dataset", "method", "seed", "score")

Scores = dict[str, dict[str, dict[int, float]]]  # by method, dataset and seed


class Cell(NamedTuple):
    """One method on one dataset."""

    mean: stats.Estimate  # Student's t
    iqm: stats.Interval  # bootstrap over seeds
    seeds: dict[int, float]  # every seed's score


class Overall(NamedTuple):
    """One method over all datasets."""

    mean: float  # of the datasets' means
    iqm: stats.Interval  # over seeds of all datasets, stratified bootstrap


class Improvement(NamedTuple):
    a: str
    b: str
    probability: stats.Interval  # that a seed of a scores more than one of b, mean over datasets


class Summary(NamedTuple):
    """`last` is for the last evaluation. `late` is for the mean of the last three; it is empty without updates."""

    last: dict[str, dict[str, Cell]]  # by dataset and method
    late: dict[str, dict[str, Cell]]
    overall: dict[str, Overall]  # by method, for methods that have every dataset; empty for one dataset
    overall_late: dict[str, Overall]
    improvements: list[Improvement]
    incomplete: list[str]  # methods that lack a dataset


def summarise(rows: Iterable[Mapping[str, Any]]) -> Summary:
    """Per-task and across-task statistics of a tidy table; bootstraps start from seed 0.

    Raises UserError for rows that lack a column, hold a seed twice, or mix measures.
    """
    rows = list(rows)
    last = final(rows)
    late = final(rows, NUM_LATE) if all("update" in row for row in rows) else {}
    datasets = list(dict.fromkeys(str(row["dataset"]) for row in rows))
    whole = complete(rows)
    several = len(datasets) > 1
    return Summary(
        last=_cells(last, datasets),
        late=_cells(late, datasets),
        overall=_overall(whole) if several else {},
        overall_late=_overall({m: by_task(late[m], datasets) for m in whole}) if several and late else {},
        improvements=[
            Improvement(a, b, stats.stratified_bootstrap(stats.probability_of_improvement, whole[a], whole[b]))
            for b, a in itertools.combinations(whole, 2)  # baselines come first
        ],
        incomplete=[method for method in last if method not in whole],
    )


def final(rows: Iterable[Mapping[str, Any]], num_evaluations: int = 1) -> Scores:
    """Final scores: the mean of the last `num_evaluations` up to the last update that all rows of a dataset reach.

    A row without `update` is the only row of its lane. Errors are those of `summarise`.
    """
    lanes = _lanes(rows)
    common: dict[str, float] = {}
    for (_, dataset, _), evaluations in lanes.items():
        common[dataset] = min(common.get(dataset, np.inf), max(evaluations))
    found: Scores = {}
    for (method, dataset, seed), evaluations in lanes.items():
        kept = [score for update, score in sorted(evaluations.items()) if update <= common[dataset]]
        if not kept:
            raise UserError(f"{method} on {dataset}, seed {seed}: no score up to update {common[dataset]:g}")
        found.setdefault(method, {}).setdefault(dataset, {})[seed] = float(np.mean(kept[-num_evaluations:]))
    return found


def complete(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[np.ndarray]]:
    """Final scores of each method that has every dataset of the table, as the `tasks` that `stats` takes."""
    rows = list(rows)
    datasets = list(dict.fromkeys(str(row["dataset"]) for row in rows))
    return {m: by_task(found, datasets) for m, found in final(rows).items() if len(found) == len(datasets)}


def profiles(
    methods: Mapping[str, stats.Tasks], thresholds: ArrayLike | None = None
) -> tuple[np.ndarray, dict[str, stats.Interval]]:
    """(thresholds [K], each method's performance profile with its bootstrap interval).

    Without `thresholds` they are 101 over the range of all finite scores, from 0 where none is negative.
    """
    if thresholds is None:
        pooled = [np.ravel(np.asarray(scores, np.float64)) for tasks in methods.values() for scores in tasks]
        finite = [score for scores in pooled for score in scores if np.isfinite(score)]
        thresholds = np.linspace(min(0.0, *finite), max(finite), NUM_THRESHOLDS) if finite else np.zeros(1)
    levels = np.asarray(thresholds, np.float64)
    profile = functools.partial(stats.performance_profile, thresholds=levels)
    return levels, {name: stats.stratified_bootstrap(profile, tasks) for name, tasks in methods.items()}


def by_task(scores: Mapping[str, Mapping[int, float]], datasets: Sequence[str]) -> list[np.ndarray]:
    """One method's scores by dataset and seed -> the `tasks` that `stats` takes, an array [S] for each dataset."""
    return [np.array([score for _, score in sorted(scores[dataset].items())]) for dataset in datasets]


def _lanes(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, int], dict[float, float]]:
    """(method with its setting, dataset, seed) -> update -> score."""
    found: dict[tuple[str, str, int], dict[float, float]] = collections.defaultdict(dict)
    measures = set()
    for number, row in enumerate(rows):
        if missing := [name for name in NEEDED if name not in row]:
            raise UserError(f"results row {number} has no {', '.join(missing)}; it needs {', '.join(NEEDED)}")
        measures.add(row.get("measure", ""))
        lane = f"{row['method']} {row.get('setting', '')}".strip(), str(row["dataset"]), int(row["seed"])
        update = float(row.get("update", 0))
        if update in found[lane]:
            raise UserError(f"results row {number}: {lane[0]} on {lane[1]} has seed {lane[2]} twice; keep one")
        found[lane][update] = float(row["score"])
    if not found:
        raise UserError("there are no results: the table has no rows")
    if len(measures) > 1:
        raise UserError(f"these results are of several measures ({', '.join(sorted(measures))}); summarise one of them")
    return found


def _cells(scores: Scores, datasets: Sequence[str]) -> dict[str, dict[str, Cell]]:
    return {
        dataset: {method: cell(found[dataset]) for method, found in scores.items() if dataset in found}
        for dataset in (datasets if scores else [])
    }


def cell(seeds: Mapping[int, float]) -> Cell:
    """Both statistics of one method on one dataset, from its scores by seed."""
    values = [score for _, score in sorted(seeds.items())]
    iqm = stats.stratified_bootstrap(stats.interquartile_mean, [values])
    return Cell(stats.mean(values), iqm, dict(sorted(seeds.items())))


def _overall(whole: Mapping[str, list[np.ndarray]]) -> dict[str, Overall]:
    return {
        method: Overall(
            float(np.mean([scores.mean() for scores in tasks])),
            stats.stratified_bootstrap(stats.interquartile_mean, tasks),
        )
        for method, tasks in whole.items()
    }


def markdown(summary: Summary, digits: str = ".1f") -> str:
    """The summary as Markdown tables, which also read as plain text."""
    parts = [_task_table(summary, digits), tables.INTERVALS + " " + tables.BOOTSTRAPS]
    if summary.overall:
        parts += [_overall_table(summary, digits)]
    if summary.incomplete:
        parts.append(f"Left out of what is said over all datasets, as they lack one: {', '.join(summary.incomplete)}.")
    if summary.improvements:
        lines = [[found.a, found.b, tables.show_interval(found.probability, ".2f")] for found in summary.improvements]
        parts.append(tables.table(["a", "b", "probability that a seed of a scores more than one of b"], lines))
    return "\n\n".join(parts)


def _task_table(summary: Summary, digits: str) -> str:
    late = ["mean of the last three evaluations"] if summary.late else []
    lines = []
    for dataset, methods in summary.last.items():
        for method, found in methods.items():
            texts = [tables.show(found.mean, digits), tables.show_interval(found.iqm, digits)]
            texts += [tables.show(summary.late[dataset][method].mean, digits)] if late else []
            each = " ".join(f"{score:{digits}}" for score in found.seeds.values())
            lines.append([dataset, method, str(len(found.seeds)), *texts, each])
    return tables.table(["dataset", "method", "seeds", "mean", "interquartile mean", *late, "each seed"], lines)


def _overall_table(summary: Summary, digits: str) -> str:
    num_datasets = len(summary.last)
    header = ["method", f"mean of {num_datasets} datasets", "interquartile mean"]
    lines = []
    for method, found in summary.overall.items():
        line = [method, f"{found.mean:{digits}}", tables.show_interval(found.iqm, digits)]
        if summary.overall_late:
            line.append(tables.show_interval(summary.overall_late[method].iqm, digits))
        lines.append(line)
    return tables.table(header + (["that of the last three evaluations"] if summary.overall_late else []), lines)
