"""What a run tells its user: lines on stderr that leave the progress bar whole. Warnings of damage go to absl's log.

Nothing here ever ends a run: what cannot be written (a full disk, a closed pipe, no stderr at all) is lost. `--quiet`
leaves out all but warnings.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

_is_quiet = False


class Tolerant:
    """A text stream that drops what cannot be written, instead of raising; `lost` says why, "" where nothing was."""

    def __init__(self, stream: TextIO | io.TextIOBase):
        self._stream, self.lost = stream, ""

    def write(self, text: str) -> int:
        with self._tolerating():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._tolerating():
            self._stream.flush()

    @contextlib.contextmanager
    def _tolerating(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:  # whoever read it is gone, for good: not even Python's own last flush may fail
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self.lost = str(error)

    def __eq__(self, other: object) -> bool:
        """tqdm makes way for a line where bar and line have the same stream."""
        return isinstance(other, Tolerant) and other._stream is self._stream

    def __hash__(self) -> int:
        return hash(id(self._stream))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Nowhere(io.TextIOBase):
    """Stands for a stream that is not there."""

    def write(self, text: str) -> int:
        return len(text)


def protect() -> None:
    """Makes this process's stdout and stderr tolerant, also where they were closed before it started."""
    for descriptor in (0, 1, 2):  # a file opened later would get the number, and the log of C++ libraries with it
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Tolerant):
            setattr(sys, name, Tolerant(stream or _Nowhere()))


def stream() -> Tolerant:
    """Where `info` and progress bars write: stderr as it is now."""
    return sys.stderr if isinstance(sys.stderr, Tolerant) else Tolerant(sys.stderr or _Nowhere())


def set_quiet(is_quiet: bool) -> None:
    """From now on, `info` and progress bars say nothing."""
    global _is_quiet
    _is_quiet = is_quiet


def is_quiet() -> bool:
    return _is_quiet


def info(text: str) -> None:
    if not _is_quiet:
        _write(text)


def warning(text: str) -> None:
    """What the user should know even where all went well otherwise."""
    _write(f"warning: {text}")


def _write(text: str) -> None:
    import tqdm  # on use: a command's first lines need this module, and should not wait

    tqdm.tqdm.write(text, file=stream())


def is_interactive() -> bool:
    """Whether what was said can be written over: on a terminal or in a notebook, not in a file or a pipe."""
    import tqdm.auto

    return tqdm.autonotebook.tqdm is not tqdm.tqdm or stream().isatty()


def bar(**options: Any) -> Any:
    """tqdm's progress bar with these options; it is drawn where that can be done, and never with `--quiet`."""
    import tqdm.auto

    is_hidden = options.pop("disable", False) or _is_quiet or not is_interactive()
    return tqdm.auto.tqdm(file=stream(), disable=is_hidden, **options)
