"""One process at a time works on a run."""

import fcntl
import os
import pathlib
import re
import socket
import weakref

from absl import logging

from pgd_jax.core.errors import UserError

HOLDER = re.compile(r"(pid \d+ on .*\n)?")  # what a lock file holds


class Lock:
    """An flock held until `release()`, garbage collection, or the death of the process, however it dies."""

    def __init__(self, path: pathlib.Path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        self.release = weakref.finalize(self, os.close, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 200, 0).decode(errors="replace").strip() or "unknown"
            self.release()
            raise UserError(
                f"{path.parent} is in use by another process ({holder}); wait for it to end, or use another directory"
            ) from None
        except OSError as error:  # some network file systems are mounted without flock
            logging.warning("%s cannot be locked (%s): do not start a second process on this run", path, error)
            return
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
