"""Every block of Python in README and docs runs, page by page, and every command line is one that its command takes."""

import os
import shutil
import subprocess
import sys

import matplotlib
import pytest

import pgd_jax.api  # noqa: F401  registers the library's own, before a page adds to it
from pgd_jax.core.registry import Registry
from tests import pages

matplotlib.use("agg")

SLOW = {"README.md", "docs/looking_inside.md"}  # more than a few seconds
WITH_PYTHON = [path for path in pages.pages() if pages.python(path)]
COMMANDS = {" ".join(command): command for path in pages.pages() for command in pages.commands(path)}
FILES = {name: text for path in pages.pages() for name, text in pages.files(path).items()}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with the pages' files. What they add to the registries is taken out at the end."""
    added, add = [], Registry.add

    def recorded(self, name, entry):
        added.append((self, name))
        return add(self, name, entry)

    monkeypatch.setattr(Registry, "add", recorded)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    yield tmp_path
    for registry, name in added:
        del registry._entries[name]
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=name, marks=[pytest.mark.slow] * (name in SLOW))
        for path in WITH_PYTHON
        for name in [pages.name(path)]
    ],
)
def test_a_page_is_a_program_that_runs(path, folder):
    """In a folder of its own, as the files that a page writes are its own."""
    source = compile(pages.python(path), pages.name(path), "exec")
    exec(source, {"__name__": "page"})
    assert pages.files(path).keys() <= {f"{name}.py" for name in sys.modules}, "a file that the page does not use"


def test_the_pages_are_found():
    assert sum(len(pages.files(path)) for path in pages.pages()) == len(FILES), "two files of one name"
    assert len(WITH_PYTHON) > 3 and len(COMMANDS) > 30


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_line_is_one_that_its_command_takes(command, folder):
    """--help is shown only after all other flags were understood: a wrong one is an error with exit status 2."""
    program, *given = command
    scripts = os.path.dirname(sys.executable)
    start = [sys.executable, *given[:2]] if program == "python" else [shutil.which(program, path=scripts)]
    rest = given[2:] if program == "python" else given
    rest = rest[: rest.index("--")] if "--" in rest else rest
    if any(flag.startswith("--preset=") for flag in rest):  # it may look for the dataset of a run, which is not there
        rest = [flag for flag in rest if not flag.startswith(("--config.denoiser=", "--config.world_model="))]
    environment = os.environ | {"PYTHONPATH": str(pages.ROOT)}
    found = subprocess.run([*start, *rest, "--help"], cwd=folder, env=environment, capture_output=True, text=True)
    assert found.returncode in (0, 1) and "error:" not in found.stderr, found.stderr[-2_000:]
