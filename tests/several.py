"""Several processes of one program on this machine, as on so many hosts."""

import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Callable

from tests import quickly

ROOT = pathlib.Path(__file__).resolve().parents[1]


def start(num_processes: int, num_devices: int, line: Callable[[str], list[str]]) -> list[subprocess.Popen]:
    """Processes with `num_devices` each; `line` gives what follows the Python interpreter, from --distributed's value.

    One process alone has the value "".
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(num_devices), "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": quickly.XLA_FLAGS,
    }  # fmt: skip
    choices = [f"{address},{num_processes},{index}" for index in range(num_processes)] if num_processes > 1 else [""]
    options = dict(env=environment, stderr=subprocess.PIPE, text=True)
    return [subprocess.Popen([sys.executable, *line(choice)], **options) for choice in choices]


def finish(running: list[subprocess.Popen]) -> list[str]:
    """What each process said, once all have come to a good end."""
    said = [process.communicate(timeout=600)[1] for process in running]
    assert not any(process.returncode for process in running), said
    return said
