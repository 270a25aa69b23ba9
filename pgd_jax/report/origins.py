"""The origin of a report's numbers: the task, the runs, and their hardware, versions and commands."""

import dataclasses
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pgd_jax.agents.base import AGENTS
from pgd_jax.core import config as configs, hyper as floats
from pgd_jax.core.errors import UserError
from pgd_jax.report.results import Run
from pgd_jax.runs import denoiser as denoisers, experiment as experiments, metrics, records, source
from pgd_jax.runs.experiment import Experiment

HOST_PACKAGES = ("gymnasium", "mujoco", "gymnasium-robotics", "ogbench")


def warnings(run: Run) -> list[str]:
    """Warnings that make the run's numbers provisional or incomplete."""
    found = []
    if not run.is_finished:
        found.append(
            f"`{run.path}` is not finished ({run.phases_done} of {run.config.num_phases} phases): "
            "its numbers are provisional."
        )
    if changed := metrics.gaps(run.rows, run.phases_done - 1):
        found.append(f"`{run.path}`: {changed}; curves and means are of the rows that are left.")
    lost = metrics.first_nonfinite(run.rows, dict.fromkeys(key for row in run.rows for key in row))
    if lost is not None:
        found.append(f"`{run.path}` diverged: {lost.key} is not finite in lane {lost.lane}, phase {lost.phase}.")
    return found


def task(runs: Sequence[Run], experiments: Sequence[Experiment]) -> dict[str, Any]:
    """The common properties of the runs. Raises UserError if their agents, datasets or environments differ."""
    config = runs[0].config
    judges = [found.program.env or (found.host and found.host.env) for found in experiments]
    environments = {env.name for env in judges if env is not None}
    with_host = [run for run in runs if any("host_return_mean" in row for row in run.rows)]
    datasets = {run.path: dataset(run) for run in runs}
    for what, values in (
        ("agents", {run.path: run.config.agent for run in runs}),
        ("datasets", {path: name for path, name in datasets.items() if name}),
    ):
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{path}: {value}" for path, value in values.items())
            raise UserError(f"these runs have different {what} ({listed}); make one report of each")
    if len(environments) > 1:
        raise UserError(
            f"these runs are judged by different environments ({', '.join(sorted(environments))}); "
            "make one report of each"
        )
    return {
        "dataset": next(filter(None, datasets.values()), "unknown dataset"),
        "environment": next(iter(environments), config.environment),
        "agent": config.agent,
        "num_episodes": _counts(run.config.num_episodes for run in runs),
        "num_host_episodes": _counts(run.config.host_episodes or run.config.num_episodes for run in with_host),
        "host_versions": list(dict.fromkeys(_host_versions(run) for run in with_host)),
        "hardware": list(dict.fromkeys(_hardware(run) for run in runs)),
    }


def _counts(counts: Iterable[int]) -> str:
    """ "16", or "16/64" if runs differ; "" for no runs."""
    return "/".join(dict.fromkeys(map(str, counts)))


def _host_versions(run: Run) -> str:
    versions = run.record["versions"]
    return ", ".join(f"{name} {versions[name]}" for name in HOST_PACKAGES if name in versions)


def dataset(run: Run) -> str:
    """The name or path of the run's dataset; "" if only the run of its model knew it and that run is gone."""
    if run.config.dataset:
        return run.config.dataset
    try:
        what, path = source.named(run.config)
        return records.load_config(path, what or denoisers.KIND)["data"]["dataset"]
    except UserError:
        return ""


def _hardware(run: Run) -> str:
    return f"{run.record['num_devices']} × {run.record['device']}"


def describe(run: Run) -> dict[str, Any]:
    """The facts that are needed to repeat the run."""
    record = run.record
    return {
        "path": str(run.path),
        "is_finished": run.is_finished,
        "phases_done": run.phases_done,
        "num_phases": run.config.num_phases,
        "created": record.get("created"),
        "hardware": _hardware(run),
        "git_commit": record.get("git_commit"),
        "git_modified": record.get("git_modified"),
        "versions": record["versions"],
        "command": command(run),
    }


def command(run: Run) -> str:
    """The train_agent command line with the run's settings, without those that have their defaults."""
    usual = {name: (default,) for name, default, _ in floats.described(experiments.hyper_of(run.config))}
    family = AGENTS.get(run.config.agent)
    published: dict[str, Any] = dataclasses.asdict(family.plan)
    sizes: dict[str, Any] = dataclasses.asdict(family.plan_of(run.config))
    given, default = dataclasses.replace(run.config, **sizes), dataclasses.replace(configs.AgentConfig(), **published)
    flags = [f"--config.{name}={value}" for name, value in _changed(given, default)]
    for name, values in floats.flatten(run.config.hyper).items():
        if tuple(values) != usual.get(name):
            flags.append(f"--config.hyper.{name}={','.join(f'{value:g}' for value in values)}")
    return shlex.join(["pgd-train-agent", f"--workdir={run.path}", *flags])


def _changed(config: Any, default: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(config):
        value, usual = getattr(config, field.name), getattr(default, field.name)
        if dataclasses.is_dataclass(value):
            yield from _changed(value, usual, f"{prefix}{field.name}.")
        elif value != usual and field.name != "hyper":
            yield prefix + field.name, value
