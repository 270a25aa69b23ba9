"""The package as a graph of imports: no circle, and every module imports alone."""

import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def modules():
    """Name -> file of each module of the package."""
    files = sorted((ROOT / "pgd_jax").rglob("*.py"))
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imported(file, known):
    """Modules of the package that a file imports at its top; a package stands for its __init__ alone."""
    return imported_of(ast.parse(file.read_text()).body, known)


def imported_of(nodes, known):
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & known or {node.module}
    return found & known


def test_no_module_needs_itself():
    known = modules()
    graph = {name: imported(file, set(known)) - {name} for name, file in known.items()}
    # The package's own first lines import what must come before JAX; everything may ask it for the version.
    graph["pgd_jax"] = set()
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert order.index("pgd_jax.core.errors") < order.index("pgd_jax.api") and len(order) == len(known)


# From the ground up: a module imports those of its own floor and of the floors below.
FLOORS = [
    "core", "networks", "envs", "data", "diffusion", "agents", "measures", "generators", "train", "runs",
    "report", "api", "cli", "launch", "__main__",
]  # fmt: skip


def floor(name):
    words = name.split(".")
    return FLOORS.index(words[1]) if len(words) > 1 else None


def test_imports_go_down_the_floors():
    """Imports within functions too."""
    known = modules()
    wrong = []
    for name, file in known.items():
        tree = ast.Module(list(ast.walk(ast.parse(file.read_text()))), [])
        for other in imported_of(tree.body, set(known)):
            if None not in (floor(name), floor(other)) and floor(other) > floor(name):
                wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_few_things_lie_at_the_top():
    entries = {path.name.removesuffix(".py") for path in (ROOT / "pgd_jax").iterdir() if path.name != "__pycache__"}
    assert entries == {*FLOORS, "__init__", "py.typed"} and len(entries) <= 17


# A process for each module, forked from one that has the libraries but nothing of ours.
ALONE = """
import importlib, os, sys, traceback
import absl.flags, flax.linen, gymnasium, h5py, jax, matplotlib.figure, ml_collections, optax, scipy.stats
from orbax.checkpoint import v1
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
print("failed:", *failed)
"""


@pytest.mark.slow
def test_every_module_imports_alone():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE, *modules()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.split() == ["failed:"], done.stderr
