"""The seam between a sweep and what runs its jobs: three functions over the frozen list.

A backend starts `python -m pgd_jax.launch.task <workdir> <index>` for a line of the list, somewhere that sees the
workdir; the local one and Ray's start the line's own command. One more is one more module of this folder, named in
`MODULES`, with its options in options.TAKES.
"""

import importlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest
from pgd_jax.launch.options import Options
from pgd_jax.launch.sweep import Job

Say = Callable[[str], None]

MODULES = {
    "local": "pgd_jax.launch.local",
    "slurm": "pgd_jax.launch.slurm",
    "kubernetes": "pgd_jax.launch.kubernetes",
    "ray": "pgd_jax.launch.ray",
}
WAITING, RUNNING, STOPPING = "waiting", "running", "stopping"


class Unfinished(NamedTuple):
    """Names of jobs."""

    failed: list[str]
    stopped: list[str]  # by a signal, or did not come to run: the same command goes on with them


class Known(NamedTuple):
    """What a scheduler says of a job that it knows."""

    state: str  # WAITING, RUNNING or STOPPING
    about: str = ""  # its own name for the job, and why it waits


class Backend(NamedTuple):
    """All jobs are in one workdir, whose list is frozen. Raises UserError, with the scheduler's own words."""

    # Runs the jobs, and returns which did not finish; None where a scheduler runs them from now on.
    submit: Callable[[Sequence[Job], pathlib.Path, Options, Say], Unfinished | None]
    status: Callable[[Sequence[Job], pathlib.Path], Mapping[str, Known]]  # by the job's name
    cancel: Callable[[Sequence[Job], pathlib.Path], str]  # tells all jobs to stop; says what it did


def get(name: str) -> Backend:
    """Raises UserError for an unknown name."""
    if name not in MODULES:
        raise UserError(f'unknown backend "{name}"{nearest(name, MODULES)} (known: {", ".join(MODULES)})')
    return importlib.import_module(MODULES[name]).BACKEND
