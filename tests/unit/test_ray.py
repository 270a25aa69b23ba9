"""The Ray backend without Ray: its options, what a job gets from a task, and what is refused."""

import os
import subprocess
import sys
import types

import pytest

from pgd_jax import launch
from pgd_jax.core.errors import UserError
from pgd_jax.launch import job_list, options, ray, ray_cluster, ray_tasks, sweep

GRID = {"agent": ["td3_bc", "iql"]}


def submit(tmp_path, **more):
    lines = []
    launch.submit(tmp_path / "runs", grid=GRID, backend="ray", say=lines.append, **more)
    return lines


def test_without_ray_it_is_told_how_to_install_it_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'Ray cannot be imported .*: pip install "pgd_jax\[ray\]"'):
        submit(tmp_path)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_dry_run_shows_commands_and_options_and_needs_no_ray(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    lines = submit(tmp_path, dry_run=True, gpus=1.0, retries=5)
    assert lines[0].startswith("python -m pgd_jax.cli.train_agent --workdir=") and len(lines) == 3
    assert lines[2] == '2 tasks with {"max_retries": 5, "resources": {}, "num_gpus": 1.0}; nothing was submitted'
    assert not (tmp_path / "runs").exists()


def test_the_options_of_a_task():
    resources = options.Resources(gpus=0.5, cpus=4, memory="16G")
    found = ray.task_options(resources, options.Options(ray_resources="TPU=4; disk=0.5"))
    assert found == {
        "max_retries": 3, "num_cpus": 4, "num_gpus": 0.5, "memory": 16 * 2**30, "resources": {"TPU": 4.0, "disk": 0.5}
    }  # fmt: skip
    assert ray.task_options(options.Resources(memory="512"), options.Options())["memory"] == 512 * 2**20


@pytest.mark.parametrize(
    "more, message",
    [
        (dict(hosts=2), "hosts means nothing with backend=ray"),
        (dict(time="1:00:00"), "time means nothing with backend=ray"),
        (dict(retries=-1), "retries=-1 must be at least 0"),
        (dict(ray_resources="TPU"), '"TPU" must read name=number'),
        (dict(ray_resources="TPU=1.5"), '"TPU=1.5" must read name=number'),
        (dict(ray_resources="TPU=0"), '"TPU=0" must read name=number'),
        (dict(ray_resources="GPU=1"), '"GPU=1" is for the option cpus, gpus or memory'),
        (dict(flags=["--config.num_sedes=4"]), 'did you mean "num_seeds"'),
    ],
)
def test_what_cannot_work_is_refused_and_leaves_nothing(tmp_path, more, message):
    with pytest.raises(UserError) as error:
        submit(tmp_path, **more)
    assert message in str(error.value) and not list(tmp_path.glob("runs/*"))


def test_a_job_has_the_devices_of_its_task(monkeypatch):
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES")
    assert ray_tasks.environment({"CPU": 4.0}) == {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4"}
    assert ray_tasks.environment({"CPU": 1.0, "GPU": 2.0}) == ray_tasks.environment({"TPU": 4.0}) == {}
    assert ray_tasks.environment({"GPU": 0.5}) == {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.425"}
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    assert ray_tasks.environment({"CPU": 4.0}) == {"JAX_PLATFORMS": "cpu"}


PARENT = """
import pathlib, subprocess, sys
from pgd_jax.launch import ray_tasks, sweep
(job,) = sweep.jobs("train_agent", [], {}, pathlib.Path("runs"))
argv = ray_tasks.leashed(job).argv
assert argv[3:] == job.argv
subprocess.Popen([sys.executable, *argv[:3], "-c", "import time; print('begun', flush=True); time.sleep(60)"]).wait()
"""


def test_a_job_dies_with_the_process_that_started_it():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "begun\n"
    parent.kill()
    # Both hold the pipe: it ends with the last of them.
    assert parent.communicate(timeout=20)[0] == ""


def test_a_job_whose_parent_is_gone_already_does_not_start():
    command = [sys.executable, "-c", ray_tasks.LEASH, str(os.getpid() + 1), "-c", "print('begun')"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


def test_a_supervisor_needs_the_list_where_it_runs(tmp_path):
    with pytest.raises(UserError, match="holds no sweep"):
        ray_tasks.Supervisor(str(tmp_path))
    job_list.freeze(sweep.jobs("train_agent", [], GRID, tmp_path), tmp_path)
    ray_tasks.Supervisor(str(tmp_path))


def test_what_no_node_has_is_refused_on_one_machine_and_waited_for_on_a_cluster(tmp_path):
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 2.0, "GPU": 8.0}}]
    library, lines = types.SimpleNamespace(nodes=lambda: nodes), []
    wanted = ray.task_options(options.Resources(gpus=1.0), options.Options())
    ray._check_fits(library, {"resources": {}, "num_cpus": 2}, True, lines.append)
    assert lines == []
    ray._check_fits(library, wanted, False, lines.append)
    assert lines == ["warning: no node of the cluster has CPU=1, GPU=1 now; jobs wait until one does"]
    with pytest.raises(UserError, match="a job needs CPU=1, GPU=1; this machine has CPU=2, GPU=0: ask for less"):
        ray._check_fits(library, wanted, True, lines.append)


ANSWERS = {
    'import time, sys; print("[2026 W 1 1] rpc.h:9: no GCS\\nx", file=sys.stderr, flush=True); time.sleep(9)': "no GCS",
    "import time; time.sleep(9)": "no answer within 2 s",
    'import sys; sys.exit("noise\\nVersion mismatch: 2.9")': "Version mismatch: 2.9",
}


@pytest.mark.parametrize("probe, words", ANSWERS.items())
def test_an_address_that_cannot_be_reached_is_told_in_ray_s_words(monkeypatch, probe, words):
    monkeypatch.setattr(ray_cluster, "PROBE", probe)
    monkeypatch.setattr(ray_cluster, "REACH_S", 2.0)
    with pytest.raises(UserError) as error, ray_cluster.connected(types.SimpleNamespace(is_initialized=bool), "head:1"):
        pass
    expected = f"Ray's cluster at head:1 cannot be reached ({words}); correct RAY_ADDRESS, or unset it"
    assert str(error.value) == expected
