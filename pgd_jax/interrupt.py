"""Stopping cleanly: a signal sets a flag, and the loop ends after the chunk it is in."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupt:
    """True once SIGTERM or SIGINT came; `signal` is its name ("" before)."""

    def __init__(self):
        self.signal = ""
        self._num_sigint = 0

    def __bool__(self) -> bool:
        return bool(self.signal)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Runs between two bytecodes of whatever the main thread does: set fields, nothing else.
        self.signal = signal.Signals(number).name
        self._num_sigint += number == signal.SIGINT
        if self._num_sigint > 1:
            raise KeyboardInterrupt


@contextlib.contextmanager
def graceful() -> Iterator[Interrupt]:
    """Within the block the first SIGTERM or SIGINT only makes the yielded flag true; a second SIGINT raises.

    The old handlers come back at the end. Python delivers signals to the main thread only: in any other thread the flag
    stays false and no handler is installed.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    old = {number: signal.signal(number, interrupt._handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield interrupt
    finally:
        for number, handler in old.items():
            # None stands for a handler that was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
