"""The agent of docs/agents/own.md in a project of its own: by --import, as lanes, killed, resumed and reported."""

import csv
import json
import os
import signal
import subprocess
import sys

import pytest

from tests import pages
from tests.commands import Command, script

pytestmark = pytest.mark.slow  # six processes

FLAGS = ["--import=my_agent", "--config.agent=one_step", "--config.hyper.agent.temperature=1,3"]
FLAGS += ["--config.hyper.generator.guidance_coefficient=0,1", "--config.num_seeds=1", "--config.num_phases=24"]
FLAGS += [f"--config.{each}" for each in (
    "hidden_dim=16", "num_hidden=1", "updates_per_phase=4", "batch_size=8", "synthetic_per_batch=6", "num_episodes=2",
    "sampling.num_steps=3", "sampling.num_trajectories=8", "sampling.trajectories_per_batch=4",
)]  # fmt: skip

# In the project's own Python: the agent is known once its module is imported.
SAME = """
import pathlib, sys
import my_agent
import pgd_jax as pgd
from tests.commands import content

runs = [pathlib.Path(name) for name in sys.argv[1:]]
assert content(runs[0]) == content(runs[1])
policy = pgd.load_agents(runs[0]).policy(lane=3)
assert policy([[1.0, 0.0, 0.0]]).shape == (1, 1)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with nothing but the page's file."""
    path = tmp_path_factory.mktemp("project")
    for name, text in pages.files(pages.ROOT / "docs" / "agents" / "own.md").items():
        (path / name).write_text(text)
    return path


@pytest.fixture(scope="module")
def whole(project, trained):
    """A run from start to end."""
    return finished(project, trained, "whole")


def command(project, trained, name):
    flags = [*FLAGS, f"--config.denoiser={trained}"]
    return Command(script("pgd-train-agent"), project / name, flags, cwd=project)


def finished(project, trained, name):
    command(project, trained, name).finish()
    return project / name


def run(project, *line):
    environment = os.environ | {"PYTHONPATH": str(pages.ROOT)}
    done = subprocess.run(line, cwd=project, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_floats_are_lanes(whole):
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()][-4:]
    values = [(row["setting"]["temperature"], row["setting"]["guidance_coefficient"]) for row in rows]
    assert values == [(1.0, 0.0), (1.0, 1.0), (3.0, 0.0), (3.0, 1.0)]
    assert len({row["actor_loss"] for row in rows}) == 4


def test_killed_and_resumed_it_is_undisturbed(project, trained, whole):
    disturbed = command(project, trained, "disturbed")
    status, _ = disturbed.signal_after(signal.SIGKILL, 2, 0.0)
    assert status == -signal.SIGKILL and 2 <= disturbed.newest() < 24
    assert "resuming after chunk" in disturbed.finish()
    run(project, sys.executable, "-c", SAME, str(whole), str(disturbed.path))


def test_it_has_a_report(project, whole):
    run(project, *script("pgd-report"), "--import=my_agent", "--runs=whole", "--out=report")
    with open(project / "report" / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 24
    page = (project / "report" / "report.md").read_text()
    assert "one_step" in page and "guided temperature=3" in page
