"""The notebooks of experiments/notebooks: kept without outputs, and each runs from nothing and leaves no file."""

import json
import os

import pytest

from tests import pages

NOTEBOOKS = sorted((pages.ROOT / "experiments" / "notebooks").glob("*.ipynb"))
BY_NAME = {"ids": [path.stem for path in NOTEBOOKS]}


def test_all_are_in_the_index():
    text = (pages.ROOT / "experiments" / "notebooks" / "index.md").read_text()
    assert len(NOTEBOOKS) == 5 and all(f"\n{path.stem}\n" in text for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, **BY_NAME)
def test_outputs_are_not_kept(path):
    """They are made anew in the documentation, and a change shows as what was written."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells and not any(cell["outputs"] or cell["execution_count"] for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, **BY_NAME)
def test_a_notebook_runs_and_leaves_nothing_behind(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="make docs installs it: requirements-docs.txt")
    nbformat = pytest.importorskip("nbformat")
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(pages.ROOT), before])))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert not list(tmp_path.iterdir())
