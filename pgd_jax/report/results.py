"""Agent runs, read back as groups of lanes that a report compares. It runs on the host and writes nothing."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pgd_jax.core import config as configs
from pgd_jax.core.errors import UserError
from pgd_jax.report import tasks
from pgd_jax.runs import agent as agent_runs, metrics, records, rundir

KINDS = ("real", "unguided", "rollouts", "guided")
COEFFICIENT = agent_runs.COEFFICIENT


class Run(NamedTuple):
    path: pathlib.Path
    record: dict[str, Any]  # config.json
    config: configs.AgentConfig
    rows: list[dict[str, Any]]
    is_finished: bool

    @property
    def phases_done(self) -> int:
        return max(row["phase"] for row in self.rows) + 1

    @property
    def commit(self) -> str:
        return commit_of(self.record)


class Group(NamedTuple):
    """Lanes that differ in their seed only. They may be of several runs that differ in their seeds only."""

    name: str
    kind: str  # one of KINDS
    coefficient: float  # of guidance; 0 without guidance
    others: dict[str, float]  # the other swept floats
    rows: dict[int, list[dict[str, Any]]]  # by seed, in phase order
    lanes: dict[int, tuple[pathlib.Path, int]]  # by seed: (run, lane)
    run: str  # the run of the group, if another run has a group with the same name

    @property
    def setting(self) -> str:
        """ "guidance_coefficient=30.0;agent.alpha=1.0": the difference from other groups of its kind."""
        floats = ({COEFFICIENT: self.coefficient} if self.kind == "guided" else {}) | self.others
        return ";".join(
            [f"{name}={float(value)!r}" for name, value in floats.items()] + [f"run={self.run}"] * bool(self.run)
        )


def commit_of(record: dict[str, Any]) -> str:
    """The git commit of the code that started a run; "" if unknown."""
    commit = record.get("git_commit") or ""
    return commit + "-modified" * bool(commit and record.get("git_modified"))


def read(path: str | os.PathLike, compared: bool = True) -> Run:
    """The run in `path`. Raises UserError if it is not an agent run, or has not finished its first phase.

    If `compared`, its checkpoints are read to compare the config that they hold with config.json.
    """
    path = pathlib.Path(path)
    record = records.load_record(path, agent_runs.KIND)
    rows = metrics.read(path / "metrics.jsonl")
    if not rows:
        raise UserError(f"{path} has not finished its first phase yet; make the report once it has")
    if compared:
        config = records.read_config(configs.AgentConfig, path, agent_runs.KIND)
    else:
        config = configs.from_dict(configs.AgentConfig, records.completed(record["config"], agent_runs.KIND))
    return Run(path, record, config, rows, (path / rundir.FINISHED).exists())


def groups(runs: Sequence[Run]) -> list[Group]:
    """All lanes of the runs by group: real, unguided, rollouts of a world model, then guided by rising coefficient.

    Runs that differ in more than their seeds never share a group. If their groups have the same name, the run's
    directory is added to it. Raises UserError if a group has a seed twice.
    """
    owners: dict[str, set[str]] = {}
    for run in runs:
        signature = _signature(run)
        for row in run.rows:
            owners.setdefault(_label(row), set()).add(signature)
    found: dict[str, Group] = {}
    for run in runs:
        for row in run.rows:
            label = _label(row)
            own = "" if len(owners[label]) == 1 else str(run.path)
            name = f"{label} ({own})" if own else label
            setting = {key: value for key, value in row["setting"].items() if key != COEFFICIENT}
            group = found.setdefault(name, Group(name, _kind(row), _coefficient(row), setting, {}, {}, own))
            origin = (run.path, row["lane"])
            if group.lanes.setdefault(row["seed"], origin) != origin:
                raise UserError(
                    f'{group.lanes[row["seed"]][0]} and {run.path} both hold seed {row["seed"]} of "{name}"; name one'
                )
            group.rows.setdefault(row["seed"], []).append(row)
    return sorted(found.values(), key=lambda group: (KINDS.index(group.kind), group.coefficient))


def common_updates(found: Sequence[Group]) -> int:
    """The last number of updates that every lane of every group has reached."""
    return min(rows[-1]["updates"] for group in found for rows in group.rows.values())


def last(group: Group, key: str, updates: int) -> dict[int, float]:
    """`key` by seed in the last phase within `updates`; empty if the rows do not have it."""
    return {seed: values[-1] for seed, values in _within(group, key, updates).items()}


def late(group: Group, key: str, updates: int) -> dict[int, float]:
    """`key` by seed, averaged over the last three phases within `updates` that have it (or all, if there are fewer)."""
    found = _within(group, key, updates)
    return {seed: float(np.mean(values[-tasks.NUM_LATE :])) for seed, values in found.items()}


def tidy(runs: Sequence[Run], found: Sequence[Group], dataset: str, key: str) -> list[dict[str, Any]]:
    """The rows of results.csv (`exchange.COLUMNS`): one for each evaluation of `key` for each seed of the groups."""
    by_path, rows = {run.path: run for run in runs}, []
    for group in found:
        for seed, evaluations in sorted(group.rows.items()):
            run = by_path[group.lanes[seed][0]]
            config = run.config
            on_host = key.startswith("host_") and config.host_episodes
            of_lane = {
                "dataset": dataset,
                "method": f"{config.agent} {group.kind}",
                "setting": group.setting,
                "seed": seed,
            }
            of_run = {"measure": key, "episodes": on_host or config.num_episodes, "commit": run.commit}
            rows += [
                of_lane | {"update": row["updates"], "score": row[key]} | of_run for row in evaluations if key in row
            ]
    return rows


def curve(group: Group, key: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(updates [P], values [S, P] or [S, P, ...]) over the phases that all seeds have; None if rows lack `key`."""
    series = [[row for row in rows if key in row] for _, rows in sorted(group.rows.items())]
    length = min(len(rows) for rows in series)
    if not length:
        return None
    return np.array([row["updates"] for row in series[0][:length]]), np.array(
        [[row[key] for row in rows[:length]] for rows in series]
    )


def pairs(found: Sequence[Group]) -> list[tuple[Group, Group]]:
    """The pairs to compare: each group with the groups of simpler kinds (guided, rollouts, unguided, real).

    The other swept floats must be the same, or the baseline must have none.
    """
    return [
        (a, b) for a in found for b in found if KINDS.index(a.kind) > KINDS.index(b.kind) and b.others in ({}, a.others)
    ]


def _within(group: Group, key: str, updates: int) -> dict[int, list[float]]:
    picked = {
        seed: [row[key] for row in rows if key in row and row["updates"] <= updates]
        for seed, rows in group.rows.items()
    }
    return {seed: values for seed, values in sorted(picked.items()) if values}


def _kind(row: dict[str, Any]) -> str:
    return row["group"].split()[0]


def _coefficient(row: dict[str, Any]) -> float:
    return row["setting"].get(COEFFICIENT, 0.0) if _kind(row) == "guided" else 0.0


def _label(row: dict[str, Any]) -> str:
    """ "guided 3 agent.alpha=1": the kind, the coefficient of guided lanes, and the other swept floats."""
    kind = _kind(row)
    name = [f"guided λ={_coefficient(row):g}"] if kind == "guided" else [kind]
    return " ".join(name + [f"{key}={value:g}" for key, value in row["setting"].items() if key != COEFFICIENT])


def _signature(run: Run) -> str:
    """The settings that lanes of one group must share."""
    free = dict.fromkeys(("num_seeds", "first_seed", "hyper", "num_phases", "phases_per_chunk", "download"))
    return repr({**run.record["config"], **free})
