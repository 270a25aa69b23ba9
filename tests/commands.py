"""Runs as commands make them: how one is asked for, and all of it that must not depend on when it was stopped."""

import json
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np

from pgd_jax.core import config as configs, hyper as floats
from pgd_jax.runs import agent as agent_runs, denoiser, experiment, metrics

TIMEOUT_S = 240.0


def module(name):
    return [sys.executable, "-m", f"pgd_jax.cli.{name}"]


def script(name):
    """A command as pip installs it, beside the Python that runs the tests."""
    return [str(pathlib.Path(sys.executable).with_name(name))]


class Command:
    """A command line on one run directory, started as often as one likes, in the folder `cwd`."""

    def __init__(self, program, path, flags, cwd=None):
        self.path, self.cwd = path, cwd
        self.line = [*program, f"--workdir={path}", *flags]

    def start(self):
        pipe = subprocess.PIPE
        return subprocess.Popen(self.line, cwd=self.cwd, stdout=pipe, stderr=pipe, text=True)

    def finish(self):
        process = self.start()
        _, stderr = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, stderr
        return stderr

    def signal_after(self, number, num_chunks, delay_s):
        """Starts it, and sends the signal `delay_s` after `num_chunks` more checkpoints; returns (status, stderr)."""
        goal = self.newest() + num_chunks
        return signal_when(self.start(), lambda: self.newest() >= goal, number, delay_s)

    def newest(self):
        """The newest checkpoint's number by its name alone; 0 before the first."""
        found = [int(p.name[5:]) for p in (self.path / "checkpoints").glob("step_*") if p.name[5:].isdigit()]
        return max(found, default=0)


def signal_when(process, condition, number, delay_s):
    """Sends a signal to a process with pipes `delay_s` after `condition` came true; returns (status, stderr)."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(delay_s)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, stderr


def flags(config, prefix="config"):
    """The options of a command line that say all of a config."""
    for name, value in configs.to_dict(config).items():
        if name == "hyper":
            for float_name, values in floats.flatten(experiment.complete(config).hyper).items():
                yield f"--{prefix}.hyper.{float_name}={','.join(map(repr, values))}"
        elif isinstance(value, dict):
            yield from flags(getattr(config, name), f"{prefix}.{name}")
        else:
            yield f"--{prefix}.{name}={value}"


def content(path):
    """(rows without their times, {leaf: (dtype, shape, bytes)} of the last checkpoint)."""
    rows = metrics.read(path / "metrics.jsonl")
    rows = [{key: value for key, value in row.items() if not key.startswith("wall_")} for row in rows]
    kind = json.loads((path / "config.json").read_text())["kind"]
    tree = agent_runs.load(path)[1] if kind == agent_runs.KIND else denoiser.load(path)[2:]
    leaves = {jax.tree_util.keystr(name): leaf for name, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return rows, {name: bits(leaf) for name, leaf in leaves.items()}


def bits(leaf):
    data = jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return str(data.dtype), data.shape, np.asarray(data).tobytes()
