"""The files around the package that nothing imports: they name what is there, and are what they must be for others."""

import configparser
import pathlib
import re

import yaml

import pgd_jax
from pgd_jax.cli import doctor

ROOT = pathlib.Path(__file__).resolve().parents[2]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
MAKEFILE = (ROOT / "Makefile").read_text().replace("$(VENV)", ".venv")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_extra_is_explained_in_the_documentation_and_by_the_doctor():
    extras = set(SETUP["options.extras_require"])
    rows = re.findall(r"^\| `([a-z-]+)` \|", read("docs/installation.md").partition("## Versions")[0], re.MULTILINE)
    assert set(rows) == extras == {*doctor.FEATURES, *doctor.NOT_FEATURES}


def test_what_make_installs_is_what_pip_installs():
    listed = [line for line in read("requirements.txt").splitlines() if not line.startswith("#")]
    assert listed == SETUP["options"]["install_requires"].strip().splitlines()


def test_the_changelog_and_the_citation_are_of_this_version():
    assert re.search(r"^## \[(.+?)\]", read("CHANGELOG.md"), re.MULTILINE)[1] == pgd_jax.__version__
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # which the format asks for
    assert citation["version"] == pgd_jax.__version__ and citation["license"] == SETUP["metadata"]["license"]
    (paper,) = citation["references"]
    assert "2404.06356" in paper["url"] and len(paper["authors"]) == 6


def test_the_workflow_runs_what_there_is_on_every_python():
    jobs = yaml.safe_load(read(".github/workflows/tests.yml"))["jobs"]
    named = re.findall(r"Python :: (3\.\d+)", SETUP["metadata"]["classifiers"])
    for job in ("test", "wheel"):
        assert jobs[job]["strategy"]["matrix"]["python"] == named and len(named) == 3
    lines = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = [line.removeprefix("make ") for line in lines if line.startswith("make ")]
    assert targets == ["lint", "test", "docs"]
    assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in targets)


def test_the_hooks_before_a_commit_are_make_lint():
    (local,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    lint = re.search(r"^lint:.*\n((?:\t.+\n)+)", MAKEFILE, re.MULTILINE)[1]
    assert [hook["entry"] for hook in local["hooks"]] == [line.strip().removesuffix(" .") for line in lint.splitlines()]
