"""A sweep's frozen list of jobs: jobs.jsonl in its folder, written once. Task i of any backend runs line i.

    {"name": "agent=iql", "run_dir": "agent=iql", "argv": ["-m", "pgd_jax.cli.train_agent", "--config.agent=iql"],
     "num_own": 1, "resources": {"gpus": 1.0, "cpus": 0, "memory": "", "hosts": 1}}

`argv` follows the Python interpreter; `--workdir=` with the run directory is added. The run directory is relative to
the list, so that a sweep can be moved, and a container can see it under another path. The last `num_own` flags are
those of the grid.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from pgd_jax.core import places
from pgd_jax.core.errors import UserError
from pgd_jax.launch.options import Resources
from pgd_jax.launch.sweep import Job

FILE = "jobs.jsonl"
NAME = re.compile(r"[\w.+=,-]+")  # of a run directory: never a path


def freeze(jobs: Sequence[Job], workdir: pathlib.Path) -> bool:
    """Writes the list, or compares it with the list that is there. Returns whether it was there.

    Raises UserError if `workdir` holds another sweep. New resources for the same jobs do not make another sweep. They
    replace the old ones, so that a job that ran out of memory can be submitted again with more.
    """
    file = workdir / FILE
    is_there = file.exists()
    if is_there:
        _check_same(load(workdir), jobs, file)
    text = as_text(jobs)
    if not is_there or file.read_text(encoding="utf-8") != text:
        workdir.mkdir(parents=True, exist_ok=True)
        places.replace_text(file, text)
    return is_there


def as_text(jobs: Sequence[Job]) -> str:
    return "".join(json.dumps(_as_line(job)) + "\n" for job in jobs)


def load(workdir: pathlib.Path, file: pathlib.Path | None = None) -> list[Job]:
    """The jobs of the sweep in `workdir`. Raises UserError if there is none, or if its list is damaged.

    `file` is the path of the list if it is not in the workdir, as in a container.
    """
    file = file or workdir / FILE
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{workdir} holds no sweep (it has no {FILE}); submit one, or name another folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({error})") from None
    jobs = [_parse(line, f"{file}, line {number}", workdir) for number, line in enumerate(lines, start=1)]
    if not jobs or len({job.name for job in jobs}) < len(jobs):
        raise UserError(f"{file} is empty, or names a run directory twice: it was changed; restore it")
    return jobs


def _as_line(job: Job) -> dict[str, Any]:
    return {
        "name": job.name,
        "run_dir": job.name,
        "argv": ["-m", job.module, *job.flags],
        "num_own": job.num_own,
        "resources": dataclasses.asdict(job.resources),
    }


def _parse(line: str, where: str, workdir: pathlib.Path) -> Job:
    try:
        found = json.loads(line)
        name, (option, module, *flags) = found["name"], found["argv"]
        resources = Resources(**found["resources"])
        resources.check()
        if option != "-m" or not NAME.fullmatch(name) or name in (".", "..") or found["run_dir"] != name:
            raise ValueError('argv must begin with "-m", and a run directory is a plain name')
        if found["num_own"] not in range(len(flags) + 1):
            raise ValueError("num_own must be a number of flags")
        if not all(isinstance(word, str) for word in found["argv"]):
            raise ValueError("argv must be texts")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where} is no job of a sweep ({error}); the file was changed: restore it") from None
    return Job(name, module, tuple(flags), workdir, resources, found["num_own"])


def _check_same(held: Sequence[Job], jobs: Sequence[Job], file: pathlib.Path) -> None:
    if [_key(job) for job in held] == [_key(job) for job in jobs]:
        return
    advice = "Use another workdir, or the old command and grid"
    if len(held) != len(jobs):
        raise UserError(f"{file} is another sweep: it has {len(held)} jobs, this command {len(jobs)}. {advice}")
    old, new = next((a, b) for a, b in zip(held, jobs, strict=True) if _key(a) != _key(b))
    if old.name != new.name or old.module != new.module:
        raise UserError(f"{file} is another sweep: it has job {old.name}, this command {new.name}. {advice}")
    only = [flag for flag in old.flags if flag not in new.flags] or ["the same flags in another order"]
    ours = [flag for flag in new.flags if flag not in old.flags] or ["the same flags in another order"]
    raise UserError(f"{file} is another sweep: {old.name} has {only[0]} there, {ours[0]} in this command. {advice}")


def _key(job: Job) -> tuple[Any, ...]:
    return job.name, job.module, job.flags
