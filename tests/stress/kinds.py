"""What is put under stress: commands with tiny settings, whose checkpoints take longer than the chunks between them."""

import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from pgd_jax.core import config as configs
from tests import commands, quickly, worlds

ROOT = pathlib.Path(__file__).resolve().parents[2]
NUM_CHUNKS = 24  # of a denoiser; an agent's are shorter, and twice as many


class Kind(NamedTuple):
    """A command that makes one run or several in the folder that it is given."""

    name: str
    line: Callable[[pathlib.Path], list[str]]  # what follows the Python interpreter
    num_devices: int = 1
    is_sweep: bool = False  # of processes of their own, one of which can be killed alone


def denoiser(dataset: pathlib.Path) -> Kind:
    config = worlds.denoiser_config(str(dataset), num_steps=5 * NUM_CHUNKS, steps_per_chunk=5)
    return Kind("denoiser", lambda path: _line("train_denoiser", path, commands.flags(config)))


def agents(denoiser: pathlib.Path) -> list[Kind]:
    """A training of an agent as a command, divided over two devices, and as two jobs of a sweep."""
    config = _agent_config(denoiser)
    line = lambda path: _line("train_agent", path, commands.flags(config))
    sweep = lambda path: _sweep(path, config)
    return [Kind("agent", line), Kind("agent_on_two_devices", line, num_devices=2), Kind("sweep", sweep, is_sweep=True)]


def environment(kind: Kind, cache: pathlib.Path) -> dict[str, str]:
    """Of a command's process; in the folder `cache` all of them keep what they compile."""
    return os.environ | {
        "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(kind.num_devices), "XLA_FLAGS": quickly.XLA_FLAGS,
        "JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip


def _agent_config(denoiser: pathlib.Path) -> configs.AgentConfig:
    return worlds.agent_config(denoiser=str(denoiser), num_phases=2 * NUM_CHUNKS, num_seeds=1)


def _line(module: str, path: pathlib.Path, flags: list[str]) -> list[str]:
    return ["-m", f"pgd_jax.cli.{module}", f"--workdir={path}", *flags]


def _sweep(path: pathlib.Path, config: configs.AgentConfig) -> list[str]:
    shared = [flag for flag in commands.flags(config) if not flag.startswith("--config.first_seed=")]
    options = ["--command=train_agent", f"--workdir={path}", "--num_parallel=2", "--grid=first_seed=0,1"]
    return ["-m", "pgd_jax.launch.local", *options, "--", *shared]
