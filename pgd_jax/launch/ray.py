"""Ray as a backend: each job is a Ray task with its GPUs, TPUs and CPUs. Ray starts it again if its worker dies.

If a cluster runs (ray_cluster.py), `submit` gives it the jobs and returns. A named actor in the cluster then holds the
sweep's tasks (ray_tasks.py); `status` and `cancel` find it by the workdir. If no cluster runs, `submit` starts one on
this machine, waits for the jobs as the local backend does, and ends the cluster.

Ray's Jobs API is not used. It does not restart a job whose node is lost, it fails a job that waits 15 minutes for
resources, and it kills a job 3 s after telling it to stop.
"""

import json
import os
import pathlib
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pgd_jax.core import places, signals
from pgd_jax.core.errors import UserError
from pgd_jax.launch import local, progress, ray_cluster, ray_tasks
from pgd_jax.launch.backend import Backend, Known, Say, Unfinished
from pgd_jax.launch.options import Options, Resources
from pgd_jax.launch.sweep import Job
from pgd_jax.runs.lock import Lock

FILE = "ray.json"  # in the workdir: the address of the cluster; absent if `submit` started the cluster
HEAD = {"node:__internal_head__": 0.001}  # a resource that only the head node has
ANSWER_S, POLL_S = 120.0, 0.5
UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}  # powers of two


def submit(jobs: Sequence[Job], workdir: pathlib.Path, options: Options, say: Say) -> Unfinished | None:
    """Submits the jobs that are not finished and that Ray does not have already."""
    workdir = workdir.absolute()
    wanted = task_options(jobs[0].resources, options)
    if options.dry_run:
        for job in jobs:
            say(shlex.join(["python", *job.argv]))
        say(f"{len(jobs)} tasks with {json.dumps(wanted)}; nothing was submitted")
        return None
    ray = ray_cluster.library()
    numbers = [i for i, job in enumerate(jobs) if not progress.is_finished(job)]
    with ray_cluster.any_cluster(ray) as address:
        _check_fits(ray, wanted, not address, say)
        if not address:
            (workdir / FILE).unlink(missing_ok=True)
            return _run_here(ray, jobs, workdir, numbers, wanted, options)
        num_new = _hand_over(ray, workdir, numbers, wanted, options)
        places.replace_text(workdir / FILE, json.dumps({"address": address}) + "\n")
    held = f"{len(jobs) - len(numbers)} of {len(jobs)} jobs are finished, {len(numbers) - num_new} are with Ray"
    say(f"{held}; submitted {num_new} to {address}" if num_new else f"{held}: nothing to submit")
    return None


def status(jobs: Sequence[Job], workdir: pathlib.Path) -> Mapping[str, Known]:
    """The jobs that Ray still has."""
    address = _submitted_to(workdir)
    if not address:
        return local.status(jobs, workdir)
    held = _ask_at(address, workdir, "states")
    return {jobs[number].name: Known(state, f"Ray, {address}") for number, state in held.items() if number < len(jobs)}


def cancel(jobs: Sequence[Job], workdir: pathlib.Path) -> str:
    address = _submitted_to(workdir)
    if not address:
        return local.cancel(jobs, workdir)
    told = _ask_at(address, workdir, "cancel")
    if not told:
        return "Ray has no job of this sweep"
    return f"told {len(told)} jobs to stop; those that run end after the chunk in progress"


BACKEND = Backend(submit, status, cancel)


def task_options(resources: Resources, options: Options) -> dict[str, Any]:
    """The options of a job's task, in the form of `ray.remote`. Raises UserError if `ray_resources` cannot be read."""
    found: dict[str, Any] = {"max_retries": options.retries, "resources": _further(options.ray_resources)}
    found |= {"num_cpus": resources.cpus} if resources.cpus else {}
    found |= {"num_gpus": resources.gpus} if resources.gpus else {}
    if resources.memory:
        unit = resources.memory[-1]
        found["memory"] = int(resources.memory.rstrip("KMGT")) << UNITS.get(unit, UNITS["M"])
    return found


def _further(text: str) -> dict[str, float]:
    """ "TPU=4; A100=1" -> {"TPU": 4.0, "A100": 1.0}."""
    found = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, _, amount = (piece.strip() for piece in part.partition("="))
        if not name or not re.fullmatch(r"[1-9]\d*|0?\.\d*[1-9]\d*", amount):
            raise UserError(f'ray_resources: "{part}" must read name=number, such as "TPU=4" or "disk=0.5"')
        if name in ("CPU", "GPU", "memory"):
            raise UserError(f'ray_resources: "{part}" is for the option cpus, gpus or memory')
        found[name] = float(amount)
    return found


def _check_fits(ray: Any, wanted: Mapping[str, Any], is_here: bool, say: Say) -> None:
    """Warns if no node has the resources of a job: a node may join later. On one machine this raises UserError."""
    names = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
    needed = {"CPU": 1.0} | {name: wanted[option] for name, option in names.items() if option in wanted}
    needed |= wanted["resources"]
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(name, 0.0) >= amount for name, amount in needed.items()) for node in nodes):
        return
    text = ", ".join(f"{name}={amount:g}" for name, amount in needed.items())
    if is_here:
        has = ", ".join(f"{name}={nodes[0].get(name, 0.0):g}" for name in needed)
        raise UserError(f"a job needs {text}; this machine has {has}: ask for less, or set RAY_ADDRESS")
    say(f"warning: no node of the cluster has {text} now; jobs wait until one does")


def _hand_over(
    ray: Any, workdir: pathlib.Path, numbers: Sequence[int], wanted: Mapping[str, Any], options: Options
) -> int:
    """Gives lines of the list to the sweep's supervisor, which it starts if needed. Returns how many were new."""
    if not numbers:
        return 0
    actor = ray.remote(ray_tasks.Supervisor).options(
        name=str(workdir), namespace=ray_cluster.NAMESPACE, get_if_exists=True, lifetime="detached", num_cpus=0,
        resources=HEAD,
    )  # fmt: skip
    for wait_s in (POLL_S, 0.0):
        supervisor = actor.remote(str(workdir))
        try:
            return ray.get(
                supervisor.submit.remote(numbers, wanted, options.num_parallel, os.getcwd()), timeout=ANSWER_S
            )
        except ray.exceptions.GetTimeoutError:
            ray.kill(supervisor)
            raise UserError(f"Ray's head node started nothing in {ANSWER_S:.0f} s; look with `ray status`") from None
        except ray.exceptions.RayActorError as error:  # perhaps an earlier supervisor, which was just ending
            said = ray_tasks.last_line(error)
            time.sleep(wait_s)
    where = f"pgd_jax and {workdir} must be on all nodes as they are here"
    raise UserError(f"Ray's head node cannot take the sweep ({said}); {where}")


def _ask(ray: Any, workdir: pathlib.Path, method: str) -> dict[int, str]:
    """The supervisor's answer: the states of jobs by their line in the list. {} if there is no supervisor."""
    try:
        supervisor = ray.get_actor(str(workdir.absolute()), namespace=ray_cluster.NAMESPACE)
        return ray.get(getattr(supervisor, method).remote(), timeout=ANSWER_S)
    except (ValueError, ray.exceptions.ActorDiedError):
        return {}


def _ask_at(address: str, workdir: pathlib.Path, method: str) -> dict[int, str]:
    """As `_ask`, in a connection of its own."""
    ray = ray_cluster.library()
    with ray_cluster.connected(ray, address):
        return _ask(ray, workdir, method)


def _run_here(
    ray: Any,
    jobs: Sequence[Job],
    workdir: pathlib.Path,
    numbers: Sequence[int],
    wanted: Mapping[str, Any],
    options: Options,
) -> Unfinished:
    """Runs the jobs on a cluster of this machine, and waits for them. The first signal tells all to stop."""
    lock = Lock(workdir / local.LOCK)
    try:
        with signals.graceful() as stop:
            _hand_over(ray, workdir, numbers, wanted, options)
            is_told = False
            while _ask(ray, workdir, "states"):
                if stop and not is_told:
                    is_told = bool(_ask(ray, workdir, "cancel"))
                time.sleep(POLL_S)
    finally:
        lock.release()
    states = {job.name: progress.state_of(job, None)[0] for job in jobs}
    failed = [name for name, state in states.items() if state == progress.FAILED]
    return Unfinished(failed, [name for name in states if name not in failed and states[name] != progress.FINISHED])


def _submitted_to(workdir: pathlib.Path) -> str:
    """The address of the cluster that has the sweep; "" if `submit` started the cluster."""
    try:
        return json.loads((workdir / FILE).read_text(encoding="utf-8"))["address"]
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{workdir / FILE} cannot be read ({error}); submit again") from None
