"""The host's side of a run: dispatch the next chunk, then log and checkpoint the one before while the device works."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from pgd_jax.core import logging, processes, signals
from pgd_jax.core.errors import Diverged
from pgd_jax.runs import checkpoint, footprint, log, metrics, progress, records, rests, rundir
from pgd_jax.runs.rundir import RunDir
from pgd_jax.runs.sinks import base as sink_seam

State = Any  # a pytree of arrays; donated from chunk to chunk


class Job(NamedTuple):
    """A run as a sequence of equal chunks, each one call of a compiled program."""

    advance: Callable[[State], tuple[State, dict[str, jax.Array]]]  # dispatches one chunk
    # (chunk, its metrics on the host, seconds it took) -> rows for metrics.jsonl, each with "lane" and "phase"
    rows: Callable[[int, dict[str, Any], float], list[metrics.Row]]
    summary: Callable[[list[metrics.Row]], str]  # the newest rows in a few words
    num_chunks: int
    phases_per_chunk: int  # phases (rows a lane) a chunk; checkpoint k is written after phase k * phases_per_chunk - 1
    units_per_chunk: int  # what the user sees counted
    unit: str
    metadata: dict[str, Any]  # JSON data kept with each checkpoint
    # (chunk, a copy of the state after it, its rows) -> the rows with what the host measures, while the device works on
    judge: Callable[[int, State, list[metrics.Row]], list[metrics.Row]] | None = None
    is_done: Callable[[], bool] = lambda: False  # whether to end before `num_chunks`; asked before each dispatch


def training(
    advance: Callable[[State], tuple[State, dict[str, jax.Array]]],
    num_steps: int,
    steps_per_chunk: int,
    shown: tuple[str, ...],
    metadata: dict[str, Any],
) -> Job:
    """A network's training as a job: one lane, a row a chunk with the metrics of `advance`; `shown` is said of it."""

    def rows(chunk: int, found: dict[str, Any], seconds: float) -> list[metrics.Row]:
        return [{"lane": 0, "phase": chunk, "step": (chunk + 1) * steps_per_chunk, **found, "wall_s": seconds}]

    def summary(rows: list[metrics.Row]) -> str:
        return ", ".join(f"{name} {rows[-1][name]:.4f}" for name in shown if name in rows[-1])

    return Job(
        advance, rows, summary, num_chunks=num_steps // steps_per_chunk, phases_per_chunk=1,
        units_per_chunk=steps_per_chunk, unit="step", metadata=metadata,
    )  # fmt: skip


class Ready(NamedTuple):
    """A run that is compiled, and can start."""

    job: Job
    initial: Callable[[], State]
    template: State  # shapes of the state, and where it lies
    needed: footprint.Footprint


def check(path: str | os.PathLike, sinks: Sequence[str]) -> None:
    """Raises UserError where no run can be made in `path`, or nothing sent to `sinks`: before anything is read."""
    rundir.check_place(path)
    sink_seam.check(sinks)


def fit(
    path: str | os.PathLike,
    kind: str,
    config: dict[str, Any],
    rests_on: dict[str, rests.Rest],
    make_ready: Callable[[], Ready],
    only_check: bool,
    sinks: Sequence[str] = (),
) -> bool:
    """What every kind of run does once its data is read: looks whether it is there, compiles, and runs or rehearses.

    Returns whether it is finished. `config` is the run's, as plain data; `sinks` are where its numbers go besides.
    """
    records.check_rests(path, kind, rests_on)
    if rundir.is_finished(path, kind, config):
        logging.info(f"{path}: already finished")
        if sinks and not only_check:
            with rundir.open_run(path, kind, config) as directory:
                log.show(directory, sinks)
        return True
    processes.check()
    ready = make_ready()
    footprint.announce(path, ready.needed)
    if only_check:
        return rehearse(ready.job, path, ready.initial)
    with rundir.open_run(path, kind, config, rests.as_record(path, rests_on)) as directory:
        return run(ready.job, directory, ready.initial, ready.template, sinks)


def run(job: Job, directory: RunDir, initial: Callable[[], State], template: State, sinks: Sequence[str] = ()) -> bool:
    """Runs or resumes `job` to its end, or to SIGTERM or SIGINT; returns whether it finished.

    Progress survives a kill at any moment: rows are written before the checkpoint that covers them and cut back to it
    on resume. Raises Diverged at the first value that is not finite, keeping the checkpoint before it.
    """
    is_first = processes.is_first()
    processes.check()
    with signals.at_once():
        state, chunk = _start(directory, initial, template)
    last_phase = chunk * job.phases_per_chunk - 1
    writing = log.Log(directory, sinks, last_phase) if is_first else contextlib.nullcontext()
    with writing as written, signals.graceful() as stop, _progress(job, str(directory.path), chunk) as shown:
        chunk = _advance(job, directory, written, shown, stop, state, chunk)
        is_finished = chunk == job.num_chunks or job.is_done()
        if is_finished and is_first:
            directory.mark_finished(chunk)
        stop.is_unheeded = is_finished and bool(stop)
    if not is_finished:
        by = f" by {stop.signal}" if stop else ", as another process was,"
        done = f"after chunk {chunk} of {job.num_chunks}"
        logging.warning(f"{directory.path}: stopped{by} {done}; the same command resumes")
    return is_finished


def rehearse(job: Job, name: str | os.PathLike, initial: Callable[[], State]) -> bool:
    """Runs one chunk, says how long all of them would take, and keeps nothing; returns True."""
    state = jax.block_until_ready(initial())
    began = time.perf_counter()
    with signals.at_once():
        jax.block_until_ready(job.advance(state))
    seconds = time.perf_counter() - began
    logging.info(
        f"{os.fspath(name)}: would run {job.num_chunks} chunks of {job.units_per_chunk} {job.unit}s; one takes "
        f"{seconds:.3g} s, all {progress.duration(seconds * job.num_chunks)}; nothing was written"
    )
    return True


def run_in_memory(job: Job, name: str, initial: Callable[[], State]) -> tuple[State, list[metrics.Row]]:
    """Runs `job` to its end and keeps nothing on the disk; returns (the last state, all rows). `name` is for the user.

    The first SIGINT ends it after the chunk in progress, by KeyboardInterrupt. Raises Diverged as `run` does.
    """
    state, rows = initial(), []
    with signals.graceful() as stop, _progress(job, name, 0) as shown:
        for chunk in range(job.num_chunks):
            began = time.perf_counter()
            state, chunk_metrics = job.advance(state)
            jax.block_until_ready((state, chunk_metrics))
            new = job.rows(chunk, jax.device_get(chunk_metrics), time.perf_counter() - began)
            if job.judge is not None:
                new = job.judge(chunk, state, new)
            _check_finite(name, new)
            rows += new
            shown.chunk_done(job.summary(new))
            if stop:
                raise KeyboardInterrupt(f"{name}: {stop.signal} after chunk {chunk + 1} of {job.num_chunks}")
    return state, rows


def _progress(job: Job, name: str, chunk: int) -> progress.Progress:
    """At `chunk`; only the first process says anything."""
    return progress.Progress(
        name, job.unit, job.units_per_chunk, job.num_chunks, chunk, is_hidden=not processes.is_first()
    )


def _start(directory: RunDir, initial: Callable[[], State], template: State) -> tuple[State, int]:
    if not checkpoint.exists(directory.checkpoints_path):
        return initial(), 0
    chunk, state = checkpoint.restore(directory.checkpoints_path, template)
    logging.info(f"{directory.path}: resuming after chunk {chunk}")
    return state, chunk


def _advance(
    job: Job,
    directory: RunDir,
    written: log.Log | None,
    shown: progress.Progress,
    stop: signals.Interrupt,
    state: State,
    chunk: int,
) -> int:
    """Chunks `chunk`, `chunk` + 1, ... until the end or a signal; returns how many are done and on the disk.

    Without a log, in processes but the first, values that are not finite are looked for, and nothing is written.
    """

    def settle(done: int, snapshot: State, chunk_metrics: dict[str, jax.Array], seconds: float) -> None:
        rows = job.rows(done - 1, jax.device_get(chunk_metrics), seconds)
        if written is not None:
            if job.judge is not None:
                rows = job.judge(done - 1, snapshot, rows)
            written.write(rows)
        _check_finite(directory.path, rows)
        checkpoint.save(directory.checkpoints_path, done, snapshot, job.metadata | {"run": directory.record})
        shown.chunk_done(job.summary(rows))

    pending, began = None, time.perf_counter()
    compiling: Callable[[], contextlib.AbstractContextManager[None]] = signals.at_once
    while chunk < job.num_chunks and not processes.any_of(bool(stop)) and not job.is_done():
        if pending is not None and processes.are_several():
            # Saving lets the processes meet, which they must not do while a chunk lets them meet too.
            settle(*pending)
            pending = None
        with compiling():  # the first of them compiles, for a long time and with nothing to keep
            state, chunk_metrics = job.advance(state)
        compiling = contextlib.nullcontext
        if pending is not None:
            settle(*pending)
        # Signal handlers run while waiting here; converting first would block them.
        jax.block_until_ready((state, chunk_metrics))
        chunk, now = chunk + 1, time.perf_counter()
        # The next chunk takes the state's buffers, so the checkpoint needs its own.
        snapshot, chunk_metrics = processes.readable((state, chunk_metrics))
        pending, began = (chunk, snapshot, chunk_metrics, now - began), now
    if pending is not None:
        settle(*pending)
    return chunk


def _check_finite(name: str | os.PathLike, rows: list[metrics.Row]) -> None:
    found = metrics.first_nonfinite(rows, dict.fromkeys(key for row in rows for key in row))
    if found is not None:
        row = next(row for row in rows if row["lane"] == found.lane and row["phase"] == found.phase)
        about = ", ".join(f"{key} {row[key]}" for key in ("seed", "setting") if key in row)
        raise Diverged(
            f"{name}: {found.key} is not finite in lane {found.lane}, phase {found.phase} ({about}). "
            "Stopped; checkpoints from before are kept. Try a lower learning rate or coefficient in a new directory"
        )
