"""The parts of a sweep that run inside Ray: a supervisor on the head node, and a task for each job.

A task starts its job as a child process, as the local backend does. JAX starts in that process, and sees the devices
that Ray gave to the task. The task passes a cancel, or a SIGTERM to its worker, on to the job, which then ends after
the current chunk. If the worker is killed, the kernel kills the job too: Ray starts the task again, and two processes
must not work on one run directory.
"""

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pgd_jax.cli import entry
from pgd_jax.core import signals
from pgd_jax.launch import attempts, job_list, local, local_devices
from pgd_jax.launch.backend import RUNNING, STOPPING, WAITING
from pgd_jax.launch.sweep import Job

FORWARD_S = 0.5
CANCELLED = "SIGINT"  # how ray.cancel interrupts a task
# Takes its parent's process id, then arguments of Python. Runs Python on these; is killed when the parent dies.
LEASH = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class Supervisor:
    """The actor that owns the tasks of one sweep. It ends after the last of them.

    Ray kills tasks whose owner is gone. A command that submits is gone soon, and so may be any node but the head node.
    So the owner is a detached actor on the head node.
    """

    def __init__(self, workdir: str):
        self._workdir = workdir
        self._jobs = job_list.load(pathlib.Path(workdir))  # raises if this node does not see the workdir
        self._states: dict[int, str] = {}  # by the number of a line
        self._tasks: dict[int, asyncio.Task] = {}
        self._refs: dict[int, Any] = {}  # of the jobs that Ray has, running or queued

    async def submit(self, numbers: Sequence[int], wanted: Mapping[str, Any], num_parallel: int, cwd: str) -> int:
        """Runs lines of the list as tasks with the options `wanted`, `num_parallel` at a time (0: all at once).

        It skips lines that it has already. Returns how many were new.
        """
        new = [number for number in numbers if number not in self._states]
        room = asyncio.Semaphore(num_parallel or len(numbers))
        for number in new:
            self._states[number] = WAITING
            self._tasks[number] = asyncio.create_task(self._run(number, wanted, room, cwd))
        return len(new)

    async def began(self, number: int) -> None:
        if self._states.get(number) == WAITING:
            self._states[number] = RUNNING

    async def states(self) -> dict[int, str]:
        return dict(self._states)

    async def cancel(self) -> dict[int, str]:
        """Tells all jobs to stop. Returns their states."""
        import ray

        for number in [number for number, state in self._states.items() if state != STOPPING]:
            self._states[number] = STOPPING
            if number in self._refs:
                ray.cancel(self._refs[number])
            else:
                self._tasks[number].cancel()
        return dict(self._states)

    async def _run(self, number: int, wanted: Mapping[str, Any], room: asyncio.Semaphore, cwd: str) -> None:
        import ray

        context, job = ray.get_runtime_context(), self._jobs[number]
        try:
            async with room:
                task = ray.remote(run_job).options(name=job.name, **wanted)
                self._refs[number] = task.remote(self._workdir, number, cwd, context.current_actor)
                await self._refs[number]
        except (asyncio.CancelledError, ray.exceptions.TaskCancelledError):
            pass
        except Exception as error:  # Ray failed, or the job could not start; a job that fails raises nothing
            said = f"Ray: {last_line(error)}"
            attempts.end(job.state, attempts.begin(job.state, 0), 1, said)
        for held in (self._states, self._tasks, self._refs):
            held.pop(number, None)
        if not self._states:
            ray.kill(context.current_actor)


def run_job(workdir: str, number: int, cwd: str, supervisor: Any) -> None:
    """The task of one job. It returns when the job has ended, also if it failed or was cancelled."""
    import ray

    supervisor.began.remote(number)
    context, folder = ray.get_runtime_context(), pathlib.Path(workdir)
    job = leashed(job_list.load(folder)[number])
    slots = [environment(context.get_assigned_resources())]
    with contextlib.chdir(cwd), _forwarded(job.log), signals.command():
        local.run_jobs([job], folder, 1, lambda line: print(line, flush=True), slots, context.get_task_id() or "")
        if signals.found() not in ("", CANCELLED):
            sys.exit(entry.STOPPED)  # the worker must end: Ray takes it for dead, and starts the task again


class _Leashed(Job):
    @property
    def argv(self) -> tuple[str, ...]:
        return ("-c", LEASH, str(os.getpid()), *super().argv)


def leashed(job: Job) -> Job:
    """The same job, whose process is killed when this process dies."""
    return _Leashed(**{field.name: getattr(job, field.name) for field in dataclasses.fields(job)})


def environment(given: Mapping[str, float]) -> local_devices.Slot:
    """Environment variables of a job by the resources of its task, besides those that Ray has set in its worker."""
    gpus = given.get("GPU", 0.0)
    if gpus or given.get("TPU"):
        return {local_devices.FRACTION: f"{local_devices.SHARE_USED * gpus:.3f}"} if 0.0 < gpus < 1.0 else {}
    own = {"JAX_PLATFORMS": "cpu"}  # Ray does not hide GPUs and TPUs from a task without any
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        own["JAX_NUM_CPU_DEVICES"] = str(max(1, int(given.get("CPU", 1.0))))
    return own


def last_line(error: Exception) -> str:
    """The last line of an error's text, which says the most: the lines before it are a traceback."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


@contextlib.contextmanager
def _forwarded(log: pathlib.Path) -> Iterator[None]:
    """Copies new lines of `log` to this worker's output within the block. Ray shows and keeps that."""
    is_over = threading.Event()

    def copy() -> None:
        with open(log, "ab+") as file:  # creates it if needed
            while True:
                is_last = is_over.wait(FORWARD_S)
                sys.stdout.write(file.read().decode(errors="replace"))
                sys.stdout.flush()
                if is_last:
                    return

    thread = threading.Thread(target=copy)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
