"""Arrays of an .npz file (numpy's format), read one by one. Nothing in it is ever unpickled."""

import contextlib
import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pgd_jax.core import signals
from pgd_jax.core.errors import UserError


class Header(NamedTuple):
    """The description of an array, known before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype


class File:
    """An open .npz file at `path`. Raises UserError if it is missing, incomplete, or in another format."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        with _faults(path):
            check_whole(path)
            with zipfile.ZipFile(path) as archive:
                members = [name for name in archive.namelist() if name.endswith(".npy")]
                self.headers = {name.removesuffix(".npy"): _header(archive, name) for name in members}

    def header(self, key: str) -> Header:
        """The header of array `key`. Raises UserError if there is none, or if it holds Python objects."""
        if key not in self.headers:
            raise UserError(f'{self.path}: it has no array "{key}"; it holds: {", ".join(self.headers) or "nothing"}')
        if self.headers[key].dtype.hasobject:
            raise UserError(f"{self.path}: {key} holds Python objects, which are never loaded; write it as numbers")
        return self.headers[key]

    def read(self, key: str, num_rows: int) -> np.ndarray:
        """The first `num_rows` rows of array `key`, in the file's own dtype."""
        self.header(key)
        signals.check()
        with _faults(self.path), np.load(self.path, allow_pickle=False) as file:
            return file[key][:num_rows]


def check_whole(path: pathlib.Path) -> None:
    """Raises OSError if `path` is not a ZIP archive with its end, which holds the table of contents."""
    if not zipfile.is_zipfile(path):
        raise OSError(f"not an .npz file, or one that was cut short ({path.stat().st_size} bytes)")


def _header(archive: zipfile.ZipFile, name: str) -> Header:
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
    return Header(shape, dtype)


@contextlib.contextmanager
def _faults(path: pathlib.Path) -> Iterator[None]:
    """Raises UserError for the errors of zipfile and numpy on a missing or damaged file."""
    try:
        yield
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read ({error}); fetch or write it again") from error
