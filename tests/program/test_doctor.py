"""`pgd doctor`: what it says of a sound installation, and that each of its checks can fail."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.cli import doctor, self_check
from pgd_jax.core import compilation, installation
from pgd_jax.diffusion import edm
from tests import quickly

ROOT = pathlib.Path(__file__).resolve().parents[2]
TITLES = ["versions", "devices", "features", "folders", "environment", "self-check"]


def test_a_sound_installation_is_told_in_one_page(tmp_path):
    """As a user starts it, outside the repository."""
    (tmp_path / "d4rl").mkdir()
    own = {"D4RL_DATASET_DIR": str(tmp_path / "d4rl"), "OGBENCH_DATASET_DIR": str(tmp_path / "none" / "data")}
    environment = os.environ | own | {"XLA_FLAGS": quickly.XLA_FLAGS, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "pgd_jax", "doctor"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [each for each in lines if each in TITLES] == TITLES and lines[-1] == "every check is ok"
    assert len([each for each in lines if each.startswith("  ok ")]) == len(self_check.CHECKS)
    assert any(each.split() == ["jax", jax.__version__] for each in lines)
    assert "  2 x cpu (cpu)" in lines
    assert f"{own['D4RL_DATASET_DIR']}: there, can be written to" in done.stdout
    assert f"{own['OGBENCH_DATASET_DIR']}: not there yet, can be made" in done.stdout
    assert f"  D4RL_DATASET_DIR={own['D4RL_DATASET_DIR']}" in lines


# ---- what can be wrong with the installation ----


def test_no_device_is_said_after_the_versions(tmp_path):
    environment = os.environ | {"JAX_PLATFORMS": "tpu", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "pgd_jax.cli.doctor"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and 'no device of JAX_PLATFORMS="tpu"' in done.stdout.partition("devices\n")[2]
    assert "jaxlib" in done.stdout.partition("devices\n")[0]


@pytest.fixture
def quick(monkeypatch):
    """The doctor in this process, which keeps its settings, without a check."""
    for name in ("use_float32", "keep", "divide_cpu"):
        monkeypatch.setattr(compilation, name, lambda *_: None)
    monkeypatch.setattr(self_check, "CHECKS", {})


@pytest.mark.parametrize(("is_here", "status"), [(True, 0), (False, 1)])
def test_a_required_package_that_is_missing_is_a_failure(is_here, status, quick, monkeypatch, capsys):
    absent = "none" if is_here else "scipy"
    version = installation.version
    monkeypatch.setattr(installation, "version", lambda name: "" if name == absent else version(name))
    assert doctor.main() == status
    assert ("scipy is missing" in capsys.readouterr().out) != is_here


def test_a_check_that_failed_is_a_failure(quick, monkeypatch):
    monkeypatch.setattr(self_check, "CHECKS", {"sum": lambda: (2.0, 1.0)})
    assert doctor.main() == 1


def test_run_from_a_folder_only_the_versions_that_are_here_are_known(monkeypatch):
    version = installation.version
    monkeypatch.setattr(installation, "version", lambda name: "" if name == "pgd_jax" else version(name))
    lines = [line.split() for line in doctor.versions()]
    assert [line[0] for line in lines] == ["pgd_jax", "python", "jax", "jaxlib"] and lines[2][1] == jax.__version__
    assert lines[0][-4:] == ["not", "installed", "by", "pip"] and list(doctor.features()) == []


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    assert "file cannot be written to (Not a directory)" in doctor._state(tmp_path / "file" / "data")


# ---- what can be wrong with a device ----


def rounding(mantissa_bits):
    """The library's product on a device that keeps so many bits of float32 factors."""

    def multiply(x, kernel):
        few = [jax.lax.reduce_precision(a, 8, mantissa_bits) if a.dtype == jnp.float32 else a for a in (x, kernel)]
        return few[0] @ few[1]

    return lambda monkeypatch: monkeypatch.setattr(self_check.product, "product", multiply)


def with_noise_too_large(monkeypatch):
    normal = jax.random.normal
    monkeypatch.setattr(jax.random, "normal", lambda *arguments: 1.2 * normal(*arguments))


def with_lanes(change):
    def by_lane(function, mesh, num_by_lane, num_copied):
        return lambda *trees: jax.tree.map(change, function(*trees))

    return lambda monkeypatch: monkeypatch.setattr(self_check.devices, "by_lane", by_lane)


def raising(monkeypatch):
    def refuse(x, kernel):
        raise RuntimeError("INTERNAL: no such kernel\non this device")

    monkeypatch.setattr(self_check.convolution, "convolve", refuse)


FAULTS = {
    "matrix product in float32": rounding(10),
    "matrix product as runs have it": rounding(3),
    "convolution over time": lambda m: m.setattr(self_check.convolution, "convolve", lambda x, kernel: 1.001 * x),
    "unguided windows of Gaussian data": with_noise_too_large,
    "guidance by a Gaussian policy": lambda m: m.setattr(edm, "posterior_variance", lambda sigma: sigma**2),
    "update of an agent against float64": rounding(10),
    "lanes together against each alone": with_lanes(lambda leaf: jnp.roll(leaf, 1, axis=0)),
    "windows gathered over devices": lambda m: m.setattr(
        self_check.devices, "map_windows", lambda function, x, mesh: jnp.zeros_like(x)
    ),
}


def finding(name, monkeypatch):
    monkeypatch.setattr(self_check, "CHECKS", {name: self_check.CHECKS[name]})
    (found,) = self_check.run()
    return found


@pytest.mark.parametrize("name", self_check.CHECKS)
def test_each_check_can_fail(name, monkeypatch):
    FAULTS[name](monkeypatch)
    found = finding(name, monkeypatch)
    assert not found.is_ok and found.error > found.limit
    assert str(found).startswith(f"FAILED {name}: error ")


def test_a_number_that_is_none_fails(monkeypatch):
    with_lanes(lambda leaf: leaf.at[-1].set(jnp.nan) if leaf.dtype == jnp.float32 else leaf)(monkeypatch)
    found = finding("lanes together against each alone", monkeypatch)
    assert not found.is_ok and np.isnan(found.error)


def test_an_error_that_a_check_raises_is_its_finding_and_the_others_go_on(monkeypatch, capsys):
    raising(monkeypatch)
    names = ["convolution over time", "matrix product in float32"]
    monkeypatch.setattr(self_check, "CHECKS", {name: self_check.CHECKS[name] for name in names})
    assert not doctor.check_device()
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "  FAILED convolution over time: INTERNAL: no such kernel"
    assert said[2].startswith("  ok     matrix product in float32") and said[3] == "FAILED: convolution over time"


@pytest.mark.parametrize(("mantissa_bits", "kind"), [(23, "float32"), (10, "TensorFloat-32"), (7, "bfloat16")])
def test_the_precision_of_runs_is_named(mantissa_bits, kind, monkeypatch):
    rounding(mantissa_bits)(monkeypatch)
    found = finding("matrix product as runs have it", monkeypatch)
    assert found.is_ok and found.note.startswith(kind)
    assert ("JAX_DEFAULT_MATMUL_PRECISION" in found.note) == (kind != "float32")
