"""Kubernetes objects against its own schemas, and the backend on a stand-in for kubectl. No cluster is needed."""

import json
import os
import pathlib
import sys

import pytest

from pgd_jax import launch
from pgd_jax.core.errors import UserError
from pgd_jax.launch import job_list, kubernetes, kubernetes_manifests, options, sweep

VERSION = "1.35"


def rendered(resources=options.Resources(), **more):
    jobs = sweep.jobs("train_agent", ["--config.num_seeds=8"], {"agent": ["iql", "td3_bc", "awac"]}, "study", resources)
    given = options.Options(**{"image": "lab/pgd:1"} | more)
    return kubernetes_manifests.render("pgd-study", pathlib.Path("study"), jobs, given)


def test_one_host_is_an_indexed_job():
    lists, job = rendered(options.Resources(gpus=1.0, cpus=8, memory="32G"), num_parallel=2, namespace="lab")
    assert len(lists["data"][job_list.FILE].splitlines()) == 3 and lists["metadata"]["namespace"] == "lab"
    spec, container = job["spec"], job["spec"]["template"]["spec"]["containers"][0]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 2)
    assert spec["backoffLimitPerIndex"] == 3
    assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == ["Ignore", "Ignore", "FailIndex"]
    assert container["command"] == ["python", "-m", "pgd_jax.launch.task", "/runs/study", "$(PGD_INDEX)",
                                    "/etc/pgd-sweep/jobs.jsonl"]  # fmt: skip
    assert container["resources"] == {
        "requests": {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "1"},
        "limits": {"memory": "32Gi", "nvidia.com/gpu": "1"},
    }
    assert spec["template"]["spec"]["volumes"][0] == {
        "name": "runs",
        "persistentVolumeClaim": {"claimName": "pgd-runs"},
    }


def test_several_hosts_are_a_job_set_for_each_line():
    lists, *sets = rendered(options.Resources(hosts=2, gpus=8.0))
    assert [item["metadata"]["name"] for item in sets] == ["pgd-study-0", "pgd-study-1", "pgd-study-2"]
    assert "--distributed=auto" in lists["data"][job_list.FILE]
    check_job_set(sets[2])
    job = sets[2]["spec"]["replicatedJobs"][0]["template"]["spec"]
    environment = {item["name"]: item.get("value") for item in job["template"]["spec"]["containers"][0]["env"]}
    assert environment["PGD_COORDINATOR"] == "pgd-study-2-hosts-0-0.pgd-study-2:8476"
    assert job["completions"] == job["parallelism"] == 2


def test_a_slice_of_tpus_is_a_job_set_on_one_node_pool():
    _, *sets = rendered(options.Resources(hosts=2), tpu="tpu-v5-lite-podslice:2x4")
    check_job_set(sets[0])
    assert list(sets[0]["metadata"]["annotations"].values()) == ["cloud.google.com/gke-nodepool"]
    pod = sets[0]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "2x4"
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": "4"}
    assert "PGD_COORDINATOR" not in {item["name"] for item in pod["containers"][0]["env"]}


def check_job_set(item):
    """By structure, as v1alpha2 has it: its schema is in no package."""
    assert item["apiVersion"] == "jobset.x-k8s.io/v1alpha2" and item["kind"] == "JobSet"
    assert set(item["spec"]) <= {"failurePolicy", "network", "replicatedJobs", "successPolicy", "startupPolicy",
                                 "suspend", "managedBy", "ttlSecondsAfterFinished", "coordinator"}  # fmt: skip
    assert set(item["spec"]["failurePolicy"]) <= {"maxRestarts", "rules", "restartStrategy"}
    (rule,) = item["spec"]["failurePolicy"]["rules"]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert set(item["spec"]["network"]) <= {"enableDNSHostnames", "subdomain", "publishNotReadyAddresses"}
    (job,) = item["spec"]["replicatedJobs"]
    assert set(job) <= {"name", "replicas", "template", "groupName", "dependsOn"} and set(job["template"]) == {"spec"}


def test_all_objects_fit_kubernetes_schemas():
    reason = "kubernetes-validate, which has Kubernetes' schemas, is not installed"
    validate = pytest.importorskip("kubernetes_validate", reason=reason)
    lists, job = rendered(options.Resources(gpus=1.0, cpus=8, memory="32G"), num_parallel=2, tpu="tpu-v6e-slice:2x2")
    _, job_set, *_ = rendered(options.Resources(hosts=2, gpus=8.0))
    inner = job_set["spec"]["replicatedJobs"][0]["template"]["spec"]
    alone = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "inner"}, "spec": inner}
    for item in (lists, job, alone):
        validate.validate(item, VERSION, strict=True)
    job["spec"]["backofLimitPerIndex"] = 3
    with pytest.raises(validate.ValidationError):
        validate.validate(job, VERSION, strict=True)


@pytest.mark.parametrize(
    "resources, more, message",
    [
        ({}, dict(image=""), "image is empty"),
        ({}, dict(mount="runs"), 'mount="runs" must be a path from the root'),
        ({}, dict(tpu="v5e"), 'tpu="v5e" must read kind:topology'),
        (dict(hosts=2), dict(num_parallel=2), "with several hosts a job, Kubernetes has no such limit"),
    ],
)
def test_what_kubernetes_cannot_hold_is_refused(resources, more, message):
    with pytest.raises(UserError) as error:
        rendered(options.Resources(**resources), **more)
    assert message in str(error.value)


KUBECTL = """\
#!{python}
import pathlib, sys
here = pathlib.Path("{here}")
with open(here / "calls", "a") as file:
    print(*sys.argv[1:], file=file)
if sys.argv[1] == "create":
    (here / "created").write_text(sys.stdin.read())
if sys.argv[1] == "get":
    print((here / "pods").read_text())
if (here / "refuses").exists():
    sys.exit((here / "refuses").read_text())
"""


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin" / "kubectl").write_text(KUBECTL.format(python=sys.executable, here=tmp_path))
    (tmp_path / "bin" / "kubectl").chmod(0o755)
    (tmp_path / "pods").write_text('{"items": []}')
    return tmp_path


def submit(folder, **more):
    lines = []
    launch.submit(folder / "runs", grid="agent=td3_bc,iql", backend="kubernetes", image="x", say=lines.append, **more)
    return lines


def pod(index, phase):
    command = ["python", "-m", "pgd_jax.launch.task", "/runs/runs", "$(PGD_INDEX)", "list"]
    annotations = {kubernetes_manifests.INDEX: str(index)}
    return {"metadata": {"name": f"pod{index}", "annotations": annotations}, "status": {"phase": phase},
            "spec": {"containers": [{"command": command}]}}  # fmt: skip


def test_a_sweep_is_created_asked_about_and_deleted(kubectl):
    submit(kubectl)
    created = json.loads((kubectl / "created").read_text())
    assert [item["kind"] for item in created["items"]] == ["ConfigMap", "Job"]
    (kubectl / "pods").write_text(json.dumps({"items": [pod(0, "Failed"), pod(0, "Running"), pod(1, "Pending")]}))
    assert [(item.state, item.about) for item in launch.status(kubectl / "runs")] == [
        ("running", "pod pod0"), ("waiting", "pod pod1")
    ]  # fmt: skip
    assert submit(kubectl)[-1].startswith("Kubernetes has 2 pods")
    launch.cancel(kubectl / "runs")
    name = kubernetes.name_of(kubectl / "runs")
    assert f"delete job,configmap -l pgd-sweep={name}" in (kubectl / "calls").read_text().splitlines()[-1]


def test_kubectl_s_own_words_are_told(kubectl, monkeypatch):
    (kubectl / "refuses").write_text("error: You must be logged in to the server (Unauthorized)")
    with pytest.raises(UserError, match=r"kubectl refused: error: You must be logged in"):
        submit(kubectl)
    os.remove(kubectl / "bin" / "kubectl")
    with pytest.raises(UserError, match="kubectl is not on this machine"):
        submit(kubectl)
    assert not (kubectl / "runs" / job_list.FILE).exists()
    assert '"kind": "List"' in submit(kubectl, dry_run=True)[0]
