"""What a trial of experiments/ray_tune.py tells Tune, without Ray."""

import json
import subprocess
import sys

import pytest

from experiments import ray_tune

# (phase, setting, return of a seed).
FOUND = [(0, "a", 1.0), (0, "a", 3.0), (0, "b", 0.0), (1, "a", 1.0), (1, "b", 5.0)]


@pytest.fixture
def process():
    """One that runs until its input ends."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as running:
        yield running


def test_a_phase_is_told_once_with_its_best_setting_and_the_last_one_at_the_end(process, tmp_path):
    rows = [{"phase": phase, "group": group, "return_mean": value} for phase, group, value in FOUND]
    rows.append({"phase": 2, "group": "a"})  # not judged
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"pha')
    told = ray_tune.phases(process, tmp_path / "metrics.jsonl")
    assert next(told) == (1, 2.0)
    process.stdin.close()
    assert list(told) == [(2, 5.0)]


def test_a_run_that_wrote_nothing_tells_nothing(process, tmp_path):
    process.stdin.close()
    assert list(ray_tune.phases(process, tmp_path / "metrics.jsonl")) == []
