"""A small disk on which another file takes the room while a command runs."""

import contextlib
import os
import pathlib
import random
import re
import subprocess
import time
from collections.abc import Iterator

from tests.stress import processes
from tests.stress.kills import Say
from tests.stress.kinds import Kind
from tests.stress.processes import Command, Undisturbed

DISK_BYTES = 32 << 20
PAGE_BYTES = 4096
SHARE = 0.75  # of a checkpoint's room is left at the most, as checkpoints differ a little in size
# What a command says besides: how far it is, what a run reads and takes, where it writes, and that it goes on.
USUAL = re.compile(r" left$| in all$|held out$|which is read$|: takes |: every number goes to |: resuming after ")


class CannotMount(Exception):
    """Mounting a disk takes root."""


def fill_often(
    kind: Kind, folder: pathlib.Path, cache: pathlib.Path, wanted: Undisturbed, num_places: int, chance: random.Random,
    say: Say,
) -> None:  # fmt: skip
    """Runs a command `num_places` times, each with a disk that is full from another checkpoint on.

    It must end with one line, also when it is started again; and with room, as the undisturbed one.
    """
    run = next(iter(processes.runs(wanted.path)))
    last = processes.num_checkpoints(run)
    for place in range(num_places):
        after, share = place * last // num_places, SHARE * chance.random()
        spare = int(share * _taken(run / "checkpoints" / f"step_{last:08d}"))
        about = f"{kind.name}, full after checkpoint {after} but for {spare} bytes"
        with small_disk(folder / f"disk_{place}") as disk:
            command = Command(kind, disk / "run", folder / f"{place}.log", cache)
            line = _fill_while_running(command, disk, after, spare)
            state = processes.state(command.path)
            _check_refused(processes.ended(command.start()), command)
            (disk / "filler").unlink()
            command.finish()
            assert command.content() == wanted.content, f"{about}: not the undisturbed run"
        say(f"{about}: {line.replace(str(disk), '')} ({state}); with room again bitwise the undisturbed one")


@contextlib.contextmanager
def small_disk(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Raises CannotMount where this user may not."""
    path.mkdir(parents=True)
    line = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(path)]
    try:
        done = subprocess.run(line, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise CannotMount from error
    if done.returncode:
        raise CannotMount(done.stderr.strip())
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def _fill_while_running(command: Command, disk: pathlib.Path, after: int, spare: int) -> str:
    """Takes all room but `spare` bytes once checkpoint `after` is there, until the process ends; returns its error."""
    with open(disk / "filler", "wb") as filler:
        if after == 0:
            _fill(filler.fileno(), disk, spare)
        process = command.start()
        processes.wait_for(process, lambda: processes.num_checkpoints(command.path) >= after)
        while process.poll() is None:
            _fill(filler.fileno(), disk, spare)
            time.sleep(processes.POLL_S)
    return _check_refused(process.returncode, command)


def _fill(filler: int, disk: pathlib.Path, spare: int) -> None:
    about = os.statvfs(disk)
    size = (about.f_bavail * about.f_frsize - spare) // PAGE_BYTES * PAGE_BYTES
    if size > 0:
        with contextlib.suppress(OSError):  # the command was faster
            os.posix_fallocate(filler, os.fstat(filler).st_size, size)


def _check_refused(status: int, command: Command) -> str:
    """The one line with which a command must end where there is no room."""
    lines = [line for line in command.said() if not USUAL.search(line)]
    assert status == 2 and len(lines) == 1, f"{command.path}: exit status {status}: {lines[-5:]}"
    assert lines[0].startswith("error: ") and "No space left on device" in lines[0], lines
    return lines[0]


def _taken(folder: pathlib.Path) -> int:
    """Bytes of a folder's files in whole pages."""
    return sum(-(-file.stat().st_size // PAGE_BYTES) * PAGE_BYTES for file in folder.rglob("*") if file.is_file())
