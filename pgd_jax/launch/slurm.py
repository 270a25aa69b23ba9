"""Slurm as a backend: `sbatch` submits an array job, `squeue` lists it, `scancel` ends it. It needs no other package.

Slurm knows the jobs of a sweep by a name made from its folder, not by job numbers: follow-ups and later submissions
have the same name, and Slurm uses numbers again.
"""

import getpass
import hashlib
import os
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence

from pgd_jax.core import places
from pgd_jax.core.errors import UserError
from pgd_jax.launch import programs, progress, slurm_script
from pgd_jax.launch.backend import RUNNING, STOPPING, WAITING, Backend, Known, Say
from pgd_jax.launch.options import Options
from pgd_jax.launch.sweep import Job

# File systems that other machines see too. Any other kind counts as local to this machine.
SHARED = re.compile(r"nfs|lustre|gpfs|beegfs|ceph|panfs|glusterfs|afs|cifs|smb|9p|fuse|wekafs|pvfs|orangefs|gfs2|ocfs2")
STATES = {"RUNNING": RUNNING, "COMPLETING": STOPPING}  # squeue shows no ended jobs; in all other states a job waits
FIELDS = "%K|%T|%A|%r"  # array index, state, number, reason
MOUNTS = pathlib.Path("/proc/mounts")


def name_of(workdir: pathlib.Path) -> str:
    digest = hashlib.sha256(str(workdir.absolute()).encode()).hexdigest()[:10]
    return f"pgd-{re.sub(r'[^A-Za-z0-9_.-]', '-', workdir.absolute().name)[:40]}-{digest}"


def submit(jobs: Sequence[Job], workdir: pathlib.Path, options: Options, say: Say) -> None:
    """Submits the jobs that are not finished and that Slurm does not have already."""
    workdir = workdir.absolute()
    name = name_of(workdir)
    script = slurm_script.render(name, workdir, pathlib.Path.cwd(), sys.executable, jobs[0].resources, options)
    if options.dry_run:
        say(f"{script}# sbatch --array={_array(range(len(jobs)), options)} {workdir / slurm_script.FOLDER}/{name}.sh")
        return None
    held = status(jobs, workdir)
    finished = {job.name for job in jobs if progress.is_finished(job)}
    numbers = [i for i, job in enumerate(jobs) if job.name not in held and job.name not in finished]
    counts = f"{len(finished)} of {len(jobs)} jobs are finished, {len(held)} are with Slurm"
    if not numbers:
        say(f"{counts}: nothing to submit")
        return None
    if kind := local_file_system(workdir):
        say(f"warning: {workdir} lies on {kind}, which other machines may not see; jobs need a shared folder")
    file = workdir / slurm_script.FOLDER / f"{name}.sh"
    file.parent.mkdir(parents=True, exist_ok=True)
    places.replace_text(file, script)
    said = _call("sbatch", "--parsable", f"--array={_array(numbers, options)}", str(file)).strip()
    found = re.fullmatch(r"(\d+)(;\S+)?", said.splitlines()[-1] if said else "")
    if found is None:
        raise UserError(f'sbatch answered "{said}", not the number of a job; look with squeue --name={name}')
    say(f"{counts}; submitted {len(numbers)} as job {found[1]} (squeue --name={name})")
    return None


def status(jobs: Sequence[Job], workdir: pathlib.Path) -> Mapping[str, Known]:
    """The jobs that Slurm still has."""
    name = name_of(workdir)
    said = _call(
        "squeue", "--noheader", "--array", f"--name={name}", f"--user={getpass.getuser()}", f"--format={FIELDS}"
    )
    found: dict[str, Known] = {}
    for line in said.splitlines():
        parts = line.strip().split("|")
        if len(parts) != 4:
            raise UserError(f'squeue answered "{line}", not {FIELDS}; is it Slurm\'s own?')
        index, state, number, reason = parts
        if not index.isdecimal() or int(index) >= len(jobs):
            continue  # not a job of this list
        job = jobs[int(index)].name
        about = f"Slurm job {number}" + (f" ({reason})" if reason not in ("None", "") else "")
        if found.get(job, Known("")).state != RUNNING:  # a job that is ending may be listed with its follow-up
            found[job] = Known(STATES.get(state, WAITING), about)
    return found


def cancel(jobs: Sequence[Job], workdir: pathlib.Path) -> str:
    held = status(jobs, workdir)
    if not held:
        return "Slurm has no job of this sweep"
    _call("scancel", f"--name={name_of(workdir)}", f"--user={getpass.getuser()}")
    return f"cancelled {len(held)} jobs; those that run stop within Slurm's KillWait, and what they have saved is kept"


BACKEND = Backend(submit, status, cancel)


def local_file_system(folder: pathlib.Path) -> str:
    """The kind of file system of `folder` if it seems local to this machine; else ""."""
    there = next(path for path in (folder, *folder.parents) if path.exists()).resolve()
    try:
        mounts = [line.split()[1:3] for line in MOUNTS.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return ""
    places_ = [(len(point), kind) for point, kind in mounts if there.is_relative_to(point.replace("\\040", " "))]
    kind = max(places_, default=(0, ""))[1]
    return "" if not kind or SHARED.search(kind) else kind


def _array(numbers: Sequence[int], options: Options) -> str:
    return slurm_script.indices(numbers) + (f"%{options.num_parallel}" if options.num_parallel else "")


def _call(program: str, *arguments: str) -> str:
    """The output of one of Slurm's programs. Errors are those of `programs.call`."""
    unwanted = ("SQUEUE_", slurm_script.NUM_FOLLOW_UPS)  # a user's own view of the queue; what an outer job counts
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    advice = "run pgd-launch where Slurm's programs are (a login node), or take another backend"
    return programs.call([program, *arguments], advice, timeout_s=120, environment=environment)
