"""The learning study's settings, order, resumption and report, on results made by hand."""

import pathlib
import types

import numpy as np
import pytest

from experiments.claims import cells, learning, learning_report, tasks
from pgd_jax.core import validation
from pgd_jax.report import exchange, stats

WORKDIR = pathlib.Path("runs")


def rows_of(task, agent, arm, scores, update=50_000):
    """As a run's own table has them: a lane's settings are those that differ from the defaults."""
    setting = "guidance_coefficient=30.0" if arm == "guided" else ""
    return [
        {
            "dataset": task, "method": f"{agent} {arm}", "setting": setting, "seed": 200 + seed, "update": update,
            "measure": "normalised_score", "score": score, "episodes": 10, "commit": "abc",
        }
        for seed, score in enumerate(scores)
    ]  # fmt: skip


@pytest.mark.parametrize("cell", cells.ordered([], list(cells.AGENTS), list(cells.ARMS)), ids=str)
def test_every_cell_is_a_run_that_can_work(cell):
    config = cells.config(WORKDIR, cell)
    validation.validate_agent(config)
    assert config.num_seeds == 8 and config.num_phases * config.updates_per_phase == 50_000
    assert bool(config.num_episodes) != bool(config.host_episodes)


def test_models_of_the_tasks_can_work():
    for task in tasks.TASKS:
        validation.validate_denoiser(tasks.denoiser(task, 0))
        validation.validate_world_model(tasks.world_model(task, 0))


def test_a_task_is_whole_before_the_next_begins():
    found = cells.ordered([], ["td3_bc", "iql"], list(cells.ARMS))
    assert [cell.arm for cell in found[:4]] == list(cells.ARMS) and len({cell.task.name for cell in found[:4]}) == 1
    assert len({cell[:3] for cell in found}) == len(tasks.TASKS) * 2 * 4
    assert {cell.agent for cell in found[: len(found) // 2]} == {"td3_bc"}


def test_what_is_in_the_table_is_not_trained_again(tmp_path, monkeypatch):
    asked = []

    def train(workdir, cell):
        asked.append((cell.task.name, cell.method))
        return rows_of(cell.task.name, cell.agent, cell.arm, range(8)) if len(asked) < 4 else []

    monkeypatch.setattr(learning, "train", train)
    options = types.SimpleNamespace(
        workdir=str(tmp_path), out=str(tmp_path / "out"), tasks=["maze2d-umaze"], agents=["td3_bc"],
        arms=list(cells.ARMS), report_only=False,
    )  # fmt: skip
    assert learning.study(options) == 75  # stopped in the fourth cell
    assert len(exchange.read_results(tmp_path / "out" / "learning.csv")) == 3 * 8
    assert learning.study(options) == 75 and asked[3:] == [asked[3]] * 2
    assert "guided against real: probability of improvement 0.50" in (tmp_path / "out" / "learning.md").read_text()


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0.6, 0.9, "guided is better"), (0.1, 0.4, "real is better"), (0.4, 0.9, "not settled")]
)
def test_the_verdict_follows_the_interval(low, high, said):
    assert learning_report.verdict("real", stats.Interval((low + high) / 2, low, high), 3).endswith(f"{said}.")


def test_the_page_tells_who_is_better(tmp_path):
    low, high = np.linspace(10, 20, 8), np.linspace(60, 70, 8)
    rows = []
    for agent in ("td3_bc", "iql"):
        for task in ("hopper-medium", "maze2d-umaze"):
            for arm, scores in (("real", low), ("unguided", low), ("guided", high)):
                rows += rows_of(task, agent, arm, scores) + rows_of(task, agent, arm, scores, 40_000)
    learning_report.write(tmp_path, rows)
    page = (tmp_path / "learning.md").read_text()
    for other in ("real", "unguided"):
        assert f"guided against {other}: probability of improvement 1.00 [1.00, 1.00] over 4 pairs" in page
    assert "guided against ensemble" not in page
    assert "| hopper-medium, iql | +50.0 [+50.0, +50.0] | +50.0" in page.replace("guided - ", "")
    assert (tmp_path / "learning.png").stat().st_size > 10_000
