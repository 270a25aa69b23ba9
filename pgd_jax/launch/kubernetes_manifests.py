"""A sweep as Kubernetes objects: plain data made from the list of jobs.

With one host per job it is an Indexed Job, whose completion index selects the line. `backoffLimitPerIndex` counts the
failures of each job separately. By `podFailurePolicy`, pre-emption (DisruptionTarget) and exit status 75 (stopped by a
signal) do not count as failures, and statuses 2 and 3 (a mistake, a diverged run) are not tried again.

With several hosts per job, each line is a JobSet: all hosts of a job must restart together, without the other lines.
Pre-emption and status 75 do not count towards `maxRestarts`.

The list is in a ConfigMap, so the cluster needs nothing from the machine that submits. Runs are on a persistent volume,
which several nodes must be able to write to.
"""

import pathlib
import re
from collections.abc import Sequence
from typing import Any

from pgd_jax.cli import entry
from pgd_jax.core.errors import UserError
from pgd_jax.launch import job_list
from pgd_jax.launch.options import Options, Resources
from pgd_jax.launch.sweep import Job

TASK = "pgd_jax.launch.task"
LABEL = "pgd-sweep"  # label of every object, with the sweep's name
LINE = "pgd-line"  # label of a JobSet, with its line
LISTS = "/etc/pgd-sweep"
MAX_LIST_BYTES = 1_000_000  # a ConfigMap holds a mebibyte
PORT = 8476
INDEX = "batch.kubernetes.io/job-completion-index"
TPU_KIND, TPU_TOPOLOGY = "cloud.google.com/gke-tpu-accelerator", "cloud.google.com/gke-tpu-topology"
NODE_POOL = "cloud.google.com/gke-nodepool"

Manifest = dict[str, Any]


def render(name: str, workdir: pathlib.Path, jobs: Sequence[Job], options: Options) -> list[Manifest]:
    """The ConfigMap, then the Job or the JobSets. Raises UserError for a sweep that Kubernetes cannot hold."""
    text = job_list.as_text(jobs)
    if len(text.encode()) > MAX_LIST_BYTES:
        raise UserError(f"the list of {len(jobs)} jobs has {len(text)} bytes, more than a ConfigMap holds; make two")
    if not options.image:
        raise UserError("image is empty: name a container image that has pgd_jax (launch/Dockerfile builds one)")
    if not options.mount.startswith("/"):
        raise UserError(f'mount="{options.mount}" must be a path from the root, such as "/runs"')
    resources = jobs[0].resources
    lists = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(name, name, options)}
    lists["data"] = {job_list.FILE: text}
    folder = f"{options.mount.rstrip('/')}/{workdir.absolute().name}"
    if resources.hosts == 1:
        return [lists, _indexed_job(name, folder, len(jobs), resources, options)]
    if options.num_parallel:
        raise UserError("num_parallel: with several hosts a job, Kubernetes has no such limit; give the queue a quota")
    return [lists, *(_job_set(name, folder, line, resources, options) for line in range(len(jobs)))]


def _indexed_job(name: str, folder: str, num_jobs: int, resources: Resources, options: Options) -> Manifest:
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": {"containerName": "job", "operator": "In", "values": [entry.STOPPED]}},
        {"action": "FailIndex", "onExitCodes": {"containerName": "job", "operator": "In",
                                                "values": [entry.USER_ERROR, entry.DIVERGED]}},
    ]  # fmt: skip
    spec = {
        "completionMode": "Indexed",
        "completions": num_jobs,
        "parallelism": min(options.num_parallel or num_jobs, num_jobs),
        "backoffLimitPerIndex": options.retries,
        "podFailurePolicy": {"rules": rules},
        "template": _pod(name, folder, "$(PGD_INDEX)", [_annotation("PGD_INDEX", INDEX)], resources, options),
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _metadata(name, name, options), "spec": spec}


def _job_set(name: str, folder: str, line: int, resources: Resources, options: Options) -> Manifest:
    own = f"{name}-{line}"
    rules = [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "job", "operator": "In", "values": [entry.STOPPED]}},
    ]
    environment = [_annotation("PGD_HOST_INDEX", INDEX)]
    if not options.tpu:  # the hosts of a TPU find each other
        environment.append({"name": "PGD_COORDINATOR", "value": f"{own}-hosts-0-0.{own}:{PORT}"})
    job = {
        "completionMode": "Indexed",
        "completions": resources.hosts,
        "parallelism": resources.hosts,
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": rules},
        "template": _pod(name, folder, str(line), environment, resources, options),
    }
    ignored = {"action": "RestartJobSetAndIgnoreMaxRestarts", "onJobFailureReasons": ["PodFailurePolicy"]}
    metadata = _metadata(own, name, options)
    metadata["labels"][LINE] = str(line)
    if options.tpu:  # all hosts on one slice
        metadata["annotations"] = {"alpha.jobset.sigs.k8s.io/exclusive-topology": NODE_POOL}
    spec = {
        "failurePolicy": {"maxRestarts": options.retries, "rules": [ignored]},
        "network": {"enableDNSHostnames": True, "subdomain": own},
        "replicatedJobs": [{"name": "hosts", "replicas": 1, "template": {"spec": job}}],
    }
    return {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": metadata, "spec": spec}


def _pod(
    name: str, folder: str, line: str, environment: list[Manifest], resources: Resources, options: Options
) -> Manifest:
    container = {
        "name": "job",
        "image": options.image,
        "command": ["python", "-m", TASK, folder, line, f"{LISTS}/{job_list.FILE}"],
        "env": [{"name": "PGD_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, *environment],
        "resources": _resources(resources, options),
        "volumeMounts": [{"name": "runs", "mountPath": options.mount}, {"name": "list", "mountPath": LISTS}],
    }
    volumes: list[Manifest] = [
        {"name": "runs", "persistentVolumeClaim": {"claimName": options.claim}},
        {"name": "list", "configMap": {"name": name}},
    ]
    spec: Manifest = {"restartPolicy": "Never", "terminationGracePeriodSeconds": options.stop_early_s}
    if options.tpu:
        kind, _, topology = options.tpu.partition(":")
        if not kind or not topology:
            raise UserError(f'tpu="{options.tpu}" must read kind:topology, such as "tpu-v5-lite-podslice:2x4"')
        spec["nodeSelector"] = {TPU_KIND: kind, TPU_TOPOLOGY: topology}
    return {"metadata": {"labels": {LABEL: name}}, "spec": spec | {"containers": [container], "volumes": volumes}}


def _resources(resources: Resources, options: Options) -> Manifest:
    wanted = {"cpu": str(resources.cpus or ""), "memory": _memory(resources.memory)}
    devices = {"nvidia.com/gpu": str(int(resources.gpus) or ""), "google.com/tpu": str(options.tpu_chips)}
    if not options.tpu:
        del devices["google.com/tpu"]
    requests = {kind: amount for kind, amount in (wanted | devices).items() if amount}
    limits = {kind: amount for kind, amount in requests.items() if kind != "cpu"}
    return {key: value for key, value in (("requests", requests), ("limits", limits)) if value}


def _memory(text: str) -> str:
    """A memory size in Slurm's form ("16G"; a bare number is in MB) in Kubernetes' form, with powers of two."""
    if not text:
        return ""
    return re.sub(r"[KMGT]", lambda unit: f"{unit[0]}i", text) if text[-1].isalpha() else f"{text}Mi"


def _annotation(variable: str, name: str) -> Manifest:
    return {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{name}']"}}}


def _metadata(name: str, sweep: str, options: Options) -> Manifest:
    found: Manifest = {"name": name, "labels": {LABEL: sweep}}
    return found | ({"namespace": options.namespace} if options.namespace else {})
