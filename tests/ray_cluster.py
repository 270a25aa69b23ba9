"""A Ray cluster of one machine, real and private, as `ray start` leaves one: it outlives the commands that use it.

Two CPUs, and two GPUs and four TPU chips that it only says to have: they are counted and given out, and nothing runs on
them. Ports, sockets and logs are its own; what else Ray runs on the machine is neither read nor touched.
"""

import contextlib
import importlib.util
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

import psutil

START_S = 120
# No token is written to the user's home, nothing is sent anywhere, and none of this machine's own settings counts.
OWN = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": ""}
START = (
    "start", "--head", "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1", "--include-dashboard=false",
    "--num-cpus=2", "--num-gpus=2", '--resources={"TPU": 4}', "--object-store-memory=100000000",
)  # fmt: skip


def missing() -> str:
    """Why none can be started here; "" where one can."""
    return "" if importlib.util.find_spec("ray") else 'Ray is not installed (pip install "pgd_jax[ray]")'


@contextlib.contextmanager
def running() -> "Iterator[Cluster]":
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short: it is a part of its sockets' paths
    port = _free_port()
    program = pathlib.Path(sys.executable).with_name("ray")
    command = [str(program), *START, f"--port={port}", f"--temp-dir={folder}"]
    with open(folder / "said", "wb") as said:
        process = subprocess.Popen(command, env=os.environ | OWN, stdout=said, stderr=subprocess.STDOUT)
    started, own = psutil.Process(process.pid), OWN | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
    try:
        _wait(lambda: b"--block" in (folder / "said").read_bytes(), f"Ray did not start; see {folder}/said")
        yield Cluster(own, started)
    finally:
        others = started.children(recursive=True)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
        process.kill()
        _wait(lambda: not any(map(is_alive, others)), "processes of Ray are left")
        shutil.rmtree(folder)


class Cluster(NamedTuple):
    environment: dict[str, str]  # of those who use it
    started: psutil.Process

    def processes(self, word: str) -> list[int]:
        """Of the cluster, those whose command line, or what Ray shows in its place, has `word`."""
        return [found.pid for found in self.started.children(recursive=True) if word in command_line(found)]


def command_line(process: psutil.Process) -> str:
    """Empty where it has ended."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; one that ended and that nobody waited for does not."""
    with contextlib.suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def _free_port() -> int:
    """Not among those that Ray keeps for its workers."""
    while True:
        with socket.socket() as item:
            item.bind(("127.0.0.1", 0))
            if (port := item.getsockname()[1]) > 20_000:
                return port


def _wait(is_so, message: str) -> None:
    deadline = time.monotonic() + START_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(message)
        time.sleep(0.2)
