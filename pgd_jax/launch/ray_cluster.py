"""Finds or starts a Ray cluster, and connects to it for a while. The process is left as it was."""

import contextlib
import importlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from pgd_jax.core import signals
from pgd_jax.core.errors import UserError
from pgd_jax.launch import ray_tasks

NAMESPACE = "pgd_jax"
HERE, ANY = "local", "auto"  # Ray's names: a new cluster on this machine; a cluster that runs on it
REACH_S = 25.0  # time limit of the first connection
OBJECT_STORE_BYTES = 100_000_000  # of a new cluster: jobs store nothing in it
# Runs in its own process: if nothing answers, ray.init tries for minutes and cannot be interrupted.
PROBE = """
import sys, ray
try:
    ray.init(sys.argv[1], logging_level="ERROR", log_to_driver=False)
except Exception as error:
    sys.exit(" ".join(str(error).split()))
"""


def library() -> Any:
    """The package ray. Raises UserError if it is missing."""
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UserError(f'Ray cannot be imported ({error}): pip install "pgd_jax[ray]"') from None


@contextlib.contextmanager
def any_cluster(ray: Any) -> Iterator[str]:
    """Connects to a cluster within the block, and yields its address: RAY_ADDRESS, else a cluster of this machine.

    If there is neither, it starts a cluster on this machine, which ends with the block. The address is then "".
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if ray.is_initialized():
        address = ray.get_runtime_context().gcs_address
    elif address in ("", HERE) and _is_started(ray):
        with _translated(ray):
            yield ""
        return
    with connected(ray, address or ANY):
        yield address or ANY


@contextlib.contextmanager
def connected(ray: Any, address: str) -> Iterator[None]:
    """Connects to a running cluster within the block. Raises UserError with Ray's words.

    If the user's own program is connected already, that connection is used and kept.
    """
    if ray.is_initialized():
        yield
        return
    _check_reached(address)
    _init(ray, address, log_to_driver=False)
    with _translated(ray):
        yield


@contextlib.contextmanager
def _translated(ray: Any) -> Iterator[None]:
    """Turns Ray's errors into UserError, and disconnects at the end."""
    try:
        yield
    except ray.exceptions.RayError as error:
        raise UserError(f"Ray refused: {ray_tasks.last_line(error)}") from None
    finally:
        ray.shutdown()


def _is_started(ray: Any) -> bool:
    """Starts a cluster on this machine. Returns False if one runs there already."""
    try:
        _init(ray, None, object_store_memory=OBJECT_STORE_BYTES, include_dashboard=False)
    except ValueError:  # Ray found a running cluster, for which it takes no options of a new one
        return False
    except (OSError, RuntimeError) as error:
        raise UserError(f"Ray could not start on this machine: {ray_tasks.last_line(error)}") from None
    return True


def _init(ray: Any, address: str | None, **more: Any) -> None:
    """ray.init, but it restores the handler of SIGTERM: Ray's own raises SystemExit at any point of the program."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, namespace=NAMESPACE, logging_level="ERROR", **more)
    except SystemExit:
        signals.check()
        raise
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _check_reached(address: str) -> None:
    """Raises UserError with Ray's words if a process cannot connect to the cluster in time."""
    command = [sys.executable, "-c", PROBE, address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=REACH_S, check=False)
        said = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode(errors="replace").strip().splitlines()[:1]
        said = said or [f"no answer within {REACH_S:.0f} s"]
    if said:
        words = re.sub(r"^\[.*?\] (\S+:\d+: )?", "", said[0])  # without time and place in Ray's code
        raise UserError(f"Ray's cluster at {address} cannot be reached ({words}); correct RAY_ADDRESS, or unset it")
