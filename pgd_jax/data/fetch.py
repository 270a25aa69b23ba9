"""Fetching D4RL's files, whole or not at all, and checking their digests.

A digest file lies beside its file as `<file>.sha256`, in the form that `sha256sum` writes and checks. One that is there
before a download is what the download must match; otherwise the digest of what came is recorded. D4RL publishes none.
"""

import contextlib
import hashlib
import http.client
import os
import pathlib
import urllib.request
from collections.abc import Iterator

import h5py
import tqdm

from pgd_jax.data import catalogue
from pgd_jax.errors import UserError

TIMEOUT_S = 30.0  # of silence
CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary path beside `path`, renamed to it at the end and removed on failure: a file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def url_of(task: catalogue.Task) -> str:
    """The address of the task's file: below $D4RL_MIRROR (an address or a folder) if set, else D4RL's server.

    A mirror of the server's tree holds, for example, `gym_mujoco_v2/hopper_medium-v2.hdf5`.
    """
    mirror = os.environ.get("D4RL_MIRROR", "")
    if not mirror:
        return task.url
    base = mirror if "://" in mirror else pathlib.Path(mirror).expanduser().resolve().as_uri()
    return f"{base.rstrip('/')}/{task.path}"


def download(url: str, path: str | pathlib.Path) -> None:
    """Fetches an HDF5 file to `path` with a progress bar. Raises UserError, leaving nothing behind, on any failure."""
    path = pathlib.Path(path)
    try:
        with replacing(path) as temporary:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, open(temporary, "wb") as file:
                expected = int(response.headers.get("Content-Length", 0))
                with tqdm.tqdm(desc=path.name, total=expected or None, unit="B", unit_scale=True) as progress:
                    while chunk := response.read(CHUNK_BYTES):
                        progress.update(file.write(chunk))
            found = temporary.stat().st_size
            if expected and found != expected:
                raise OSError(f"the connection closed after {found} of {expected} bytes")
            if not h5py.is_hdf5(temporary):
                raise OSError(f"what came back ({found} bytes) is not an HDF5 file")
            _settle_digest(temporary, path)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"could not fetch {url}: {error}; get the file (or a mirror's copy: $D4RL_MIRROR) another way and put it "
            f"at {path}"
        ) from error


def digest_path(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{path.name}.sha256")


def verify(path: pathlib.Path) -> None:
    """Raises UserError where a digest file lies beside `path` and the file is not the one it was made of."""
    if digest_path(path).is_file():
        _compare(path, path)


def _settle_digest(fetched: pathlib.Path, path: pathlib.Path) -> None:
    if digest_path(path).is_file():
        _compare(fetched, path)
    else:
        digest_path(path).write_text(f"{_sha256(fetched)}  {path.name}\n")


def _compare(content: pathlib.Path, path: pathlib.Path) -> None:
    """Compares the digest of file `content` with the one recorded for `path`."""
    recorded = digest_path(path).read_text(errors="replace").split()
    found = _sha256(content)
    if not recorded or recorded[0].lower() != found:
        raise UserError(
            f"{path} does not match its digest: its SHA-256 is {found}, {digest_path(path)} says "
            f"{recorded[0] if recorded else 'nothing'}; fetch it again, or remove the digest if that is wrong"
        )


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
