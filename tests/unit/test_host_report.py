"""Scores of the host in the report: beside those of the program, or alone."""

import json

from pgd_jax.core import places
from pgd_jax.report import writer
from pgd_jax.runs import metrics, records
from tests.runs import REAL_LANES, write_run


def judged(path, with_twin, with_success=False, **config):
    """Four phases in chunks of two: seed s returns 10 (phase + s) in the graph, and 10 less on the host."""
    scores = [[10.0 * (phase + seed) if with_twin else None for _, _, seed in REAL_LANES] for phase in range(4)]
    write_run(path, scores, REAL_LANES, phases_per_chunk=2, environment="pendulum", **config)
    rows = metrics.read(path / "metrics.jsonl")
    for row in rows:
        if row["phase"] % 2:
            row["host_return_mean"] = 10.0 * (row["phase"] + row["seed"]) - 10.0
            if with_success:
                row["host_success_rate"] = (row["phase"] + row["seed"]) / 10.0
    places.replace_text(path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return path


def written(path, out):
    page = writer.write(out, [path]).read_text()
    return page, json.loads((out / "report.json").read_text())


def test_the_host_stands_beside_the_program(tmp_path):
    path = judged(tmp_path / "run", with_twin=True, host_episodes=7)
    page, numbers = written(path, tmp_path / "report")
    assert numbers["score"] == "return_mean"
    last = numbers["groups"]["real"]["last"]
    assert last["return_mean"]["values"] == [30.0, 40.0, 50.0] and last["host_return_mean"]["mean"] == 30.0
    assert "| group | seeds | return of an episode | return of an episode on the host |" in page
    assert "Return of an episode in `pendulum`, 16 episodes a seed: real 40.0" in page
    versions = records.load_record(path, "agent")["versions"]
    assert (
        f"On the host: 7 episodes a seed after the last phase of each chunk, with gymnasium {versions['gymnasium']}"
        in page
    )


def test_the_host_alone_is_the_score(tmp_path):
    path = judged(tmp_path / "run", with_twin=False)
    page, numbers = written(path, tmp_path / "report")
    assert numbers["score"] == "host_return_mean"
    assert "Return of an episode on the host in `pendulum`, 16 episodes a seed: real 30.0" in page
    # Phases 1 and 3 alone have it: updates 20 and 40.
    curve = numbers["curves"]["host_return_mean"]["real"]
    assert (curve["updates"], curve["mean"]) == ([20, 40], [10.0, 30.0])
    assert "learning_curves.png" in numbers["figures"] and (tmp_path / "report" / "learning_curves.png").exists()


def test_success_is_the_score_and_the_return_stands_beside_it(tmp_path):
    path = judged(tmp_path / "run", with_twin=False, with_success=True)
    page, numbers = written(path, tmp_path / "report")
    assert numbers["score"] == "host_success_rate"
    # Seeds 0 to 2 after phase 3: 0.3, 0.4, 0.5.
    assert "Share of episodes on the host that succeed in `pendulum`, 16 episodes a seed: real 40.0%" in page
    assert "| share of episodes on the host that succeed | return of an episode on the host |" in page
    assert "30.0% 40.0% 50.0%" in page and "plain returns" not in page
