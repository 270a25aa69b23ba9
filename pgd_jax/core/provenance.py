"""The origin of a result: versions of libraries, this package's commit, the device, the time."""

import contextlib
import datetime
import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Any

import jax

import pgd_jax

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")
WORLDS = ("gymnax", "gymnasium", "mujoco", "mujoco-mjx", "gymnasium-robotics", "ogbench")  # where they are installed


def now() -> dict[str, Any]:
    """The origin of a result made now: versions, git_commit, git_modified, device, num_devices, created (UTC)."""
    commit, modified = _git_state()
    return {
        "versions": versions(),
        "git_commit": commit,
        "git_modified": modified,
        "device": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "created": moment(),
    }


def versions() -> dict[str, str]:
    """The versions of Python, this package and the installed libraries."""
    found = {"python": platform.python_version(), "pgd_jax": pgd_jax.__version__}
    for name in (*LIBRARIES, *WORLDS):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(pathlib.Path(pgd_jax.__file__).parent), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _git_state() -> tuple[str | None, bool | None]:
    """(commit, whether tracked files differ from it); (None, None) for an installed package.

    A virtual environment may lie inside another project's checkout, so git must know our own files.
    """
    if _git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None, None
    changes = _git("status", "--porcelain", "--untracked-files=no", ".")
    return _git("rev-parse", "HEAD"), None if changes is None else bool(changes)


def moment() -> str:
    """The time now, UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
