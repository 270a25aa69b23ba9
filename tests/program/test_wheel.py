"""The wheel, built from this tree as `pip install .` builds it, and what it brings where it is installed."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

import pgd_jax
from pgd_jax.core import presets

ROOT = pathlib.Path(__file__).resolve().parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
DIST_INFO = f"pgd_jax-{pgd_jax.__version__}.dist-info"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """From a copy, as a build writes beside its sources; without network."""
    source, out = tmp_path_factory.mktemp("tree") / "source", tmp_path_factory.mktemp("wheel")
    for folder in ("pgd_jax", "tests", "experiments"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", f"--wheel-dir={out}", str(source)]
    subprocess.run([*PIP, *build], check=True, timeout=300)
    (found,) = out.iterdir()
    return found


def test_it_holds_the_whole_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = {name for name in names if not name.startswith(f"{DIST_INFO}/")}
    files = [path for path in (ROOT / "pgd_jax").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert package == {path.relative_to(ROOT).as_posix() for path in files}
    assert {"pgd_jax/py.typed", "pgd_jax/core/presets/quickstart.py", "pgd_jax/data/mazes/collect.py"} <= package
    assert f"{DIST_INFO}/licenses/LICENSE" in names


def test_installed_it_is_a_package_its_commands_and_nothing_else(wheel, tmp_path):
    place, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([*PIP, "install", "--quiet", "--no-deps", f"--target={place}", str(wheel)], check=True, timeout=300)
    assert {path.name for path in place.iterdir()} == {"pgd_jax", DIST_INFO, "bin"}
    environment = os.environ | {"PYTHONPATH": str(place)}

    def said(*line):
        options = dict(cwd=elsewhere, env=environment, capture_output=True, text=True, check=True, timeout=60)
        return subprocess.run(line, **options).stdout

    scripts = sorted(path.name for path in (place / "bin").iterdir())
    listed = said(place / "bin" / "pgd").partition("commands:\n")[2].partition("\n\n")[0].splitlines()
    commands = [line.split()[0] for line in listed]
    assert scripts == sorted(["pgd", *(f"pgd-{name}" for name in commands)])
    assert said(place / "bin" / "pgd", "--version") == f"pgd_jax {pgd_jax.__version__}\n"
    listing = "import pgd_jax.core.presets as p; print(p.__file__, *p.names())"
    assert said(sys.executable, "-c", listing).split() == [
        str(place / "pgd_jax" / "core" / "presets" / "__init__.py"),
        *presets.names(),
    ]
