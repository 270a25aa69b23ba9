"""Fetching the files of datasets, whole or not at all, and checking their digests.

A digest file lies beside its file as `<file>.sha256`, in the form that `sha256sum` writes and checks. One that is there
before a download is what the download must match; otherwise the digest of the file that came is recorded, once it is
known to be whole and in its place. D4RL and OGBench publish none.
"""

import hashlib
import http.client
import os
import pathlib
import urllib.request
from collections.abc import Callable

import h5py

from pgd_jax.core import logging, places, signals
from pgd_jax.core.errors import UserError
from pgd_jax.data import catalogue

TIMEOUT_S = 30.0  # of silence
CHUNK_BYTES = 1 << 20
MIRROR = "D4RL_MIRROR"


def url_of(task: catalogue.Task) -> str:
    """The address of the task's file: below $D4RL_MIRROR (an address or a folder) if set, else D4RL's server.

    A mirror of the server's tree holds, for example, `gym_mujoco_v2/hopper_medium-v2.hdf5`.
    """
    return below(MIRROR, catalogue.SERVER, task.path)


def below(mirror: str, server: str, path: str) -> str:
    """The address of `path` below the address or folder that the variable `mirror` names, else below `server`."""
    base = os.environ.get(mirror) or server
    return f"{(base if '://' in base else pathlib.Path(base).expanduser().resolve().as_uri()).rstrip('/')}/{path}"


def check_hdf5(path: pathlib.Path) -> None:
    """Raises OSError where `path` is no HDF5 file, or shorter than it says: a server need not tell a length."""
    size = path.stat().st_size
    if not h5py.is_hdf5(path):
        raise OSError(f"what came back ({size} bytes) is not an HDF5 file")
    try:
        h5py.File(path, "r").close()
    except (OSError, RuntimeError) as error:
        raise OSError(f"what came back ({size} bytes) is cut short or damaged ({error})") from None


def download(
    url: str, path: str | pathlib.Path, check: Callable[[pathlib.Path], None] = check_hdf5, mirror: str = MIRROR
) -> None:
    """Fetches a file to `path` with a progress bar. Raises UserError, leaving nothing behind, on any failure.

    `check` raises OSError for a file that is not whole; `mirror` is the variable that names another place to look.
    """
    path = pathlib.Path(path)
    places.check_link(path)
    try:
        with places.replacing(path) as temporary:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, open(temporary, "wb") as file:
                expected = int(response.headers.get("Content-Length", 0))
                size = f" ({expected / 1e6:.3g} MB)" if expected else ""
                logging.info(f"fetching {url}{size} into {path}")
                with logging.bar(desc=path.name, total=expected or None, unit="B", unit_scale=True) as progress:
                    while chunk := response.read(CHUNK_BYTES):
                        signals.check()
                        progress.update(file.write(chunk))
            found = temporary.stat().st_size
            if expected and found != expected:
                raise OSError(f"the connection closed after {found} of {expected} bytes")
            check(temporary)
            digest = _sha256(temporary)
            if digest_path(path).is_file():
                _compare(digest, path)
        if not digest_path(path).is_file():
            with places.replacing(digest_path(path)) as temporary:
                temporary.write_text(f"{digest}  {path.name}\n")
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"could not fetch {url}: {error}; get the file (or a mirror's copy: ${mirror}) another way and put it "
            f"at {path}"
        ) from error


def digest_path(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{path.name}.sha256")


def verify(path: pathlib.Path) -> None:
    """Raises UserError where a digest file lies beside `path` and the file is not the one it was made of."""
    if digest_path(path).is_file():
        _compare(_sha256(path), path)


def _compare(found: str, path: pathlib.Path) -> None:
    """Compares the digest of a file with the one recorded for `path`."""
    recorded = digest_path(path).read_text(errors="replace").split()
    if not recorded or recorded[0].lower() != found:
        raise UserError(
            f"{path} does not match its digest: its SHA-256 is {found}, {digest_path(path)} says "
            f"{recorded[0] if recorded else 'nothing'}; fetch it again, or remove the digest if that is wrong"
        )


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
