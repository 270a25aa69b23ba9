"""Files that are whole or not there, and never in the place of somebody else's.

What is being written has a name of its own beside its place, `<name>.pgd_jax-<host>-<process>.part`. That name is the
mark by which leftovers of killed processes are recognised; nothing else is ever removed.
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

# Paths that every library takes as they are: `[`, `\\`, `:` and others mean something to some.
PLAIN = re.compile(r"[\w/.,;=+@ -]*")
PARTIAL = ".pgd_jax-partial"  # ending of a text file that was not finished
PART = re.compile(r"(?P<name>.+)\.pgd_jax-(?P<host>.+)-(?P<process>\d+)\.part")
MAX_NAME_BYTES = 200  # of the 255 that file systems allow; marks of what is unfinished come on top
ABANDONED_S = 86_400.0  # a file that was not touched for so long was given up, also by a process of another host


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary path beside `path`, which takes its place at the end; removed on failure.

    What killed processes left of the same file is removed first.
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
    """As `replacing`, for a file that is not there yet. Raises UserError where something is, then or at the end."""
    check_free(path)
    with replacing(path) as temporary:
        yield temporary
        try:
            os.link(temporary, path)  # unlike a rename it never replaces
        except FileExistsError:
            check_free(path)
            raise
        except OSError:  # a file system without hard links
            check_free(path)


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Within, an OSError that does not say of which file it is says `path`: a full disk is found by a bare write."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or os.fspath(path)
        raise


def check_free(path: str | os.PathLike) -> None:
    """Raises UserError where anything is at `path`, a link to nothing included."""
    check_link(path)
    if os.path.lexists(path):
        raise UserError(f"{os.fspath(path)} exists already; choose another name or remove it first")


def check_place(path: str | os.PathLike) -> None:
    """Raises UserError where no new file or folder can be made at `path`: to be called before long work for it."""
    check_free(path)
    folder = next(parent for parent in pathlib.Path(path).absolute().parents if os.path.exists(parent))
    if long := [part for part in pathlib.Path(path).parts if len(os.fsencode(part)) > MAX_NAME_BYTES]:
        raise UserError(f"{long[0][:40]}...: a name of more than {MAX_NAME_BYTES} bytes; choose a shorter one")
    try:
        tempfile.TemporaryFile(dir=folder).close()  # permissions alone do not tell, least of all to root
    except OSError as error:
        raise UserError(
            f"{os.fspath(path)}: {folder} is not a folder that can be written to ({error.strerror}); choose another "
            "place"
        ) from None


def check_link(path: str | os.PathLike[str]) -> None:
    """Raises UserError where `path` is a link to what is not there, such as a disk that is not mounted."""
    if os.path.islink(path) and not os.path.exists(path):
        raise UserError(f"{os.fspath(path)} is a link to {os.readlink(path)}, which is not there; restore or remove it")


def clear(path: pathlib.Path) -> None:
    """Removes what processes that were killed left of `path`: unfinished files of ours that no process works on."""
    for entry in path.parent.iterdir():
        found = PART.fullmatch(entry.name)
        if found and found["name"] == path.name and is_abandoned(entry, found):
            entry.unlink(missing_ok=True)


def mark() -> str:
    """Of this process, for names of what it has not finished."""
    return f".pgd_jax-{_host()}-{os.getpid()}"


def is_abandoned(entry: pathlib.Path, found: re.Match[str]) -> bool:
    """Whether nobody works any more on `entry`, of whose name `host` and `process` were found."""
    try:
        if time.time() - entry.stat().st_mtime > ABANDONED_S:
            return True
        if found["host"] == _host():
            os.kill(int(found["process"]), 0)
    except (ProcessLookupError, FileNotFoundError):  # the process is dead, or has just put the file in its place
        return True
    except OSError:  # the process is another user's
        pass
    return False


def _host() -> str:
    return re.sub(r"[^\w.]", "_", socket.gethostname())


def sync(path: pathlib.Path) -> None:
    """Makes a file's content, or a directory's list of names, survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file so that a reader, or a crash, sees the old content or the new one, never half of it."""
    partial = path.with_name(path.name + PARTIAL)
    partial.unlink(missing_ok=True)  # of a process that was killed, or a link
    with naming(path), open(partial, "x", encoding="utf-8") as file:
        file.write(text)
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)
