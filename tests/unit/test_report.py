"""Groups, numbers and words of the report, on runs written by hand."""

import json

import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.report import origins, results, stats, summary, writer
from tests import event_files
from tests.runs import FINAL, REAL_LANES, SYNTHETIC_LANES, write_run


@pytest.fixture
def written(tmp_path):
    synthetic = write_run(tmp_path / "synthetic", [[90.0] * 6] * 4 + [FINAL], SYNTHETIC_LANES, num_seeds=3)
    real = write_run(
        tmp_path / "real", [[0.0] * 3] * 4 + [[9.0, 14.0, 13.0]], REAL_LANES, num_seeds=3, synthetic_per_batch=0
    )
    return synthetic, real


def numbers_of(out):
    return json.loads((out / "report.json").read_text())


def test_the_last_phase_decides_and_words_follow_the_intervals(written, tmp_path):
    writer.write(tmp_path / "report", written[:1])
    page = writer.write(tmp_path / "report", written).read_text()  # replaces the older report
    numbers = numbers_of(tmp_path / "report")
    assert [*numbers["groups"]] == ["real", "unguided", "guided λ=3"] and numbers["updates"] == 50
    last = {name: group["last"]["return_mean"]["mean"] for name, group in numbers["groups"].items()}
    assert last == {"real": 12.0, "unguided": 3.0, "guided λ=3": pytest.approx(39.5 / 3)}  # not the earlier 90
    found = {(d["a"], d["b"]): d for d in numbers["differences"]}
    assert set(found) == {("unguided", "real"), ("guided λ=3", "real"), ("guided λ=3", "unguided")}
    assert found["guided λ=3", "unguided"]["last"]["values"] == [10.0, 10.5, 10.0]
    # Against real: 2, -1.5, 3.
    assert found["guided λ=3", "real"]["verdict"] == "no clear difference"
    assert "**guided λ=3** beats **unguided**: +10.2 [+9.4, +10.9], paired by seed." in page
    assert "**No clear difference** between **guided λ=3** and **real**: +1.2" in page
    # Of 11, 12.5, 16 nothing is cut; three seeds have 10 resamples.
    assert "| guided λ=3 | 13.2 [11.0, 16.0] | 11.0 12.5 16.0 |" in page
    assert "gone" in page and numbers["controlled"] == {} and numbers["timing"] == []  # no denoiser, and it is said


def test_the_end_of_the_run_is_averaged_beside_it(tmp_path):
    # Ten phases of return 0, 1, ..., 9: the last three are phases 7 to 9.
    path = write_run(tmp_path / "run", [[float(phase)] * 3 for phase in range(10)], REAL_LANES)
    (group,) = results.groups([results.read(path)])
    assert results.late(group, "return_mean", 100) == {0: 8.0, 1: 8.0, 2: 8.0}
    assert results.last(group, "return_mean", 100) == {0: 9.0, 1: 9.0, 2: 9.0}
    assert results.late(group, "return_mean", 20) == {0: 0.5, 1: 0.5, 2: 0.5}  # there are two


def test_runs_of_unequal_length_are_compared_at_the_same_updates(tmp_path):
    short = write_run(tmp_path / "short", [[1.0] * 6, [2.0] * 6], SYNTHETIC_LANES, finished=False)
    long = write_run(tmp_path / "long", [[5.0] * 3, [6.0] * 3, [70.0] * 3], REAL_LANES, synthetic_per_batch=0)
    page = writer.write(tmp_path / "report", [short, long]).read_text()
    numbers = numbers_of(tmp_path / "report")
    assert numbers["updates"] == 20 and numbers["groups"]["real"]["last"]["return_mean"]["mean"] == 6.0
    assert f"`{short}` is not finished (2 of 2 phases)" in page


def test_runs_without_evaluation_are_reported_without_scores(tmp_path):
    path = write_run(tmp_path / "run", [[None] * 6], SYNTHETIC_LANES)
    page = writer.write(tmp_path / "report", [path]).read_text()
    assert "No scores" in page and numbers_of(tmp_path / "report")["differences"] == []
    assert not (tmp_path / "report" / "learning_curves.png").exists()


def test_seeds_of_two_runs_are_pooled_and_never_counted_twice(tmp_path):
    first = write_run(tmp_path / "a", [[1.0] * 3], REAL_LANES)
    more = write_run(tmp_path / "b", [[2.0] * 3], [("real", 0.0, s) for s in (3, 4, 5)], first_seed=3)
    wider = write_run(tmp_path / "c", [[3.0] * 3], REAL_LANES, hidden_dim=64)
    (group,) = results.groups([results.read(first), results.read(more)])
    assert results.last(group, "return_mean", 10) == {0: 1.0, 1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0, 5: 2.0}
    names = [group.name for group in results.groups([results.read(first), results.read(wider)])]
    assert names == [f"real ({first})", f"real ({wider})"]
    with pytest.raises(UserError, match='both hold seed 0 of "real"'):
        again = write_run(tmp_path / "d", [[1.0] * 3], REAL_LANES)
        results.groups([results.read(first), results.read(again)])


def test_what_cannot_be_compared_or_read_is_refused(tmp_path, written):
    other = write_run(tmp_path / "iql", [[1.0] * 3], REAL_LANES, agent="iql", hidden_dim=64)
    with pytest.raises(UserError, match="different agents"):
        writer.write(tmp_path / "report", [*written, other])
    with pytest.raises(UserError, match="named twice"):
        writer.write(tmp_path / "report", [other, tmp_path / "." / "iql"])
    with pytest.raises(UserError, match="not a run directory"):
        writer.write(tmp_path / "report", [tmp_path / "nothing"])
    (write_run(tmp_path / "young", [], []) / "metrics.jsonl").touch()
    with pytest.raises(UserError, match="first phase"):
        writer.write(tmp_path / "report", [tmp_path / "young"])
    assert not (tmp_path / "report").exists()


def test_a_directory_with_other_things_is_left_alone(tmp_path, written):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.md").write_text("x")
    with pytest.raises(UserError, match=r"thesis\.md"):
        writer.write(out, written)
    assert [path.name for path in out.iterdir()] == ["thesis.md"]


def test_files_with_a_report_s_names_are_not_a_report(tmp_path, written):
    out = tmp_path / "mine"
    out.mkdir()
    for name in ("report.md", "windows.png", "report.json"):
        (out / name).write_text('{"made_by": "me"}')
        with pytest.raises(UserError, match=name):
            writer.write(out, written)
        assert [path.read_text() for path in out.iterdir()] == ['{"made_by": "me"}']
        (out / name).unlink()


def test_a_report_that_was_cut_short_is_replaced(tmp_path, written, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(writer, "_draw", lambda *_: (_ for _ in ()).throw(RuntimeError()))
        writer.write(tmp_path / "report", written)
    assert writer.write(tmp_path / "report", written).exists()


def test_figures_are_shown_elsewhere_too(tmp_path, written):
    pytest.importorskip("tensorboardX")
    for _ in range(2):  # the second replaces the first
        writer.write(tmp_path / "report", written, sinks=["tensorboard"])
    folder = tmp_path / "report" / "sinks" / "tensorboard"
    shown = {value.tag: value.image for _, value in event_files.values(folder) if value.HasField("image")}
    assert shown.keys() == {"learning_curves"} and shown["learning_curves"].width > 100
    with pytest.raises(UserError, match='"csv" shows no figures'):
        writer.write(tmp_path / "other", written, sinks=["csv"])


def test_the_command_repeats_the_settings(written):
    command = origins.command(results.read(written[1]))
    assert command.startswith(f"pgd-train-agent --workdir={written[1]} ")
    assert "--config.synthetic_per_batch=0" in command and "hidden_dim" not in command  # its default


@pytest.mark.parametrize(
    "ratios, wanted",
    [
        ([1.0, 1.1, 1.2], "yes"),
        ([1.4, 1.5, 1.6], "not clear"),
        ([2.0, 2.1, 2.2], "no"),
        ([1.0], "yes (too few seeds)"),
    ],
)
def test_the_error_limit_is_judged_by_the_interval(ratios, wanted):
    assert summary.within_limit(stats.ratio(ratios, [1.0] * len(ratios))) == wanted
