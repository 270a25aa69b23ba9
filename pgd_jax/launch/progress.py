"""The progress of a sweep's jobs, from their run directories, their state files and the scheduler."""

import collections
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pgd_jax.cli import entry
from pgd_jax.launch import attempts
from pgd_jax.launch.backend import RUNNING, STOPPING, WAITING, Known
from pgd_jax.launch.sweep import Job
from pgd_jax.runs import metrics

FINISHED, FAILED, STOPPED, LOST, NEW = "finished", "failed", "stopped", "lost", "not started"
STATES = (FINISHED, RUNNING, STOPPING, WAITING, STOPPED, LOST, FAILED, NEW)
TAIL_BYTES = 262_144


class JobStatus(NamedTuple):
    name: str
    state: str  # one of STATES
    phases_done: int
    num_phases: int  # 0 before it has begun
    score_name: str  # "" before its first evaluation
    score: float  # mean over the lanes of the last phase
    log: pathlib.Path
    about: str  # the scheduler's message, or the last line of a failed job's log


def of_job(job: Job, known: Known | None) -> JobStatus:
    rows, num_phases = _last_rows(job.run_dir), _num_phases(job.run_dir)
    state, about = state_of(job, known)
    name = next((name for name in (*metrics.SCORES, *metrics.LOSSES) if rows and name in rows[-1]), "")
    scores = [row[name] for row in rows if isinstance(row.get(name), (int, float))] if name else []
    done = rows[-1]["phase"] + 1 if rows else 0
    mean = sum(scores) / len(scores) if scores else float("nan")
    return JobStatus(job.name, state, done, num_phases, name, mean, job.log, about)


def is_finished(job: Job) -> bool:
    """Whether the run itself says so."""
    from pgd_jax.runs import rundir  # on use: it imports JAX

    return (job.run_dir / rundir.FINISHED).exists() and rundir.is_at_end(job.run_dir)


def state_of(job: Job, known: Known | None) -> tuple[str, str]:
    """(one of STATES, the text of `JobStatus.about`). The metrics are not read."""
    attempt = attempts.read(job.state)
    if known is None and is_finished(
        job
    ):  # a job that a task holds is running, such as a longer one with the same name
        return FINISHED, ""
    if known is not None:
        return known.state, known.about
    if attempt is None:
        return NEW, ""
    if attempts.is_alive(attempt):
        return RUNNING, f"pid {attempt.process}"
    if not attempt.is_over:
        return LOST, f"was killed, or its machine {attempt.host} went away; the same command goes on"
    if attempt.exit_status in (0, entry.STOPPED):
        return STOPPED, "the same command goes on"
    return FAILED, f"{attempts.exit_text(attempt.exit_status)}: {attempt.said}"


def table(found: Sequence[JobStatus]) -> str:
    """A line of text for each job, and the number of jobs in each state."""
    header = ("job", "state", "phases", "last score", "log")
    rows = [(item.name, item.state, _phases(item), _score(item), str(item.log)) for item in found]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row, about in zip([header, *rows], ["", *(item.about for item in found)], strict=True):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if about:
            lines.append(f"    {about}")
    return "\n".join([*lines, counts(found)])


def counts(found: Sequence[JobStatus]) -> str:
    """ "3 of 4 jobs finished, 1 failed"."""
    numbers = collections.Counter(item.state for item in found)
    rest = [f"{numbers[state]} {state}" for state in STATES if state != FINISHED and numbers[state]]
    return ", ".join([f"{numbers[FINISHED]} of {len(found)} jobs finished", *rest])


def _phases(item: JobStatus) -> str:
    return f"{item.phases_done} of {item.num_phases}" if item.num_phases else "-"


def _score(item: JobStatus) -> str:
    return f"{item.score_name} {item.score:.4g}" if item.score_name else "-"


def _num_phases(run_dir: pathlib.Path) -> int:
    """Phases of an agent, or chunks of a model's training, from config.json; 0 if there is no such file yet."""
    try:
        config = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))["config"]
        if "num_phases" in config:
            return int(config["num_phases"])
        length: Mapping[str, Any] = config.get("training", config)
        return int(length["num_steps"]) // int(length["steps_per_chunk"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        return 0


def _last_rows(run_dir: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of the last phase, from the end of metrics.jsonl. An incomplete line is skipped."""
    try:
        with open(run_dir / "metrics.jsonl", "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return []
    rows: list[dict[str, Any]] = []
    for line in reversed(lines):
        try:
            row = json.loads(line)
            phase = int(row["phase"])
        except (ValueError, KeyError, TypeError):
            continue
        if rows and phase != rows[-1]["phase"]:
            break
        rows.append(row)
    return rows
