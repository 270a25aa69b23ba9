"""Arrays by name in a folder, written by orbax, of which this is the only importer.

Orbax globs below the paths that it is given, which `[` and `\\` in any of their folders lead astray, and takes `gs:`
for an address: it then drops data with no more than a warning. It lists truncated folders as good, too, and loads
flipped bytes without an error. So it is given plain names only, and what it wrote is read back.
"""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator, Mapping

import numpy as np
from orbax.checkpoint import v1 as ocp

from pgd_jax.core import places


def save(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes folder `path`, whose parent is there. Of several processes all call it, and the first one writes."""
    with _plain_name(path.parent) as parent:
        ocp.save(parent / path.name, arrays)


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
