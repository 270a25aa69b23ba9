"""The definition of a sweep: combinations of static settings become jobs, each with its own run directory.

Floats and seeds need no jobs of their own: they are lanes of one compiled program (`--config.hyper.*`).
"""

import dataclasses
import itertools
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pgd_jax.core import config as configs, places
from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest
from pgd_jax.launch.options import Resources

Grid = Mapping[str, Sequence[str]]  # values by setting ("sampling.num_steps"), written as on a command line
LITERALS = {bool: "true|false", int: r"-?[\d_]+", float: r"[-+.\de]+"}  # how values of a type are written


class Command(NamedTuple):
    module: str
    config: type  # the dataclass behind its --config.* flags
    may_be_distributed: bool = False


COMMANDS = {
    "train_denoiser": Command("pgd_jax.cli.train_denoiser", configs.DenoiserConfig, True),
    "train_behaviour": Command("pgd_jax.cli.train_behaviour", configs.BehaviourConfig),
    "train_world_model": Command("pgd_jax.cli.train_world_model", configs.WorldModelConfig),
    "train_agent": Command("pgd_jax.cli.train_agent", configs.AgentConfig, True),
}


@dataclasses.dataclass(frozen=True)
class Job:
    """One line of a sweep's list. Its run directory, log and state file are in the sweep's folder."""

    name: str  # name of the run directory and the log: the job's own values
    module: str
    flags: tuple[str, ...]  # all flags except --workdir
    workdir: pathlib.Path  # of the sweep
    resources: Resources = Resources()
    num_own: int = 0  # number of flags from the grid; they are the last ones

    @property
    def argv(self) -> tuple[str, ...]:
        """The arguments of the Python interpreter."""
        return ("-m", self.module, f"--workdir={self.run_dir}", *self.flags)

    @property
    def own_settings(self) -> list[str]:
        """The job's settings from the grid, such as "agent=iql"."""
        return [setting.removeprefix("--config.") for setting in self.flags[len(self.flags) - self.num_own :]]

    @property
    def run_dir(self) -> pathlib.Path:
        return self.workdir / self.name

    @property
    def log(self) -> pathlib.Path:
        return self.workdir / f"{self.name}.log"

    @property
    def state(self) -> pathlib.Path:
        """The state file: when the job began, and how it ended (attempts.py)."""
        return self.workdir / f"{self.name}.state"


def parse_grid(text: str) -> Grid:
    """`"agent=td3_bc,iql; sampling.num_steps=8,16"` -> Grid. Raises UserError naming the part that is wrong."""
    grid: dict[str, list[str]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, _, text_values = (piece.strip() for piece in part.partition("="))
        values = [value.strip() for value in text_values.split(",")]
        if name in grid or not all(values) or len(set(values)) < len(values):
            raise UserError(f'grid: "{part}" must read setting=value or setting=value,value, each of them once')
        grid[name] = values
    return grid


def jobs(
    command: str,
    base: Sequence[str],
    grid: Grid,
    workdir: str | pathlib.Path,
    resources: Resources = Resources(),
) -> list[Job]:
    """A job for every combination of the grid's values; the last setting varies fastest. An empty grid gives one job.

    `base` are the flags that all jobs share. `workdir` is the folder of their run directories. Raises UserError for a
    command, setting or value that does not exist, before anything is started.
    """
    if command not in COMMANDS:
        raise UserError(f'unknown command "{command}"{nearest(command, COMMANDS)} (known: {", ".join(COMMANDS)})')
    known = COMMANDS[command]
    _check_flags(base, grid, dict(_leaves(configs.to_dict(known.config()))))
    shared = tuple(base)
    if resources.hosts > 1:
        if not known.may_be_distributed:
            raise UserError(f"hosts={resources.hosts}: {command} runs on one host; leave hosts out")
        if any(flag.lstrip("-").partition("=")[0] == "distributed" for flag in base):
            raise UserError("--distributed after the -- would be given twice: with several hosts the sweep sets it")
        shared = ("--distributed=auto", *shared)
    result: dict[str, Job] = {}
    for values in itertools.product(*grid.values()):
        own = [f"{name}={value}" for name, value in zip(grid, values, strict=True)]
        job_name = re.sub(r"[^\w.+=,-]+", "-", ",".join(own)) or command  # a path's "/" would make folders
        if len(os.fsencode(job_name)) > places.MAX_NAME_BYTES:
            most = places.MAX_NAME_BYTES
            raise UserError(
                f'grid: the run directory "{job_name[:40]}..." has a name of more than {most} bytes; '
                "put settings that all jobs share after the --"
            )
        if job_name in result:
            raise UserError(f'grid: two jobs would share the run directory "{job_name}"; run them as two sweeps')
        flags = (*shared, *(f"--config.{setting}" for setting in own))
        result[job_name] = Job(job_name, known.module, flags, pathlib.Path(workdir), resources, len(own))
    return list(result.values())


def check_settings(command: str, base: Sequence[str]) -> None:
    """Raises UserError for a `--config.` flag in `base` that the command does not have. The job itself checks floats.

    This is for backends with a queue: otherwise a job would wait there first, and then fail.
    """
    known = [name for name, _ in _leaves(configs.to_dict(COMMANDS[command].config()))]
    for flag in base:
        name = flag.lstrip("-").partition("=")[0]
        setting = name.removeprefix("config.")
        if not flag.startswith("-") or setting == name or setting.startswith("hyper."):
            continue
        if setting not in known and setting.removeprefix("no") not in known:
            raise UserError(f'unknown setting "--{name}" after the --{nearest(setting, known)}')


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        yield from _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]


def _check_flags(base: Sequence[str], grid: Grid, defaults: dict[str, Any]) -> None:
    for name, values in grid.items():
        if name not in defaults:
            advice = "floats are lanes, after the --: --config.hyper.generator.guidance_coefficient=0,10"
            raise UserError(f'grid: unknown setting "{name}"{nearest(name, defaults)} ({advice})')
        for value in values:
            if not re.fullmatch(LITERALS.get(type(defaults[name]), ".*"), value):
                raise UserError(f"grid: {name}={value} does not read as the default, {defaults[name]!r}, does")
    given = [flag.lstrip("-").partition("=")[0] for flag in base if flag.startswith("-")]
    if twice := [name for name in given if given.count(name) > 1]:
        raise UserError(f"--{twice[0]} is given more than once after the --; keep the one that is meant")
    for flag in base:
        name = flag.lstrip("-").partition("=")[0]
        if name == "workdir" or name.removeprefix("config.") in grid:
            raise UserError(f"{flag} after the -- would be given twice: the sweep sets --{name} for every job")
