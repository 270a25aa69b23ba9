"""Kubernetes as a backend: `kubectl` creates, lists and deletes the objects that kubernetes_manifests.py renders.

The last part of the workdir's path is its folder on the cluster's volume: pods see <mount>/<name>. If this machine
mounts that volume too, give the workdir there: status and collect then read the runs themselves.
"""

import hashlib
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pgd_jax.core import places
from pgd_jax.core.errors import UserError
from pgd_jax.launch import kubernetes_manifests as manifests, programs
from pgd_jax.launch.backend import RUNNING, WAITING, Backend, Known, Say
from pgd_jax.launch.options import Options
from pgd_jax.launch.sweep import Job

FILE = "kubernetes.json"  # in the workdir: what was submitted
STATES = {"Pending": WAITING, "Running": RUNNING, "Succeeded": "finished", "Failed": "failed"}
RANK = ("Failed", "Pending", "Running", "Succeeded")  # if a job has several pods, the last of these states counts


def name_of(workdir: pathlib.Path) -> str:
    digest = hashlib.sha256(str(workdir.absolute()).encode()).hexdigest()[:8]
    slug = re.sub(r"[^a-z0-9]+", "-", workdir.absolute().name.lower()).strip("-")[:24].strip("-")
    return "-".join(filter(None, ["pgd", slug, digest]))


def submit(jobs: Sequence[Job], workdir: pathlib.Path, options: Options, say: Say) -> None:
    """Creates the sweep's objects. It replaces those of an earlier submission that has ended."""
    name = name_of(workdir)
    rendered = manifests.render(name, workdir, jobs, options)
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": rendered}, indent=1) + "\n"
    if options.dry_run:
        say(text.rstrip("\n"))
        return
    where = _where(options.namespace)
    active = [known for known in _pods(name, where) if known["status"].get("phase") in ("Pending", "Running")]
    if active:
        say(f"Kubernetes has {len(active)} pods of this sweep at work (kubectl get pods -l {_label(name)})")
        return
    _delete(name, rendered[-1]["kind"].lower(), where)
    workdir.mkdir(parents=True, exist_ok=True)
    places.replace_text(workdir / FILE, json.dumps({"namespace": options.namespace, "kind": rendered[-1]["kind"]}))
    _call(["create", "-f", "-", *where], text)
    say(f"created {len(jobs)} jobs (kubectl get pods -l {_label(name)})")


def status(jobs: Sequence[Job], workdir: pathlib.Path) -> Mapping[str, Known]:
    """The states of the pods that Kubernetes still has, by job. The newest pod of a job counts."""
    found: dict[str, tuple[int, Known]] = {}
    for pod in _pods(name_of(workdir), _where(_submitted(workdir).get("namespace", ""))):
        command = pod["spec"]["containers"][0]["command"]
        index = pod["metadata"].get("annotations", {}).get(manifests.INDEX, "")
        line = command[4] if command[4].isdecimal() else index
        phase = pod["status"].get("phase", "")
        if not line.isdecimal() or int(line) >= len(jobs) or phase not in RANK:
            continue
        job, rank = jobs[int(line)].name, RANK.index(phase)
        if job not in found or found[job][0] < rank:
            found[job] = rank, Known(STATES[phase], f"pod {pod['metadata']['name']}")
    return {job: known for job, (_, known) in found.items()}


def cancel(jobs: Sequence[Job], workdir: pathlib.Path) -> str:
    submitted = _submitted(workdir)
    said = _delete(name_of(workdir), submitted.get("kind", "Job").lower(), _where(submitted.get("namespace", "")))
    return said or "Kubernetes has nothing of this sweep"


BACKEND = Backend(submit, status, cancel)


def _submitted(workdir: pathlib.Path) -> dict[str, str]:
    try:
        return json.loads((workdir / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _where(namespace: str) -> list[str]:
    return [f"--namespace={namespace}"] if namespace else []


def _label(name: str) -> str:
    return f"{manifests.LABEL}={name}"


def _pods(name: str, where: Sequence[str]) -> list[dict[str, Any]]:
    said = _call(["get", "pods", "-l", _label(name), "-o", "json", *where])
    try:
        return list(json.loads(said)["items"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f'kubectl answered "{said[:80]}", not a list of pods') from None


def _delete(name: str, kind: str, where: Sequence[str]) -> str:
    """Deletes objects. Pods get SIGTERM, and the grace period to save. Files on the volume stay."""
    return _call(["delete", f"{kind},configmap", "-l", _label(name), "--ignore-not-found", *where]).strip()


def _call(arguments: Sequence[str], text: str = "") -> str:
    """The output of kubectl. Errors are those of `programs.call`."""
    advice = "install it, or print the objects with --dry_run and create them elsewhere"
    return programs.call(["kubectl", *arguments], advice, timeout_s=300, text=text)
