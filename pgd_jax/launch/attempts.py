"""The outcome of a job's last attempt: <job>.state, written by the process that starts the job's process.

It tells how a job failed. It does not tell whether a run is finished: only the run directory knows that.
"""

import contextlib
import json
import os
import pathlib
import socket
import time
from typing import NamedTuple

from pgd_jax.core import places


class Attempt(NamedTuple):
    began: float  # seconds since 1970
    host: str
    process: int
    task: str = ""  # the scheduler's name for it
    ended: float = 0.0  # 0: the end was not recorded
    exit_status: int = 0  # as subprocess has it: minus the signal that killed it
    said: str = ""  # the last line of its log, if it failed

    @property
    def is_over(self) -> bool:
        return self.ended > 0.0


def begin(state: pathlib.Path, process: int, task: str = "") -> Attempt:
    attempt = Attempt(time.time(), socket.gethostname(), process, task)
    _write(state, attempt)
    return attempt


def end(state: pathlib.Path, attempt: Attempt, exit_status: int, said: str) -> None:
    _write(state, attempt._replace(ended=time.time(), exit_status=exit_status, said=said))


def read(state: pathlib.Path) -> Attempt | None:
    """The attempt; None if the job was never started, or if a crash cut the file."""
    try:
        return Attempt(**json.loads(state.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def is_alive(attempt: Attempt) -> bool:
    """Whether its process still runs, as far as can be seen from this machine."""
    if attempt.is_over or attempt.host != socket.gethostname():
        return False
    try:
        os.kill(attempt.process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return True


def exit_text(status: int) -> str:
    """A text for an exit status of `Attempt` other than 0."""
    return f"exit status {status}" if status > 0 else f"signal {-status}"


def _write(state: pathlib.Path, attempt: Attempt) -> None:
    with contextlib.suppress(OSError):  # a full disk stops no job
        places.replace_text(state, json.dumps(attempt._asdict()) + "\n")
