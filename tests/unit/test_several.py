"""Runs of several datasets in one report, and figures over tasks."""

import json

import matplotlib
import numpy as np
import pytest

import pgd_jax as pgd
from pgd_jax.api import plot
from pgd_jax.core.errors import UserError
from pgd_jax.report import exchange, folder, several, tasks, writer
from tests.runs import FINAL, REAL_LANES, SYNTHETIC_LANES, write_run

matplotlib.use("agg")


@pytest.fixture
def written(tmp_path):
    """Two datasets with runs of real and of synthetic data each."""
    paths = []
    for dataset, shift in (("hopper", 0.0), ("walker", 50.0)):
        scores = [[value + shift + phase for value in FINAL] for phase in range(4)]
        paths.append(write_run(tmp_path / f"{dataset}_s", scores, SYNTHETIC_LANES, num_seeds=3, dataset=dataset))
        real = [[shift, shift + 2.0, shift + 4.0]] * 4
        options = dict(num_seeds=3, dataset=dataset, synthetic_per_batch=0)
        paths.append(write_run(tmp_path / f"{dataset}_r", real, REAL_LANES, **options))
    return paths


def test_a_report_of_each_dataset_and_one_over_all(written, tmp_path):
    out = tmp_path / "report"
    several.write(out, written)
    page = several.write(out, written).read_text()  # replaces the older one
    assert sorted(path.name for path in out.iterdir()) == [
        "hopper", "profiles.png", "report.html", "report.json", "report.md", "results.csv", "walker",
    ]  # fmt: skip
    assert "[hopper](hopper/report.md), [walker](walker/report.md)" in page and "](profiles.png)" in page
    # guided: 11, 12.5, 16, and 3 more in phase 4; on walker 50 more. One is cut at each end of the six:
    # (15.5 + 19 + 64 + 65.5) / 4 = 41.
    guided = "td3_bc guided guidance_coefficient=3.0"
    numbers = json.loads((out / "report.json").read_text())
    assert numbers["summary"]["overall"][guided]["iqm"]["value"] == pytest.approx(41.0)
    assert numbers["summary"]["late"]["hopper"][guided]["seeds"] == {"0": 13.0, "1": 14.5, "2": 18.0}
    assert f"| hopper | {guided} | 3 | 16.2 [" in page and "| 14.0 15.5 19.0 |" in page
    # Every guided seed beats every real one, on both.
    assert f"| {guided} | td3_bc real | 1.00 [1.00, 1.00] |" in page and several.PLAIN in page
    rows = exchange.read_results(out / "results.csv")
    assert len(rows) == 2 * 4 * 9 and tasks.summarise(rows).overall[guided].iqm.value == pytest.approx(41.0)
    assert json.loads((out / "hopper" / "report.json").read_text())["task"]["dataset"] == "hopper"


def test_runs_of_one_dataset_make_one_report(written, tmp_path):
    page = several.write(tmp_path / "report", written[:2])
    assert page == tmp_path / "report" / "report.md" and not (tmp_path / "report" / "hopper").exists()
    rows = exchange.read_results(tmp_path / "report" / "results.csv")
    assert [row["score"] for row in rows if row["method"] == "td3_bc real" and row["seed"] == 1] == [2.0] * 4
    assert {row["update"] for row in rows} == {10, 20, 30, 40} and {row["episodes"] for row in rows} == {16}
    assert "[results.csv](results.csv)" in page.read_text()


def test_groups_of_other_settings_are_told_apart_in_results(tmp_path):
    small = write_run(tmp_path / "small", [[1.0] * 3], REAL_LANES)
    wide = write_run(tmp_path / "wide", [[2.0] * 3], REAL_LANES, hidden_dim=64)
    writer.write(tmp_path / "report", [small, wide])
    settings = {row["setting"] for row in exchange.read_results(tmp_path / "report" / "results.csv")}
    assert settings == {f"run={small}", f"run={wide}"}


def test_what_cannot_be_averaged_is_refused_before_anything_is_written(written, tmp_path):
    out = tmp_path / "report"
    unjudged = write_run(tmp_path / "unjudged", [[None] * 3], REAL_LANES, dataset="ant")
    with pytest.raises(UserError, match="nothing judged the runs of ant"):
        several.write(out, [*written, unjudged])
    lost = write_run(tmp_path / "lost", [[1.0] * 3], REAL_LANES, dataset="")
    with pytest.raises(UserError, match="its dataset is not known"):
        several.write(out, [*written, lost])
    other = write_run(tmp_path / "iql", [[1.0] * 3], REAL_LANES, agent="iql", hidden_dim=64, dataset="hopper")
    with pytest.raises(UserError, match="different agents"):
        several.write(out, [*written, other])
    with pytest.raises(UserError, match="num_pool_episodes=-1"):
        several.write(out, written[:1], -1)
    with pytest.raises(UserError, match="num_pool_episodes=-1"):
        several.write(out, written, -1)
    assert not out.exists()


def test_a_stranger_s_pool_is_left_alone(written, tmp_path):
    out = tmp_path / "report"
    writer.write(out, written[:1])
    (out / folder.POOL).mkdir()
    (out / folder.POOL / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="final_returns/mine.txt"):
        writer.write(out, written[:1])
    assert (out / folder.POOL / "mine.txt").exists()


def test_figures_of_arrays():
    axis = plot.performance_profiles({"a": [[1, 2, 3], [4, 5, 6]], "b": [[0, 0, 0], [9, 9, 9]]}, thresholds=[0, 3.5, 9])
    a, b = (line.get_ydata() for line in axis.get_lines())
    np.testing.assert_allclose(a, [1.0, 0.5, 0.0])
    np.testing.assert_allclose(b, [0.5, 0.5, 0.0])
    axis = plot.tuning_curves({"a": [[1.0] * 3, [2.0] * 3]}, label="return", num_trials=20, num_pulls=5)
    (line,) = axis.get_lines()
    assert line.get_ydata()[-1] == 2.0 and line.get_label() == "a (2 of 2 policies)"
    assert axis.get_ylabel() == "return of the chosen policy"
    for draw in (plot.performance_profiles, plot.tuning_curves):
        with pytest.raises(UserError, match="at least one method"):
            draw({})


def test_thresholds_span_the_scores():
    levels, found = tasks.profiles({"a": [[-5.0, 1.0, np.nan]], "b": [[20.0, 3.0, 4.0]]})
    assert (levels[0], levels[-1], len(levels)) == (-5.0, 20.0, 101) and np.isnan(found["a"].value).all()
    assert tasks.profiles({"a": [[7.0, 8.0]]})[0][0] == 0.0


def test_numbers_of_a_report_and_a_pool_from_python(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    several.write("report", written)
    policies = [exchange.Policy("td3_bc guided", "hopper", np.array([1.0, 2.0]) + i) for i in range(3)]
    exchange.write_pool("report/final_returns", policies)
    rows, pool = pgd.exchange.read_results("report/results.csv"), pgd.exchange.read_pool("report/final_returns")
    assert len(rows) == 2 * 4 * 9 and len(pool) == 3
    assert "hopper" in pgd.tasks.markdown(pgd.tasks.summarise(rows))
    pgd.plot.performance_profiles(pgd.tasks.complete(rows))
    pgd.plot.tuning_curves({"guided": [policy.values for policy in pool if policy.algorithm == "td3_bc guided"]})
    found = pgd.stats.stratified_bootstrap(pgd.stats.interquartile_mean, [[66, 96, 99, 121], [15, 12, 9]])
    # Seven values, one cut at each end: 12, 15, 66, 96, 99.
    assert found.value == pytest.approx(57.6)
