"""Runs one job of a sweep's list. A cluster's task calls it, on the machine where the job runs.

    python -m pgd_jax.launch.task <workdir> <line of jobs.jsonl, from 0> [<where jobs.jsonl is>]

The job's output goes to <workdir>/<job>.log, as on one machine. If the job has several hosts, this is the output of the
first; the others write <job>.host1.log and so on. A signal is passed on. The exit status is that of the job; it is 75
if the job was stopped.
"""

import dataclasses
import os
import pathlib
import sys

from pgd_jax.cli import entry
from pgd_jax.core.errors import UserError
from pgd_jax.launch import attempts, job_list, local
from pgd_jax.launch.sweep import Job

USAGE = "usage: python -m pgd_jax.launch.task <workdir> <line of jobs.jsonl, from 0> [<where jobs.jsonl is>]"


@dataclasses.dataclass(frozen=True)
class _OfHost(Job):
    """One host's part of a job on several hosts. Each host except the first has its own log and state file."""

    host: int = 0
    coordinator: str = ""  # address of the first host, if the cluster does not tell it to JAX

    @property
    def argv(self) -> tuple[str, ...]:
        given = f"--distributed={self.coordinator},{self.resources.hosts},{self.host}"
        is_said = bool(self.coordinator)
        return tuple(given if is_said and word == "--distributed=auto" else word for word in super().argv)

    @property
    def log(self) -> pathlib.Path:
        return self.workdir / f"{self.name}{self._mark}.log"

    @property
    def state(self) -> pathlib.Path:
        return self.workdir / f"{self.name}{self._mark}.state"

    @property
    def _mark(self) -> str:
        return f".host{self.host}" if self.host else ""


def main(arguments: list[str]) -> int:
    if len(arguments) not in (2, 3) or not arguments[1].isdecimal():
        raise UserError(f"found {' '.join(arguments) or 'no arguments'}; {USAGE}")
    workdir, index = pathlib.Path(arguments[0]), int(arguments[1])
    jobs = job_list.load(workdir, *map(pathlib.Path, arguments[2:]))
    if index >= len(jobs):
        raise UserError(f"{workdir / job_list.FILE} has {len(jobs)} jobs, counted from 0; there is none with {index}")
    job = jobs[index]
    if job.resources.hosts > 1:
        fields = {field.name: getattr(job, field.name) for field in dataclasses.fields(job)}
        job = _OfHost(**fields, host=_host(), coordinator=os.environ.get("PGD_COORDINATOR", ""))
    unfinished = local.run_jobs([job], workdir, 1, lambda line: print(line, flush=True), task=_name())
    if unfinished.stopped:
        return entry.STOPPED
    attempt = attempts.read(job.state)
    return 0 if not unfinished.failed else max(1, attempt.exit_status if attempt else 1)


def _host() -> int:
    """The index of this host among the job's hosts, from Slurm or Kubernetes."""
    return int(os.environ.get("SLURM_PROCID") or os.environ.get("PGD_HOST_INDEX") or 0)


def _name() -> str:
    """The scheduler's name for this task."""
    slurm = os.environ.get("SLURM_ARRAY_JOB_ID", "")
    return f"{slurm}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}" if slurm else os.environ.get("PGD_POD", "")


def run() -> None:
    try:
        status = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = entry.USER_ERROR
    sys.exit(status)


if __name__ == "__main__":
    run()
