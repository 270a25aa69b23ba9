import json
import logging
import subprocess
import sys

import pytest

from pgd_jax.core import processes, provenance
from pgd_jax.core.errors import UserError
from pgd_jax.runs import metrics, records, rundir

CONFIG = {"lr": 0.1, "dims": (64, 32), "agent": {"tau": 0.005, "name": "iql"}}


def names(path):
    return sorted(p.name for p in path.iterdir())


def test_the_same_command_resumes_with_tuples_stored_as_lists(tmp_path):
    with rundir.open_run(tmp_path / "a" / "run", "agent", CONFIG) as run:
        assert run.config == {"lr": 0.1, "dims": [64, 32], "agent": {"tau": 0.005, "name": "iql"}}
        before = (run.path / "config.json").read_bytes()
    with rundir.open_run(tmp_path / "a" / "run", "agent", CONFIG) as again:
        assert again.config == run.config
    assert (run.path / "config.json").read_bytes() == before
    assert records.load_record(run.path, "agent")["config"] == run.config
    assert records.load_config(run.path, "agent") == records.completed(run.config, "agent")


def test_settings_newer_than_a_run_are_what_it_had():
    """The default, or where the code did something else before the setting was there, that."""
    filled = records.completed({"unet": {"width": 8}, "training": {"num_steps": 7}}, "denoiser")
    assert filled["unet"] == {"width": 8, "num_blocks": 3, "norm": "group", "compute_dtype": "float32"}
    assert filled["training"]["num_steps"] == 7 and filled["training"]["batch_size"] == 64
    assert records.completed({"unet": {"norm": "layer"}}, "denoiser")["unet"]["norm"] == "layer"


def test_the_record_says_what_ran_where(tmp_path):
    rundir.open_run(tmp_path, "agent", CONFIG).close()
    record = records.load_record(tmp_path, "agent")
    required = {"python", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "pgd_jax", "gymnax", "gymnasium"}
    assert required <= set(record["versions"]) <= required | set(provenance.WORLDS)  # of the rest, what is installed
    assert record["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record["device"] == "cpu"
    assert record["created"].endswith("+00:00")


def test_another_config_is_refused_naming_every_difference(tmp_path):
    rundir.open_run(tmp_path, "agent", CONFIG).close()
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    other = {"lr": 0.2, "dims": [64, 32], "agent": {"tau": 0.005, "beta": 3.0}}
    with pytest.raises(UserError) as caught:
        rundir.open_run(tmp_path, "agent", other)
    listed = [line.strip() for line in str(caught.value).splitlines() if line.startswith("  ")]
    assert listed == [
        "agent.beta: run has nothing, command has 3.0",
        'agent.name: run has "iql", command has nothing',
        "lr: run has 0.1, command has 0.2",
    ]
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_what_is_not_this_kind_of_run_is_refused_untouched(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(UserError, match="is a file"):
        rundir.open_run(file, "agent", CONFIG)
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter1.tex").write_text("x")
    with pytest.raises(UserError, match="chapter1.tex"):
        rundir.open_run(thesis, "agent", CONFIG)
    assert names(thesis) == ["chapter1.tex"]
    run = tmp_path / "run"
    rundir.open_run(run, "denoiser", CONFIG).close()
    with pytest.raises(UserError, match='kind "denoiser", not "agent"'):
        rundir.open_run(run, "agent", CONFIG)
    with pytest.raises(UserError, match='kind "denoiser", not "agent"'):
        records.load_config(run, "agent")
    with pytest.raises(UserError, match="not a run directory"):
        records.load_config(tmp_path / "missing", "agent")
    with pytest.raises(UserError, match="JSON"):
        rundir.open_run(tmp_path / "nan", "agent", {"lr": float("nan")})
    assert not (tmp_path / "nan").exists()


def test_a_crash_while_the_run_was_made_does_not_block_it(tmp_path):
    (tmp_path / "lock").write_text("")
    (tmp_path / "config.json.pgd_jax-partial").write_text('{"kind": "ag')
    with rundir.open_run(tmp_path, "agent", CONFIG) as run:
        assert run.config["lr"] == 0.1


@pytest.mark.parametrize("name", ["lock", "config.json.pgd_jax-partial", "config.json.partial"])
def test_files_of_others_with_our_names_are_not_written_over(name, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "victim").write_text("precious")
    if name == "lock":
        (tmp_path / "run" / name).write_text("precious")
        with pytest.raises(UserError, match="it holds lock"):
            rundir.open_run(tmp_path / "run", "agent", CONFIG)
        assert (tmp_path / "run" / name).read_text() == "precious"
        (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / name).symlink_to(tmp_path / "victim")
    try:
        rundir.open_run(tmp_path / "run", "agent", CONFIG).close()
    except UserError as error:
        assert name in str(error)
    assert (tmp_path / "victim").read_text() == "precious"


def test_several_processes_take_plain_paths_only(tmp_path, monkeypatch):
    """Each would need a name of its own for a path that orbax takes for a pattern, and orbax wants one name for all."""
    monkeypatch.setattr(processes, "are_several", lambda: True)
    with pytest.raises(UserError, match=r"run\[1\]: with several processes a path may hold"):
        rundir.open_run(tmp_path / "run[1]", "agent", CONFIG)
    assert not (tmp_path / "run[1]").exists()


def test_metrics_are_not_appended_to_a_link(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="metrics.jsonl is a link"):
        metrics.MetricsWriter(tmp_path / "metrics.jsonl")
    assert (tmp_path / "victim").read_text() == "precious"


def test_other_versions_on_resume_are_warned_about(tmp_path, caplog):
    rundir.open_run(tmp_path, "agent", CONFIG).close()
    record = records.load_record(tmp_path, "agent")
    installed = record["versions"]["jax"]
    record["versions"]["jax"] = "0.0.1"
    (tmp_path / "config.json").write_text(json.dumps(record))
    with caplog.at_level(logging.WARNING, logger="absl"):
        rundir.open_run(tmp_path, "agent", CONFIG).close()
    assert f'jax: run has "0.0.1", command has "{installed}"' in caplog.text
    assert "flax" not in caplog.text


def test_finished_is_remembered(tmp_path):
    with rundir.open_run(tmp_path, "agent", CONFIG) as run:
        assert not rundir.is_finished(tmp_path, "agent", CONFIG)
        run.mark_finished()
    assert rundir.is_finished(tmp_path, "agent", CONFIG)


HOLD = """
import sys
from pgd_jax.runs import rundir
run = rundir.open_run(sys.argv[1], "agent", {"lr": 0.1})
print("open", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(UserError, match=f"in use by another process .pid {holder.pid} on "):
            rundir.open_run(tmp_path, "agent", {"lr": 0.1})
        holder.kill()
        holder.wait()
        with rundir.open_run(tmp_path, "agent", {"lr": 0.1}) as run:
            with pytest.raises(UserError, match="in use"):
                rundir.open_run(tmp_path, "agent", {"lr": 0.1})
            assert run.config == {"lr": 0.1}
    rundir.open_run(tmp_path, "agent", {"lr": 0.1}).close()


@pytest.mark.parametrize("is_first", [True, False])
def test_what_the_first_process_is_refused_stops_the_others(is_first, tmp_path, monkeypatch):
    """None waits for it: all hear of it at the same point, whose answer is any process's."""
    holder, answers = rundir.open_run(tmp_path, "agent", CONFIG), []
    monkeypatch.setattr(processes, "is_first", lambda: is_first)
    monkeypatch.setattr(processes, "any_of", lambda flag: answers.append(flag) or True)
    with holder, pytest.raises(UserError, match="in use" if is_first else "first process could not open the run"):
        rundir.open_run(tmp_path, "agent", CONFIG)
    assert answers == [is_first]
