"""Stopping cleanly: a signal sets a flag; long work looks at it, and training ends after the chunk in progress.

In a command no handler ever raises. An exception would come up wherever the main thread is at that moment: inside one
of JAX's callbacks it is lost, or crashes the process. Python runs handlers only between two bytecodes of the main
thread, not while XLA compiles; so a thread of its own reads every signal as it comes, says so, and ends the process at
the second Ctrl-C whatever the main thread does; at the first signal already where there is nothing to keep (`at_once`).
Run directories and files survive that, as they survive SIGKILL.
"""

import contextlib
import itertools
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from pgd_jax.core import logging
from pgd_jax.core.errors import Stopped

# HUP: the terminal is gone. USR1: a batch system's warning of a time limit.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
# Exit statuses: stopped before its end, and the same command goes on (EX_TEMPFAIL of sysexits.h); as shells have it.
STOPPED, KILLED_BY_SIGINT = 75, 130


class Interrupt:
    """True once one of SIGNALS came; `signal` is its name ("" before)."""

    def __init__(self):
        self.signal = ""
        self.is_unheeded = False  # whether it came too late to stop anything
        self.num_at_once = 0  # blocks of `at_once` that are open
        self._num_sigint = 0

    def __bool__(self) -> bool:
        return bool(self.signal)

    def flag(self, number: int, frame: FrameType | None = None) -> None:
        """A handler. Runs between two bytecodes of whatever the main thread does: sets fields, nothing else."""
        self.signal = signal.Signals(number).name

    def flag_or_raise(self, number: int, frame: FrameType | None = None) -> None:
        """A handler that raises KeyboardInterrupt at the second SIGINT."""
        self.flag(number)
        self._num_sigint += number == signal.SIGINT
        if self._num_sigint > 1:
            raise KeyboardInterrupt


_command: Interrupt | None = None  # while this process is a command
_is_one_of_several = False
_is_for_good = False  # whether it is a command to its end


def begin_if_started(package: str, scripts: str = "") -> None:
    """Makes this process a command, to its end, if Python was started on `package` (or in it, by -m), or on a script.

    For the first lines of our packages, as the imports of a command are the longest part of its start. `scripts` is a
    pattern of the names of console scripts. A user's own program never becomes a command by an import.
    """
    script = os.path.basename(_first_argument())
    if f"{_module_started()}.".startswith(f"{package}.") or (scripts and re.fullmatch(scripts, script)):
        global _is_for_good
        _is_for_good = True
        logging.protect()  # before a descriptor is opened that could take the number of a closed stderr
        begin()


def _module_started() -> str:
    """What `python -m` was given; "" where Python was started otherwise, or has come past the module's import."""
    if _first_argument() != "-m":
        return ""
    for word, following in itertools.pairwise([*sys.orig_argv[1:], ""]):
        options, found, rest = word.partition("m")
        if word.startswith("-") and found and not options.startswith(("-X", "-W", "--")):
            return rest or following
    return ""


def _first_argument() -> str:
    """Where Python is embedded there is none."""
    return next(iter(sys.argv), "")


def leave() -> None:
    """At the end of a command: signals have nothing more to stop, and must not spoil its exit status."""
    if _is_for_good:
        _install(signal.SIG_IGN)


@contextlib.contextmanager
def command() -> Iterator[None]:
    """Makes this process a command within the block. Nothing happens within another such block."""
    if _command is not None:
        yield
        return
    end = begin()
    try:
        yield
    finally:
        end()


def begin() -> Callable[[], None]:
    """Makes this process a command until the returned function is called: signals only set a flag, see `check`.

    A second SIGINT ends the process at once. In any thread but the main one nothing happens.
    """
    global _command
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    _command = Interrupt()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    old = _install(_command.flag)
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading, _command), daemon=True, name="signals").start()

    def end() -> None:
        global _command
        signal.set_wakeup_fd(wakeup)
        _restore(old)
        os.close(writing)  # which ends the thread
        _command = None

    return end


def _watch(reading: int, interrupt: Interrupt) -> None:
    said, num_sigint = set(), 0
    while numbers := os.read(reading, 64):
        for number in filter(lambda number: number in SIGNALS, numbers):
            interrupt.flag(number)
            num_sigint += number == signal.SIGINT
            if num_sigint > 1:
                os._exit(KILLED_BY_SIGINT)
            if interrupt.num_at_once:
                _write(stopped_by(interrupt.signal))
                os._exit(STOPPED)
            if number not in said:
                said.add(number)
                again = " (Ctrl-C again ends it at once)" if number == signal.SIGINT else ""
                _write(f"{interrupt.signal}: stopping as soon as it is safe{again}")
    os.close(reading)


def _write(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode())


def stopped_by(name: str) -> str:
    return f"stopped by {name}; the same command begins again, or goes on"


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Within the block, of long work without anything to keep, a command ends at the first signal, wherever it is.

    `check` comes first. Not in one of several processes, which would leave the others waiting.
    """
    check()
    command = _command if not _is_one_of_several else None
    if command is None:
        yield
        return
    command.num_at_once += 1
    try:
        yield
    finally:
        command.num_at_once -= 1
    check()


def check() -> None:
    """To be called before anything long: raises Stopped where a signal has come. Nothing happens outside commands.

    Nor in one of several processes, which would leave the others waiting: they look together, `processes.check`.
    """
    if _command and not _is_one_of_several:
        raise Stopped(_command.signal)


def found() -> str:
    """The signal that has come to this command; "" for none."""
    return _command.signal if _command else ""


def leave_to_all() -> None:
    """Says that this is one of several processes."""
    global _is_one_of_several
    _is_one_of_several = True


@contextlib.contextmanager
def graceful() -> Iterator[Interrupt]:
    """Within the block the first of SIGNALS only makes the yielded flag true; a second SIGINT raises.

    The old handlers come back at the end, and are given a signal that the block calls unheeded: one that came as its
    work ended would else be lost to a program that goes on to other work. Python delivers signals to the main thread
    only: in any other thread the flag stays false and no handler is installed. In a command the flag is the command's
    own (see `command`).
    """
    if threading.current_thread() is not threading.main_thread():
        yield Interrupt()
        return
    interrupt = _command if _command is not None else Interrupt()
    # In a command once more: jax.distributed may have installed a handler of its own.
    old = _install(interrupt.flag_or_raise if _command is None else interrupt.flag)
    try:
        yield interrupt
    finally:
        _restore(old)
    if interrupt.is_unheeded and _command is None:
        signal.raise_signal(signal.Signals[interrupt.signal])


def _install(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> dict[int, Any]:
    """Returns the old handlers. A SIGHUP that `nohup` has switched off stays so."""
    numbers = [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in numbers}


def _restore(old: dict[int, Any]) -> None:
    for number, handler in old.items():
        # None stands for a handler that was not installed from Python and cannot be put back.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
