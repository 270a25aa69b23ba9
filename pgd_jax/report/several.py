"""Runs on several datasets -> a report for each dataset, and a page that compares methods over all datasets."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from pgd_jax.core.errors import UserError
from pgd_jax.report import exchange, folder, origins, plots, policies, results, summary, tables, tasks, writer
from pgd_jax.runs.sinks import base as sink_seam

PROFILES = (
    "Performance profiles: share of seeds above each score, mean over datasets; bands are 95 % bootstrap intervals"
)
PLAIN = "These are plain returns: a mean over datasets counts most where returns are largest."
HOW = (
    "Interquartile mean, probability of improvement (ties count a half) and profiles are those of Agarwal et al. 2021 "
    "(rliable, arXiv 2108.13264); intervals over datasets are a stratified bootstrap over seeds."
)


def write(
    out: str | os.PathLike,
    paths: Sequence[str | os.PathLike],
    num_pool_episodes: int = 0,
    sinks: Sequence[str] = (),
) -> pathlib.Path:
    """`writer.write` for runs on any datasets. Returns the page.

    For runs on one dataset, the report is in `out`. For several datasets, each has a report in a folder of `out`, and
    `out` has report.md, report.html, report.json, results.csv and a figure about all of them. Raises UserError as
    `writer.write`, and for scores of several kinds, which cannot be averaged.
    """
    policies.check_episodes(num_pool_episodes)
    sink_seam.check(sinks, of_figures=True)
    out, runs = pathlib.Path(out), writer.read(paths)
    parts = _parts(runs)
    if len(parts) == 1:
        return writer.write(out, paths, num_pool_episodes, sinks)
    folder.check(out)
    rows = [row for dataset, of_dataset in parts.items() for row in _rows(dataset, of_dataset)]
    found = tasks.summarise(rows)  # refuses before the long work what cannot be averaged
    names = _folders(parts)
    folder.begin(out, names.values())
    for dataset, of_dataset in parts.items():
        writer.write(out / names[dataset], [run.path for run in of_dataset], num_pool_episodes, sinks)
    exchange.write_results(out / folder.RESULTS, rows)
    measure = rows[0]["measure"]
    thresholds, profiles = tasks.profiles(tasks.complete(rows))
    if profiles:
        plots.profiles(out / "profiles.png", tables.LABELS[measure], thresholds, profiles)
        folder.show(out, ["profiles.png"], paths, sinks)
    numbers = {"parts": list(names.values()), "measure": measure, "datasets": list(parts), "summary": found}
    numbers |= {"profiles": {"thresholds": thresholds, "methods": profiles}}
    return folder.end(out, numbers, _render(found, measure, names, bool(profiles)))


def _parts(runs: Sequence[results.Run]) -> dict[str, list[results.Run]]:
    """The runs by dataset. A run with an unknown dataset joins the others if they have one dataset, else UserError."""
    parts: dict[str, list[results.Run]] = {}
    for run in runs:
        parts.setdefault(origins.dataset(run), []).append(run)
    unknown = parts.pop("", [])
    if len(parts) > 1 and unknown:
        raise UserError(f"{unknown[0].path}: its dataset is not known, as its denoiser is gone; leave it out")
    if not parts:
        return {"": unknown}
    next(iter(parts.values())).extend(unknown)
    return parts


def _rows(dataset: str, runs: Sequence[results.Run]) -> list[dict[str, Any]]:
    origins.task(runs, [])  # refuses what cannot share a report
    groups = results.groups(runs)
    score = summary.score_key(groups)
    if score is None:
        raise UserError(
            f"{runs[0].path}: nothing judged the runs of {dataset}; leave them out of a report over datasets"
        )
    return results.tidy(runs, groups, dataset, score)


def _folders(datasets: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
    """A plain and unique folder name for each dataset."""
    names: dict[str, str] = {}
    for dataset in datasets:
        plain = exchange.word(dataset)
        taken = [name for name in names.values() if name == plain or name.startswith(f"{plain}_")]
        names[dataset] = f"{plain}_{len(taken) + 1}" if taken else plain  # "_" is in no plain word
    return names


def _render(found: tasks.Summary, measure: str, names: Mapping[str, str], has_figure: bool) -> str:
    links = ", ".join(f"[{dataset}]({name}/{folder.PAGE})" for dataset, name in names.items())
    parts = [
        f"# {len(names)} datasets",
        f"{tables.LABELS[measure].capitalize()} of the last phase that all lanes of a dataset reach, never the best. "
        f"A report of each dataset: {links}.",
        *([PLAIN] if measure.endswith("return_mean") else []),
        tasks.markdown(found, tables.DIGITS[measure]),
        HOW,
        *([f"![{PROFILES}](profiles.png)"] if has_figure else []),
        f"Every number of this page is in [{folder.NUMBERS}]({folder.NUMBERS}), every evaluation's score in "
        f"[{folder.RESULTS}]({folder.RESULTS}).",
    ]
    return "\n\n".join(parts) + "\n"
