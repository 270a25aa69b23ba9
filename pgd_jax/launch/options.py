"""What is said of a sweep's jobs besides what they run: their resources, and how a backend treats them."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from pgd_jax.core.config import option
from pgd_jax.core.errors import UserError

MEMORY = re.compile(r"\d+[KMGT]?")
TIME = re.compile(r"(\d+-)?\d+(:\d\d){0,2}")  # as sbatch reads it: minutes, minutes:seconds, hours:..., days-hours...


@dataclasses.dataclass(frozen=True)
class Resources:
    """Of one job. Kept in jobs.jsonl."""

    gpus: float = option(0.0, "GPUs of a job on each host; with backend local or ray also a share, such as 0.5")
    cpus: int = option(0, "CPU cores of a job on each host; 0: as the cluster has it")
    memory: str = option("", 'memory of a job on each host, such as "16G"; empty: as the cluster has it')
    hosts: int = option(1, "hosts of a job; more than one run it with --distributed=auto")

    def check(self) -> None:
        """Raises UserError for what no machine has."""
        if not math.isfinite(self.gpus) or self.gpus < 0.0 or (self.gpus > 1.0 and self.gpus != int(self.gpus)):
            raise UserError(f"gpus={self.gpus:g} must be a whole number, or a share of one GPU between 0 and 1")
        if self.cpus < 0 or self.hosts < 1:
            raise UserError(f"cpus={self.cpus} must be at least 0, and hosts={self.hosts} at least 1")
        if self.memory and not MEMORY.fullmatch(self.memory):
            raise UserError(f'memory="{self.memory}" must be a number with K, M, G or T, such as "16G"')


@dataclasses.dataclass(frozen=True)
class Options:
    """Of one submission. A backend takes those that `TAKES` names for it and refuses the others."""

    num_parallel: int = option(0, "jobs at a time; 0: local: 1, or as many as its GPUs hold, elsewhere no limit")
    dry_run: bool = option(False, "print what would be submitted, write and submit nothing")
    only_list: bool = option(
        False, "write jobs.jsonl and start nothing: pgd_jax.launch.task runs a line of it anywhere"
    )
    time: str = option("", 'time limit of a job as sbatch reads it, such as "4:00:00"; empty: that of the partition')
    partition: str = option("", "partition of the cluster")
    account: str = option("", "account that pays")
    follow_ups: int = option(20, "how often a job that its time limit stopped is submitted again; 0: never")
    stop_early_s: int = option(120, "seconds that a job has between the word to stop and its end")
    sbatch_options: str = option("", 'further options of sbatch, by ";": "--constraint=a100; --qos=long"')
    setup_file: str = option("", "file of shell lines to run before the job, such as module load; #SBATCH lines too")
    image: str = option("", "container image that has pgd_jax; see launch/Dockerfile")
    claim: str = option("pgd-runs", "persistent volume claim that holds the workdir")
    mount: str = option("/runs", "where pods see that volume; the workdir must lie in it")
    namespace: str = option("", "namespace; empty: that of kubectl's context")
    retries: int = option(3, "how often a failed job is started again, but for pre-emption; ray: one whose worker died")
    tpu: str = option("", 'kind of TPU of a job and its topology, such as "tpu-v5-lite-podslice:2x4"')
    tpu_chips: int = option(4, "TPU chips of a host")
    ray_resources: str = option("", 'further resources of a job as Ray names them, by ";": "TPU=4; A100=1"')

    def check(self) -> None:
        """Raises UserError for values that mean nothing."""
        for name, least in (("num_parallel", 0), ("follow_ups", 0), ("stop_early_s", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)} must be at least {least}")
        if self.time and not TIME.fullmatch(self.time):
            raise UserError(f'time="{self.time}" must read minutes, hours:minutes:seconds or days-hours:...')
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, str) and re.search(r"[\r\n]", value):
                raise UserError(f"{name} holds the end of a line; write it in one")


SLURM = ("time", "partition", "account", "follow_ups", "stop_early_s", "sbatch_options", "setup_file")
KUBERNETES = ("stop_early_s", "image", "claim", "mount", "namespace", "retries", "tpu", "tpu_chips")
TAKES = {
    "local": ("num_parallel", "dry_run", "only_list", "gpus"),
    "slurm": ("num_parallel", "dry_run", "only_list", *SLURM, "gpus", "cpus", "memory", "hosts"),
    "kubernetes": ("num_parallel", "dry_run", "only_list", *KUBERNETES, "gpus", "cpus", "memory", "hosts"),
    "ray": ("num_parallel", "dry_run", "only_list", "retries", "ray_resources", "gpus", "cpus", "memory"),
}


def names() -> list[str]:
    """Of all options, those of a job's resources first."""
    return [field.name for kind in (Resources, Options) for field in dataclasses.fields(kind)]


def build(backend: str, given: Mapping[str, Any]) -> tuple[Resources, Options]:
    """The options that were given, checked. Raises UserError for one that means nothing to the backend."""
    for name in given:
        if backend in TAKES and name not in TAKES[backend]:
            raise UserError(f"{name} means nothing with backend={backend}; leave it out (it takes {_listed(backend)})")
    own = {field.name for field in dataclasses.fields(Resources)}
    resources = Resources(**{name: value for name, value in given.items() if name in own})
    options = Options(**{name: value for name, value in given.items() if name not in own})
    resources.check()
    options.check()
    if backend not in ("local", "ray") and resources.gpus != int(resources.gpus):
        raise UserError(
            f"gpus={resources.gpus:g}: a share of a GPU is for backend=local or ray; {backend} gives whole ones"
        )
    return resources, options


def _listed(backend: str) -> str:
    return ", ".join(TAKES[backend])


def seconds(time: str) -> int:
    """Of a time limit as sbatch reads it; 0 for an empty one."""
    if not time:
        return 0
    days, dash, rest = time.rpartition("-")
    numbers = [int(number) for number in rest.split(":")]
    if dash:  # days-hours[:minutes[:seconds]]
        hours, minutes, secs = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, secs = numbers
    else:  # minutes[:seconds]
        hours, (minutes, secs) = 0, [*numbers, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + secs
