"""Writes files so that they are complete or absent, and never replace other people's files.

While a file is written, it has a temporary name beside its place, `<name>.pgd_jax-<host>-<process>.part`. By this name,
leftovers of killed processes are recognised. Nothing else is ever removed.
"""

import contextlib
import os
import pathlib
import re
import socket
import tempfile
import time
from collections.abc import Iterator

from pgd_jax.core.errors import UserError

# Paths that every library reads literally: `[`, `\\`, `:` and others have a meaning in some libraries.
PLAIN = re.compile(r"[\w/.,;=+@ -]*")
PARTIAL = ".pgd_jax-partial"  # ending of a text file that was not finished
PART = re.compile(r"(?P<name>.+)\.pgd_jax-(?P<host>.+)-(?P<process>\d+)\.part")
MAX_NAME_BYTES = 200  # file systems allow 255; the endings of temporary names need the rest
ABANDONED_S = 86_400.0  # a file that was not touched for this long counts as abandoned, also from another host


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary path beside `path`. It replaces `path` at the end and is removed on failure.

    Leftovers of killed processes for the same file are removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear(path)
    temporary = path.with_name(f"{path.name}{mark()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def creating(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """As `replacing`, for a new file. Raises UserError if something is at `path`, at the start or at the end."""
    check_free(path)
    with replacing(path) as temporary:
        yield temporary
        try:
            os.link(temporary, path)  # unlike a rename, a link never replaces a file
        except FileExistsError:
            check_free(path)
            raise
        except OSError:  # a file system without hard links
            check_free(path)


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Adds `path` to an OSError without a file name in the block, as when a write finds the disk full."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or os.fspath(path)
        raise


def check_free(path: str | os.PathLike) -> None:
    """Raises UserError if anything is at `path`, also a broken link."""
    check_link(path)
    if os.path.lexists(path):
        raise UserError(f"{os.fspath(path)} exists already; choose another name or remove it first")


def check_place(path: str | os.PathLike) -> None:
    """Raises UserError if no new file or folder can be made at `path`. Call it before a long computation."""
    check_free(path)
    folder = next(parent for parent in pathlib.Path(path).absolute().parents if os.path.exists(parent))
    if long := [part for part in pathlib.Path(path).parts if len(os.fsencode(part)) > MAX_NAME_BYTES]:
        raise UserError(f"{long[0][:40]}...: a name of more than {MAX_NAME_BYTES} bytes; choose a shorter one")
    try:
        tempfile.TemporaryFile(dir=folder).close()  # permissions alone do not tell, least of all for root
    except OSError as error:
        raise UserError(
            f"{os.fspath(path)}: {folder} is not a folder that can be written to ({error.strerror}); choose another "
            "place"
        ) from None


def check_link(path: str | os.PathLike[str]) -> None:
    """Raises UserError if `path` is a broken link, for example to a disk that is not mounted."""
    if os.path.islink(path) and not os.path.exists(path):
        raise UserError(f"{os.fspath(path)} is a link to {os.readlink(path)}, which is not there; restore or remove it")


def clear(path: pathlib.Path) -> None:
    """Removes leftovers of killed processes for `path`: our own unfinished files that no process works on."""
    for entry in path.parent.iterdir():
        found = PART.fullmatch(entry.name)
        if found and found["name"] == path.name and is_abandoned(entry, found):
            entry.unlink(missing_ok=True)


def mark() -> str:
    """The mark of this process in the names of its unfinished files."""
    return f".pgd_jax-{_host()}-{os.getpid()}"


def is_abandoned(entry: pathlib.Path, found: re.Match[str]) -> bool:
    """Whether no process works on `entry` any more. `found` has the host and process of its name."""
    try:
        if time.time() - entry.stat().st_mtime > ABANDONED_S:
            return True
        if found["host"] == _host():
            os.kill(int(found["process"]), 0)
    except (ProcessLookupError, FileNotFoundError):  # the process is dead, or has just finished the file
        return True
    except OSError:  # the process is another user's
        pass
    return False


def _host() -> str:
    return re.sub(r"[^\w.]", "_", socket.gethostname())


def sync(path: pathlib.Path) -> None:
    """Writes a file's content, or a directory's list of names, to disk, so that it survives a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file. A reader, or a crash, sees the old content or the new one, never a part of it."""
    partial = path.with_name(path.name + PARTIAL)
    partial.unlink(missing_ok=True)  # left by a killed process, or a link
    with naming(path), open(partial, "x", encoding="utf-8") as file:
        file.write(text)
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)
