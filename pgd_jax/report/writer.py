"""Run directories -> one page on guidance: scores, on-policy likelihood and dynamics error of the data, and time."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from pgd_jax.core import logging
from pgd_jax.core.errors import UserError
from pgd_jax.generators import diffusion
from pgd_jax.report import (
    bandit,
    comparison,
    exchange,
    folder,
    origins,
    page,
    plots,
    policies,
    results,
    summary,
    tables,
    timing,
    windows,
)
from pgd_jax.report.comparison import Comparison
from pgd_jax.runs import agent as agent_runs, experiment as experiments, metrics
from pgd_jax.runs.sinks import base as sink_seam
from pgd_jax.train import loop

NUM_SHOWN = 60  # windows in a figure


class Loaded(NamedTuple):
    """A run's newest checkpoint, ready to generate."""

    experiment: experiments.Experiment
    states: loop.LaneState
    phases: int


class Measured(NamedTuple):
    """Results that the report itself generates and times, by run directory."""

    comparisons: dict[pathlib.Path, Comparison]
    real_log_likelihood: dict[pathlib.Path, np.ndarray]
    real_dynamics_error: float | None
    timing: list[dict[str, Any]]


def write(
    out: str | os.PathLike,
    paths: Sequence[str | os.PathLike],
    num_pool_episodes: int = 0,
    sinks: Sequence[str] = (),
) -> pathlib.Path:
    """Reads the agent runs in `paths` and writes report.md, report.html, report.json, results.csv, figures into `out`.

    Returns the path of report.md; report.html is the same page in one file. Runs must have the same dataset and agent.
    With `num_pool_episodes`, each lane's final policy is evaluated over this many more episodes; they become a policy
    pool (final_returns/) and the curve of the bandit. `out` may hold an older report, which is replaced, and nothing
    else. The figures are shown in `sinks` too. A run may be unfinished, or its denoiser or dataset may be gone: the
    report then has what can be read, and the page says so. Raises UserError for a directory that is not a run, and for
    runs that cannot be compared.
    """
    out = pathlib.Path(out)
    folder.check(out)
    policies.check_episodes(num_pool_episodes)
    sink_seam.check(sinks, of_figures=True)
    runs = read(paths)
    groups = results.groups(runs)
    warnings = [note for run in runs for note in origins.warnings(run)]
    loaded = {run.path: found for run in runs if (found := _load(run, warnings)) is not None}
    task = origins.task(runs, [found.experiment for found in loaded.values()])
    measured = _measure(loaded)
    pool = _policies(runs, task["dataset"], loaded, num_pool_episodes, warnings)
    numbers = {"task": task, "notes": warnings} | _numbers(runs, groups, measured)
    numbers["bandit"] = bandit.of_pool(pool)
    logging.info("report: figures")
    folder.begin(out)
    if numbers["score"]:
        exchange.write_results(out / folder.RESULTS, results.tidy(runs, groups, task["dataset"], numbers["score"]))
    if pool:
        exchange.write_pool(out / folder.POOL, pool)
    numbers["picture"] = _picture(out, groups, loaded, measured)
    _draw(out, groups, numbers)
    numbers["figures"] = [name for name in folder.FIGURES if (out / name).exists()]
    folder.show(out, numbers["figures"], paths, sinks)
    return folder.end(out, numbers, page.render(numbers))


def _numbers(runs: Sequence[results.Run], groups: Sequence[results.Group], measured: Measured) -> dict[str, Any]:
    updates, score = results.common_updates(groups), summary.score_key(groups)
    return {
        "updates": updates,
        "score": score,
        "groups": summary.of_groups(groups, updates),
        "differences": summary.differences(groups, score, updates) if score else [],
        "controlled": summary.controlled(groups, measured.comparisons, measured.real_log_likelihood),
        "real_dynamics_error": measured.real_dynamics_error,
        "timing": measured.timing,
        "denoiser": _denoiser(runs),
        "runs": [origins.describe(run) for run in runs],
        "curves": summary.of_curves(groups),
    }


def read(paths: Sequence[str | os.PathLike]) -> list[results.Run]:
    """The runs in `paths`. Raises UserError for no paths, for a path given twice, and for one that is not a run."""
    if not paths:
        raise UserError("name at least one run directory of train_agent")
    resolved = [pathlib.Path(path).resolve() for path in paths]
    twice = [str(path) for path, real in zip(paths, resolved, strict=True) if resolved.count(real) > 1]
    if twice:
        raise UserError(f"{twice[0]} is named twice")
    return [results.read(path) for path in paths]


def _load(run: results.Run, warnings: list[str]) -> Loaded | None:
    logging.info(f"report: reading {run.path}")
    try:
        return Loaded(*agent_runs.load(run.path))
    except UserError as error:
        warnings.append(f"`{run.path}`: nothing could be generated or timed ({error}).")
        return None


def _measure(loaded: dict[pathlib.Path, Loaded]) -> Measured:
    comparisons, likelihoods, times, real_error = {}, {}, [], None
    key_compare, key_real, key_time = jax.random.split(jax.random.key(0), 3)
    for path, (experiment, states, phases) in loaded.items():
        likelihoods[path] = comparison.real_log_likelihood(key_real, experiment, states.agent)
        if real_error is None:
            real_error = comparison.real_dynamics_error(key_real, experiment)
        if isinstance(experiment.program.generator and experiment.program.generator.plan, diffusion.Plan):
            logging.info(f"report: generating with and without guidance, policies of {path} after {phases} phases")
            comparisons[path] = comparison.controlled(key_compare, experiment, states.agent)
        logging.info(f"report: timing the parts of {path}")
        times.append({"run": str(path)} | _timing(timing.measure(key_time, experiment, states)))
        times[-1]["recorded_s"] = float(np.median([row["wall_s"] for row in metrics.read(path / "metrics.jsonl")]))
    return Measured(comparisons, likelihoods, real_error, times)


def _policies(
    runs: Sequence[results.Run],
    dataset: str,
    loaded: dict[pathlib.Path, Loaded],
    num_episodes: int,
    warnings: list[str],
) -> list[exchange.Policy]:
    """The final policies of all lanes that can be evaluated, with `num_episodes` each; none for 0."""
    found: list[exchange.Policy] = []
    for run in runs if num_episodes else []:
        if run.path not in loaded:
            continue  # the page has a warning already
        logging.info(f"report: {num_episodes} episodes of each policy of {run.path}")
        experiment, states, _ = loaded[run.path]
        made = policies.pool(jax.random.key(1), run, dataset, experiment, states, num_episodes)
        if lost := len(experiment.lanes.settings) - len(made):
            warnings.append(
                f"`{run.path}`: {lost} policies are not in the pool: nothing judges them, or they diverged."
            )
        found += made
    return found


def _timing(parts: list[timing.Part]) -> dict[str, Any]:
    total = sum(part.seconds for part in parts)
    rows = [dataclasses.asdict(part) | {"rate": part.rate, "share": part.seconds / total} for part in parts]
    machine = f"{jax.device_count()} × {jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores"
    return {"parts": rows, "total_s": total, "machine": machine}


def _denoiser(runs: Sequence[results.Run]) -> dict[str, Any] | None:
    """Losses of the first diffusion model that the runs name and that can be read."""
    for path in dict.fromkeys(run.config.denoiser for run in runs if run.config.denoiser):
        try:
            rows = metrics.read(pathlib.Path(path) / "metrics.jsonl")
        except UserError:
            continue
        keys = [key for key in ("train_loss", "validation_loss") if rows and key in rows[-1]]
        if keys:
            losses = {key: [row[key] for row in rows] for key in keys}
            steps = [row["step"] for row in rows]
            return {
                "path": path,
                "step": steps[-1],
                "steps": steps,
                "losses": losses,
                "last": {key: rows[-1][key] for key in keys},
            }
    return None


def _picture(
    out: pathlib.Path, groups: Sequence[results.Group], loaded: dict[pathlib.Path, Loaded], measured: Measured
) -> dict[str, Any] | None:
    """Draws windows of the first seed of the group with the largest coefficient, beside real windows."""
    made = [
        group
        for group in groups
        if group.kind != "real" and all(path in measured.comparisons for path, _ in group.lanes.values())
    ]
    if not made:
        return None
    group = made[-1]
    seed = min(group.lanes)
    path, lane = group.lanes[seed]
    found, experiment = measured.comparisons[path], loaded[path].experiment
    unguided, guided = found.windows[lane][:, :NUM_SHOWN]
    real = windows.real(jax.random.key(0), experiment.raw, unguided.shape[1], len(unguided))
    coefficient = float(found.coefficients[lane])
    panels = {"real data": real, "unguided": unguided, f"guided, λ = {coefficient:g}": guided}
    name = experiment.raw.env if experiment.program.env is None else experiment.program.env.name
    windows.draw(out / "windows.png", name, experiment.shared.normalizer.layout.obs_dim, panels)
    return {"group": group.name, "seed": seed, "guidance_coefficient": coefficient, "num_windows": len(unguided)}


def _draw(out: pathlib.Path, groups: Sequence[results.Group], numbers: dict[str, Any]) -> None:
    """Every figure for which there are numbers."""
    palette, score, task = plots.colours(groups), numbers["score"], numbers["task"]
    if score:
        title = f"{task['agent']} on {task['dataset']}"
        plots.learning_curves(
            out / "learning_curves.png", title, tables.LABELS[score], summary.curves(groups, score), palette
        )
    controlled = numbers["controlled"]
    if controlled:
        plots.on_policy(out / "on_policy.png", summary.curves(groups, summary.LIKELIHOOD), controlled, palette)
    if any("dynamics_error" in found for found in controlled.values()):
        curves = summary.curves(groups, summary.ERROR)
        plots.dynamics_error(out / "dynamics_error.png", curves, controlled, summary.ERROR_RATIO_LIMIT, palette)
    if numbers["bandit"]:
        tried = "host_return_mean" if score == "host_success_rate" else score or "return_mean"  # a pool has returns
        plots.bandit(out / "bandit.png", tables.LABELS[tried], numbers["bandit"])
    if numbers["denoiser"]:
        plots.denoiser(out / "denoiser.png", numbers["denoiser"]["steps"], numbers["denoiser"]["losses"])
