"""An agent trained on an OGBench dataset, judged by the package's task."""

import pytest

from pgd_jax.runs import agent as agent_runs, metrics
from tests import worlds
from tests.ogbench_files import pointmaze_like, write

pytest.importorskip("ogbench", reason="ogbench is not installed (on Python 3.13 it has no wheels)")

NAME, FILE = "pointmaze-medium-navigate-singletask-task1-v0", "pointmaze-medium-navigate-v0"


def test_an_agent_is_judged_by_the_packages_task(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OGBENCH_DATASET_DIR", str(tmp_path))
    write(tmp_path, FILE, pointmaze_like([20] * 5))
    config = worlds.agent_config(
        agent="bc", denoiser="", dataset=f"ogbench:{NAME}", synthetic_per_batch=0, num_phases=1, num_episodes=2
    )
    assert agent_runs.fit(config, tmp_path / "run")
    assert "judged on the host, 2 episodes a lane after each chunk" in capfd.readouterr().err
    for row in metrics.read(tmp_path / "run" / "metrics.jsonl"):
        assert 0.0 <= row["host_success_rate"] <= 1.0 and "host_normalised_score" not in row
        assert row["host_return_mean"] == -row["host_episode_length_mean"] + row["host_success_rate"]
