"""The report over a sweep's jobs: what it says of unfinished, failed and damaged ones, and that it is linear."""

import csv
import json
import shutil
import time
import tracemalloc

import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.report import exchange, jobs
from pgd_jax.runs import records
from tests import runs

LANES = [("unguided", 0.0, 0), ("guided guidance_coefficient=3", 3.0, 0)]


def found(path, settings, state="finished", about=""):
    return jobs.Found(path, settings, state, about)


@pytest.fixture
def sweep(tmp_path):
    """Two agents by two sizes, of one phase or two; one job failed after its first, one never began."""
    here, made = tmp_path / "runs", []
    here.mkdir()
    for agent, size, scores in (("td3_bc", 8, [[1.0, 2.0], [3.0, 6.0]]), ("td3_bc", 16, [[2.0, 4.0], [5.0, 8.0]]),
                                ("iql", 8, [[0.0, 1.0]])):  # fmt: skip
        name = f"agent={agent},hidden_dim={size}"
        runs.write_run(here / name, scores, LANES, finished=agent != "iql", agent=agent, hidden_dim=size)
        state, about = ("finished", "") if agent != "iql" else ("failed", "exit status 1: error: out of memory")
        made.append(found(here / name, (f"agent={agent}", f"hidden_dim={size}"), state, about))
    return [*made, found(here / "agent=iql,hidden_dim=16", ("agent=iql", "hidden_dim=16"), "not started")]


def test_every_job_counts_as_far_as_it_came(sweep, tmp_path):
    page = jobs.write(tmp_path / "out", sweep).read_text()
    rows = exchange.read_results(tmp_path / "out" / "results.csv")
    assert len(rows) == 10
    assert rows[1] == {
        "dataset": "some-dataset", "method": "td3_bc unguided", "setting": "hidden_dim=8", "seed": 0, "update": 20,
        "measure": "return_mean", "score": 3.0, "episodes": rows[1]["episodes"], "commit": rows[1]["commit"],
    }  # fmt: skip
    with open(tmp_path / "out" / "settings.csv", newline="") as file:
        settings = {(row["method"], row["setting"]): row for row in csv.DictReader(file)}
    guided = settings["td3_bc guided", "hidden_dim=16;guidance_coefficient=3.0"]
    assert (guided["mean"], guided["seeds"], guided["update"]) == ("8.0", "1", "20")
    assert settings["iql unguided", "hidden_dim=8"]["unfinished_jobs"] == "1"
    assert page.startswith("# Sweep of 4 jobs\n\n1 failed, 2 finished, 1 not started.")
    assert "agent=iql,hidden_dim=8: exit status 1: error: out of memory" in page
    lines = page.splitlines()
    first = next(line for line in lines if line.startswith("| td3_bc guided | hidden_dim=16"))
    assert lines.index(first) == lines.index("|" + " --- |" * 8) + 1
    assert "| hidden_dim | 16 | 6.5 | 2 |" in lines  # of 5 and 8


def test_seeds_of_several_jobs_are_one_setting(tmp_path):
    lanes = [[("unguided", 0.0, seed)] for seed in range(3)]
    made = [
        found(runs.write_run(tmp_path / f"first_seed={seed}", [[score]], lanes[seed]), (f"first_seed={seed}",))
        for seed, score in enumerate([1.0, 2.0, 6.0])
    ]
    jobs.write(tmp_path / "out", made)
    (setting,) = json.loads((tmp_path / "out" / "report.json").read_text())["settings"]
    assert (setting["setting"], setting["seeds"], setting["mean"], setting["jobs"]) == ("", 3, 3.0, 3)


def test_damaged_runs_are_named_and_stop_nothing(sweep, tmp_path):
    (sweep[0].run_dir / "metrics.jsonl").write_text("nothing\n{}\n")
    (sweep[1].run_dir / records.CONFIG).write_text("{")
    page = jobs.write(tmp_path / "out", sweep).read_text()
    assert "- agent=td3_bc,hidden_dim=8: " in page and "line 1 is not a metrics row" in page
    assert "- agent=td3_bc,hidden_dim=16: " in page and "config.json cannot be read" in page
    assert len(exchange.read_results(tmp_path / "out" / "results.csv")) == 2


def test_without_any_result_nothing_is_written(sweep, tmp_path):
    with pytest.raises(UserError, match="no job has a result yet"):
        jobs.write(tmp_path / "out", sweep[3:])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(UserError, match=r"other things than a report \(notes.txt\)"):
        jobs.write(tmp_path / "mine", sweep)
    assert not (tmp_path / "out").exists()


def many(folder, template, number):
    for i in range(number):
        shutil.copytree(template, folder / f"hidden_dim={i}")
    return [found(folder / f"hidden_dim={i}", (f"hidden_dim={i}",)) for i in range(number)]


@pytest.mark.slow
def test_ten_thousand_runs_take_ten_times_as_long_as_a_thousand(tmp_path):
    template = runs.write_run(tmp_path / "template", [[float(phase)] * 2 for phase in range(10)], LANES)
    (tmp_path / "runs").mkdir()
    made, seconds, peaks = many(tmp_path / "runs", template, 10_000), {}, {}
    for number in (100, 1_000, 10_000):
        began = time.process_time()
        jobs.write(tmp_path / f"out{number}", made[:number])
        seconds[number] = time.process_time() - began
    for number in (100, 1_000):
        tracemalloc.start()
        jobs.write(tmp_path / f"out{number}", made[:number])
        peaks[number] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    print(f"seconds {seconds}, peaks in bytes {peaks}")
    assert seconds[10_000] < 15.0 * seconds[1_000]
    # Two settings a run, with all that the page and report.json say of them; its rows would be 20 kB and more.
    assert peaks[1_000] - peaks[100] < 900 * 10_000
    with open(tmp_path / "out10000" / "results.csv") as file:
        assert sum(1 for _ in file) == 200_001
