"""Sweeps from Python, with the actions of `pgd-launch`: submit, status, cancel, collect.

import pgd_jax as pgd

sweep = dict(command="train_agent", grid={"agent": ["td3_bc", "iql"]}, flags=["--config.denoiser=runs/umaze"])
pgd.launch.submit("runs/study", **sweep, backend="slurm", gpus=1, time="4:00:00")
for job in pgd.launch.status("runs/study"):
    print(job.name, job.state, job.phases_done, job.score)
pgd.launch.collect("runs/study")
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pgd_jax.core import logging, places
from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest
from pgd_jax.launch import backend as backends, job_list, options as all_options, progress, sweep
from pgd_jax.launch.backend import Say, Unfinished
from pgd_jax.launch.progress import JobStatus

BACKEND_FILE = "backend.json"  # which backend the sweep was last submitted to


def submit(
    workdir: str | os.PathLike,
    *,
    command: str = "train_agent",
    grid: Mapping[str, Sequence[Any]] | str = "",
    flags: Sequence[str] = (),
    backend: str = "local",
    say: Say = print,
    **options: Any,
) -> Unfinished | None:
    """Writes the list of jobs into `workdir`, or continues the list that is there, and starts the unfinished jobs.

    Args:
        command: the command of a job: train_agent, train_denoiser, train_behaviour, train_world_model.
        grid: static settings, a job for each combination: {"agent": ["td3_bc", "iql"]}, or as on the command line.
        flags: flags of every job, such as "--config.num_seeds=8".
        backend: "local" runs the jobs and returns when they have ended, and so does "ray" if no cluster runs; the
            others hand them to a scheduler.
        say: function that gets each line of output.
        options: resources, and options of the backend; launch/options.py lists them.

    Returns:
        The jobs that failed or were stopped; None if a scheduler has them.

    Raises:
        UserError: for wrong arguments, and if `workdir` holds another sweep. Nothing is started then.
    """
    chosen, folder = backends.get(backend), _folder(workdir)
    jobs, of_submission = _checked(command, grid, flags, backend, folder, options)
    if of_submission.dry_run:
        return chosen.submit(jobs, folder, of_submission, say)
    if of_submission.only_list:
        job_list.freeze(jobs, folder)
        say(f"{folder / job_list.FILE}: {len(jobs)} jobs; python -m pgd_jax.launch.task {folder} 0 runs the first")
        return None
    _check_left(folder, backend)
    with _kept_if_accepted(folder):
        if job_list.freeze(jobs, folder):
            say(f"{folder}: goes on with the {len(jobs)} jobs of its list")
        if not (folder / BACKEND_FILE).exists() or _backend_name(folder) != backend:
            places.replace_text(folder / BACKEND_FILE, json.dumps({"backend": backend}) + "\n")
        return chosen.submit(jobs, folder, of_submission, say)


def _checked(
    command: str,
    grid: Mapping[str, Sequence[Any]] | str,
    flags: Sequence[str],
    backend: str,
    folder: pathlib.Path,
    options: Mapping[str, Any],
) -> tuple[list[sweep.Job], all_options.Options]:
    """The jobs and the options to submit them with. Raises UserError for wrong arguments."""
    known = all_options.names()
    if unknown := [name for name in options if name not in known]:
        near = nearest(unknown[0], known)
        raise UserError(f'unknown option "{unknown[0]}"{near} (known: {", ".join(known)})')
    resources, of_submission = all_options.build(backend, options)
    parsed = sweep.parse_grid(grid) if isinstance(grid, str) else _as_grid(grid)
    jobs = sweep.jobs(command, flags, parsed, folder, resources)
    if backend != "local":
        sweep.check_settings(command, flags)
    return jobs, of_submission


@contextlib.contextmanager
def _kept_if_accepted(folder: pathlib.Path) -> Iterator[None]:
    """Restores the folder's two files if the block raises UserError: nothing was started with the new ones."""
    files = [folder / name for name in (job_list.FILE, BACKEND_FILE)]
    before = {file: file.read_text(encoding="utf-8") if file.exists() else None for file in files}
    try:
        yield
    except UserError:
        for file, text in before.items():
            if text is None:
                file.unlink(missing_ok=True)
            elif file.read_text(encoding="utf-8") != text:
                places.replace_text(file, text)
        raise


def _check_left(folder: pathlib.Path, backend: str) -> None:
    """Raises UserError if another backend still has jobs of the sweep: two jobs would share a run directory."""
    if not (folder / BACKEND_FILE).exists() or (old := _backend_name(folder)) == backend:
        return
    held: Mapping[str, backends.Known] = {}
    with contextlib.suppress(UserError):  # it cannot be asked from here
        held = backends.get(old).status(job_list.load(folder), folder)
    if held:
        raise UserError(f"{old} still has {len(held)} jobs of {folder}; cancel them first, or wait for them")


def status(workdir: str | os.PathLike) -> list[JobStatus]:
    """The status of each job, in the order of the list. Raises UserError if `workdir` holds no sweep.

    If the scheduler cannot be asked, as for a sweep that was copied from its cluster, one message says so.
    """
    folder = _folder(workdir)
    jobs = job_list.load(folder)
    known = _known(jobs, folder)
    return [progress.of_job(job, known.get(job.name)) for job in jobs]


def _known(jobs: Sequence[sweep.Job], folder: pathlib.Path) -> Mapping[str, backends.Known]:
    """The jobs that the scheduler knows, by name. If it cannot be asked, there are none, and a message says so."""
    chosen = _backend(folder)
    try:
        return chosen.status(jobs, folder)
    except UserError as error:
        logging.info(f"{error}. The states are those that the sweep's folder knows")
        return {}


def cancel(workdir: str | os.PathLike) -> str:
    """Tells all jobs to stop after the current chunk; their work so far is kept. Returns a message on what was done."""
    folder = _folder(workdir)
    return _backend(folder).cancel(job_list.load(folder), folder)


def collect(workdir: str | os.PathLike, out: str | os.PathLike | None = None) -> pathlib.Path:
    """Writes results.csv and a report over all jobs into `out` (default: <workdir>/report). Returns the page.

    Unfinished and failed jobs count with the results that they have, and the page names them.
    """
    from pgd_jax.report import jobs as report  # on use: it needs JAX

    folder = _folder(workdir)
    jobs = job_list.load(folder)
    known = _known(jobs, folder)
    found = [
        report.Found(job.run_dir, tuple(job.own_settings), *progress.state_of(job, known.get(job.name))) for job in jobs
    ]
    return report.write(folder / "report" if out is None else _folder(out), found)


def _folder(workdir: str | os.PathLike) -> pathlib.Path:
    if not os.fspath(workdir).strip():
        raise UserError("workdir is empty, and would be the current folder; name one")
    return pathlib.Path(workdir).expanduser()


def _backend(folder: pathlib.Path) -> backends.Backend:
    return backends.get(_backend_name(folder))


def _backend_name(folder: pathlib.Path) -> str:
    try:
        return json.loads((folder / BACKEND_FILE).read_text(encoding="utf-8"))["backend"]
    except FileNotFoundError:
        return "local"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / BACKEND_FILE} cannot be read ({error}); remove it, and submit again") from None


def _as_grid(grid: Mapping[str, Sequence[Any]]) -> sweep.Grid:
    """The grid with values as text, as on a command line, checked in the same way."""
    for name, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise UserError(f"grid: {name}={values!r} must be a list of values, such as [8, 16]")
    texts = {name: [_text(value) for value in values] for name, values in grid.items()}
    return sweep.parse_grid("; ".join(f"{name}={','.join(values)}" for name, values in texts.items()))


def _text(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if "," in text or ";" in text:
        raise UserError(f'grid: the value "{text}" holds a comma or semicolon, which part values; rename it')
    return text
