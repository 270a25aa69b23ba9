"""A command as a process group of its own, and the folder that it works in as seen from outside."""

import contextlib
import io
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pgd_jax.runs import metrics, records, rundir
from tests import commands
from tests.stress.kinds import Kind, environment

TIMEOUT_S = 300.0
POLL_S = 0.002
NUMBER = re.compile(r"step_(\d+)")

Content = dict[str, Any]  # of each run by its place in the folder


class Undisturbed(NamedTuple):
    content: Content
    path: pathlib.Path
    span_s: float  # from the first file of a run to the end


class Command(NamedTuple):
    """A kind of command in one folder. What its process says is in a file beside the folder."""

    kind: Kind
    path: pathlib.Path
    log: pathlib.Path
    cache: pathlib.Path

    def start(self) -> subprocess.Popen:
        with open(self.log, "wb") as log:
            line = [sys.executable, *self.kind.line(self.path)]
            options = dict(stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            return subprocess.Popen(line, env=environment(self.kind, self.cache), **options)

    def finish(self) -> None:
        """Starts it and waits for its end, which must be a good one."""
        status = ended(self.start())
        assert status == 0, f"{self.path}: exit status {status}: {self.said()[-5:]}"

    def said(self) -> list[str]:
        """The lines of the last process, each state of the progress bar too."""
        return [line for line in re.split(r"[\r\n]+", self.log.read_text(errors="replace")) if line.strip()]

    def content(self) -> Content:
        """Of all runs in the folder, which must be at their end."""
        unfinished = [run for run in runs(self.path) if not rundir.is_at_end(run)]
        assert not unfinished, f"not finished: {unfinished}"
        with contextlib.redirect_stderr(io.StringIO()):  # each says what it reads
            return {str(run.relative_to(self.path)): commands.content(run) for run in runs(self.path)}

    def undisturbed(self) -> Undisturbed:
        """Runs it from the start to the end."""
        process = self.start()
        began = wait_for(process, lambda: any(locks(self.path))) and time.monotonic()
        status = ended(process)
        assert began and status == 0, f"{self.path}: exit status {status}: {self.said()[-5:]}"
        return Undisturbed(self.content(), self.path, time.monotonic() - began)


def wait_for(process: subprocess.Popen, condition: Callable[[], bool]) -> bool:
    """Whether `condition` came true before the process ended."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if process.poll() is not None:
            return False
        if time.monotonic() > deadline:
            kill_all(process)
            raise TimeoutError(f"process {process.pid} did nothing for {TIMEOUT_S} s")
        time.sleep(POLL_S)
    return True


def ended(process: subprocess.Popen) -> int:
    """The exit status, once it is there."""
    try:
        return process.wait(TIMEOUT_S)
    finally:
        if process.returncode is None:
            kill_all(process)


def kill_all(process: subprocess.Popen) -> None:
    """SIGKILL to the process and all that it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def runs(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(file.parent for file in path.rglob(records.CONFIG))


def locks(path: pathlib.Path) -> dict[pathlib.Path, int]:
    """When each run in the folder was last opened by a process."""
    return {file: file.stat().st_mtime_ns for file in path.rglob(rundir.LOCK)}


def num_checkpoints(run: pathlib.Path) -> int:
    """The newest checkpoint's number by its name alone; 0 before the first."""
    found = [NUMBER.fullmatch(folder.name) for folder in (run / "checkpoints").glob("step_*")]
    return max((int(match[1]) for match in found if match), default=0)


def state(path: pathlib.Path) -> str:
    """How far each run is, for the log."""
    about = []
    for run in runs(path):
        unfinished = any((run / "checkpoints").glob("*partial"))
        has_rows = (run / "metrics.jsonl").exists()
        newest = metrics.read(run / "metrics.jsonl")[-1:] if has_rows else []
        rows = f"rows to phase {newest[0]['phase']}" if newest else "no rows"
        about.append(f"checkpoint {num_checkpoints(run)}, {rows}{', a checkpoint half written' * unfinished}")
    return "; ".join(about) or "nothing"
