"""Arrays by name in a folder, written by orbax, of which this is the only importer.

Orbax globs below the paths that it is given, which `[` and `\\` in any of their folders lead astray, and takes `gs:`
for an address: it then drops data with no more than a warning. It lists truncated folders as good, too, and loads
flipped bytes without an error. So it is given plain names only, and what it wrote is read back.
"""

import contextlib
import functools
import logging
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from orbax.checkpoint import v1 as ocp

from pgd_jax.core import places

UNFINISHED = ".orbax-checkpoint-tmp"  # ends the name of a folder that orbax has not finished


def save(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes folder `path`, whose parent is there. Of several processes all call it, and the first one writes."""
    _mute()
    with _plain_name(path.parent) as parent:
        failure = None
        try:
            ocp.save(parent / path.name, arrays)
        except Exception as error:  # orbax's and TensorStore's, of many kinds, with pages of details
            failure = str(error)
        if failure is not None:
            raise _plain_error(path, failure)


@functools.cache  # once
def _mute_closed_loops() -> None:
    """Writes of TensorStore that end after a save has failed print that nobody waits for them any more."""
    before = sys.unraisablehook

    def hook(args: Any) -> None:
        if not (args.exc_type is RuntimeError and str(args.exc_value) == "Event loop is closed"):
            before(args)

    sys.unraisablehook = hook


def _plain_error(path: pathlib.Path, details: str) -> OSError:
    """What the operating system said, to TensorStore or to Python, where it can be found."""
    if found := re.search(r"os_error_code='(\d+)'|\[Errno (\d+)\]", details):
        number = int(found[1] or found[2])
        return OSError(number, os.strerror(number), str(path))
    return OSError(f"{path} could not be written ({details.splitlines()[0][:300] if details else 'no reason given'})")


def _mute() -> None:
    """Silences for good what orbax's threads print, pages of it, of errors that are raised as well."""
    _mute_closed_loops()
    for logger in (logging.getLogger("absl"), logging.getLogger("asyncio")):
        if MUTE not in logger.filters:
            logger.addFilter(MUTE)


class _Mute(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        text = record.pathname + record.getMessage()
        return record.levelno < logging.ERROR or not any(
            mark in text for mark in (f"{os.sep}orbax{os.sep}", UNFINISHED)
        )


MUTE = _Mute()


def load(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Of several processes all call it: orbax has them meet."""
    with _plain_name(path.parent) as parent:
        return ocp.load(parent / path.name)


def check_same(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises OSError where folder `path` does not hold these arrays, bit for bit."""
    try:
        found = load(path)
    except Exception as error:  # orbax's and TensorStore's, of many kinds
        raise OSError(f"{path} was written and cannot be read back ({error})") from error
    for name, array in arrays.items():
        back = found.get(name)
        if back is None or _facts(back) != _facts(array) or back.tobytes() != array.tobytes():
            raise OSError(f"{path} was written and does not read back the same: see {name}")


def _facts(array: np.ndarray) -> tuple[tuple[int, ...], np.dtype]:
    return array.shape, array.dtype


@contextlib.contextmanager
def _plain_name(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A name of `folder` that orbax takes as it is: its own, or that of a temporary link to it."""
    if places.PLAIN.fullmatch(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="pgd_jax_") as place:
        link = pathlib.Path(place) / "folder"
        link.symlink_to(folder)
        yield link
