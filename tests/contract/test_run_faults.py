"""Runs that moved, were edited, or lose a file; and what the system refuses: one line each, and nothing lost."""

import dataclasses
import errno
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import pgd_jax.cli.report as report_command
from pgd_jax.core import config as configs, places
from pgd_jax.core.errors import UserError
from pgd_jax.data import export
from pgd_jax.runs import agent as agent_runs, array_store, checkpoint, denoiser as denoisers, metrics, rests, rundir
from tests import worlds


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a dataset, a denoiser and an agent on it, all named by absolute paths."""
    folder = tmp_path_factory.mktemp("made")
    dataset = worlds.write_dataset(folder / "tiny.hdf5")
    assert denoisers.fit(worlds.denoiser_config(dataset, num_steps=20), folder / "denoiser")
    assert agent_runs.fit(agent_config(folder / "denoiser"), folder / "agent")
    return folder


def agent_config(denoiser, **changes):
    return worlds.agent_config(denoiser=str(denoiser), num_phases=2, num_seeds=1, **changes)


@pytest.fixture
def own(made, tmp_path):
    """A copy of that folder, whose files may be spoilt; the first one is out of reach."""
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


def edit(path, change):
    record = json.loads((path / "config.json").read_text())
    change(record)
    (path / "config.json").write_text(json.dumps(record))


# Found again.


def test_things_that_moved_together_are_found(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "first")
    monkeypatch.chdir(tmp_path / "first")
    assert agent_runs.fit(agent_config("denoiser"), "again")  # by a relative name, from this folder
    monkeypatch.chdir(tmp_path)
    agent_runs.load("first/again")
    os.rename("first", "second")
    experiment, _, _ = agent_runs.load("second/again")
    assert experiment.config.denoiser == str(tmp_path / "second" / "denoiser")
    os.rename("second/again", "alone")
    with pytest.raises(UserError, match="denoiser is not a run directory"):
        agent_runs.load("alone")


def test_a_run_that_moved_alone_finds_what_stayed(own, tmp_path):
    assert agent_runs.fit(agent_config(own / "denoiser"), own / "again")
    os.rename(own / "again", tmp_path / "moved")
    agent_runs.load(tmp_path / "moved")


def test_a_built_in_dataset_is_not_looked_for_in_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pendulum-mixed-v0").mkdir()
    record = rests.as_record("run", {"dataset": rests.Rest("pendulum-mixed-v0", "x"), "denoiser": rests.Rest("d", "y")})
    assert "absolute" not in record["dataset"] and record["denoiser"]["from_run"] == "../d"
    assert rests.find("run", record, "dataset", "pendulum-mixed-v0") == "pendulum-mixed-v0"


def test_reports_of_runs_whose_names_have_commas(tmp_path):
    for name in ("agent=iql,batch_size=8", "agent=iql,batch_size=16", "plain"):
        (tmp_path / name).mkdir()
    names = [str(tmp_path / name) for name in ("agent=iql,batch_size=8", "plain", "agent=iql,batch_size=16")]
    assert report_command.directories(",".join(names).split(",")) == names
    assert report_command.directories(["not there", "nor this"]) == ["not there", "nor this"]


# Changed under a run.


def other_rows(path):
    rows = worlds.rows()
    path.unlink()
    export.write_hdf5(path, *rows._replace(rewards=2.0 * rows.rewards), metadata={"env": "pendulum"})


def test_another_dataset_of_the_same_name_is_refused(own):
    config = worlds.denoiser_config(str(own / "tiny.hdf5"), num_steps=20)
    assert denoisers.fit(config, own / "again")
    other_rows(own / "tiny.hdf5")
    with pytest.raises(UserError, match=r"again: the dataset .*tiny\.hdf5 is not the one that this run began with"):
        denoisers.fit(config, own / "again")


def test_another_denoiser_of_the_same_name_is_refused(own):
    config = agent_config(own / "denoiser")
    assert agent_runs.fit(config, own / "again")
    shutil.rmtree(own / "denoiser")
    settings = worlds.denoiser_config(str(own / "tiny.hdf5"), num_steps=20, seed=5)
    assert denoisers.fit(settings, own / "denoiser")
    for use in (lambda: agent_runs.fit(config, own / "again"), lambda: agent_runs.load(own / "again")):
        with pytest.raises(UserError, match=r"again: the denoiser .*denoiser is not the one that this run began with"):
            use()


def test_a_fingerprint_tells_content_and_shape_apart():
    one = {"x": np.arange(6.0), "y": np.zeros(2, bool)}
    same = {"y": np.zeros(2, bool), "x": np.arange(6.0)}
    assert rests.fingerprint(one) == rests.fingerprint(same)
    for other in ({"x": np.arange(6.0).reshape(2, 3)}, {"x": np.arange(6.0, dtype=np.float32)}, {"z": one["x"]}):
        assert rests.fingerprint(one) != rests.fingerprint({"y": one["y"], **other})


def test_settings_edited_by_hand_are_refused_where_they_shape_the_model(own):
    edit(own / "denoiser", lambda record: record["config"]["data"].update(window_length=6))
    with pytest.raises(UserError, match="config.json was changed") as caught:
        denoisers.load(own / "denoiser")
    assert "data.window_length: config.json has 6, checkpoints have 8" in str(caught.value)


@pytest.mark.parametrize("value", ["8", None, 8.5, [8], {"a": 1}, True])
def test_a_setting_of_another_type_is_one_line(own, value):
    """Also in a run without a record in its checkpoints, as another version wrote it."""
    edit(own / "denoiser", lambda record: record["config"]["unet"].update(width=value))
    for folder in (own / "denoiser" / "checkpoints").glob("step_*"):
        held = json.loads((folder / "tree.json").read_text())
        held["metadata"].pop("run")
        (folder / "tree.json").write_text(json.dumps(held))
        checkpoint._seal(folder)
    with pytest.raises(UserError, match=r"config\.json: (unet\.width=.* must be of type int|.*width)"):
        denoisers.load(own / "denoiser")


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[]", '{"kind": "denoiser"}', "\x00"])
def test_a_config_that_cannot_be_read_is_one_line(own, text):
    (own / "denoiser" / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json (cannot be read|was not written)"):
        denoisers.load(own / "denoiser")


# Lost.


def test_a_lost_config_comes_back_from_the_checkpoints(own, capfd):
    before = json.loads((own / "agent" / "config.json").read_text())
    (own / "agent" / "config.json").unlink()
    agent_runs.load(own / "agent")
    assert "its config.json is gone" in capfd.readouterr().err
    (own / "agent" / rundir.FINISHED).unlink()
    config = configs.from_dict(configs.AgentConfig, before["config"])
    assert agent_runs.fit(config, own / "agent")
    assert json.loads((own / "agent" / "config.json").read_text()) == before


def test_a_finished_mark_without_the_last_checkpoint_is_not_believed(own, capfd):
    for folder in (own / "denoiser" / "checkpoints").iterdir():
        shutil.rmtree(folder)
    with pytest.raises(UserError, match="not trained to its end"):
        denoisers.load(own / "denoiser")
    assert "marked as finished" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: [row for row in rows if row["phase"] != 0], "rows of phase 0 are gone"),
        (lambda rows: rows[:1] + rows, "rows of phase 0 are there twice"),
    ],
)
def test_rows_that_are_gone_are_said(own, tmp_path, change, words, capfd):
    assert agent_runs.fit(agent_config(own / "denoiser", hyper={"alpha": 2.0}), own / "again")
    path = own / "again" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    kept = change([json.loads(line) for line in lines])
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    assert words in metrics.gaps(metrics.read(path), 1)
    (own / "again" / rundir.FINISHED).unlink()
    assert agent_runs.fit(agent_config(own / "denoiser", hyper={"alpha": 2.0}), own / "again")
    assert words in capfd.readouterr().err


def test_gaps_are_named_by_phases():
    rows = [{"lane": lane, "phase": phase} for phase in (0, 4, 5, 9) for lane in range(2)]
    assert metrics.gaps(rows, 9) == "metrics.jsonl was changed: rows of phases 1-3, 6-8 are gone"
    assert metrics.gaps(rows[:2], 0) == "" and metrics.gaps([], -1) == ""
    assert metrics.gaps(rows[:1], 1) == "metrics.jsonl was changed: rows of phase 1 are gone"


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"step": 2, "leaves": {}, "key_impls": {}}', "[" * 10_000])
def test_a_checkpoint_from_elsewhere_that_says_nothing_is_passed_over(own, content):
    for folder in (own / "denoiser" / "checkpoints").glob("step_*"):
        (folder / "tree.json").write_text(content)
        checkpoint._seal(folder)
    with pytest.raises(UserError, match="no whole checkpoint|does not say what a checkpoint holds"):
        denoisers.load(own / "denoiser")


# Refused by the system.


@pytest.mark.parametrize(
    "error",
    [
        ValueError("RESOURCE_EXHAUSTED: pages of details [os_error_code='28']"),  # a leaf's data
        OSError(errno.ENOSPC, "No space left on device"),  # orbax's own small files
    ],
)
def test_a_full_disk_is_one_line(made, tmp_path, monkeypatch, error):
    def full(path, arrays):
        raise error

    monkeypatch.setattr(array_store.ocp, "save", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        checkpoint.save(tmp_path, 1, {"x": np.zeros(3)})
    assert caught.value.errno == errno.ENOSPC and caught.value.filename.startswith(str(tmp_path))


def test_what_is_raised_is_not_printed_as_well(caplog):
    """A write that fails after its save has: asyncio finds it when it cleans up, at the end of the command."""
    array_store._mute()
    logger = logging.getLogger("asyncio")
    lost = ValueError('Error writing ".agent/zarr.json" in "run/step_00000025/arrays.orbax-checkpoint-tmp/state/"')
    logger.error(f"Future exception was never retrieved\nfuture: <Future finished exception={lost!r}>")
    logger.error("a user's own")
    assert caplog.messages == ["a user's own"]


def mount(path, size):
    path.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(path)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a small disk takes root")


@pytest.mark.slow
def test_a_real_disk_that_is_full(made, tmp_path):
    mount(tmp_path / "small", "size=300k")
    try:
        config = worlds.denoiser_config(str(made / "tiny.hdf5"), num_steps=20)
        line = [sys.executable, "-m", "pgd_jax.cli.train_denoiser", f"--workdir={tmp_path / 'small' / 'run'}"]
        for part, each in configs.to_dict(config).items():
            line += [f"--config.{part}.{key}={value}" for key, value in each.items()]
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.returncode == 2 and "Traceback" not in done.stderr and "operation_id" not in done.stderr
        error = done.stderr.splitlines()[-1]
        assert (
            error.startswith("error: ") and "No space left on device" in error and "the same command goes on" in error
        )
        subprocess.run(["mount", "-o", "remount,size=20m", str(tmp_path / "small")], check=True)
        again = subprocess.run(line, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert denoisers.fit(config, tmp_path / "undisturbed")
        found, wanted = (denoisers.load(path).params for path in (tmp_path / "small" / "run", tmp_path / "undisturbed"))
        assert rests.of_model("", found).fingerprint == rests.of_model("", wanted).fingerprint
    finally:
        subprocess.run(["umount", str(tmp_path / "small")], check=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("file/run", "is not a folder that can be written to"), ("/proc/run", "can be written to"),
        ("a" * 300, "a name of more than 200 bytes"), ("x/" + "b" * 300, "a name of more than 200 bytes"),
    ],
)  # fmt: skip
def test_a_place_where_nothing_can_be_made_is_refused_before_the_data_is_read(tmp_path, name, words, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(denoisers, "prepare", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError, match=words):
        denoisers.fit(worlds.denoiser_config("tiny.hdf5"), tmp_path / name)
    with pytest.raises(UserError, match=words):
        places.check_place(tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_user_s_home_is_found_after_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with rundir.open_run("~/run", "agent", {}) as directory:
        assert directory.path == tmp_path / "run" and pathlib.Path(directory.path).is_dir()
    line = [sys.executable, "-m", "pgd_jax.cli.report", "--runs=~/run", "--out=~/report"]
    done = subprocess.run(line, capture_output=True, text=True, env=os.environ | {"MPLBACKEND": "module://gone"})
    assert done.returncode == 2 and str(tmp_path / "run") in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("platform", ["cpuu", "cuda"])
def test_a_platform_that_is_not_here_is_no_fault_of_the_file(made, tmp_path, platform):
    line = [sys.executable, "-m", "pgd_jax.cli.train_denoiser", f"--workdir={tmp_path / 'run'}"]
    line.append(f"--config.data.dataset={made / 'tiny.hdf5'}")
    done = subprocess.run(line, capture_output=True, text=True, env=os.environ | {"JAX_PLATFORMS": platform})
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f'error: JAX has no device of JAX_PLATFORMS="{platform}" here' in done.stderr.splitlines()[-1]


# Another number than root's, but with its right to read files: the interpreter may lie in root's own folders.
NOBODY = ["setpriv", "--reuid=12345", "--clear-groups", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]


def test_a_container_without_a_user_name_and_a_home(made, tmp_path):
    """As containers run: a number that no name belongs to, and nothing that says where files go."""
    if shutil.which("setpriv") is None or subprocess.run([*NOBODY, "true"], capture_output=True).returncode:
        pytest.skip("only root can be somebody else")
    line = [*NOBODY, sys.executable, "-m", "pgd_jax.cli.train_denoiser", f"--workdir={tmp_path / 'run'}"]
    for part, each in configs.to_dict(worlds.denoiser_config(str(made / "tiny.hdf5"), num_steps=20)).items():
        line += [f"--config.{part}.{key}={value}" for key, value in each.items()]
    env = {key: os.environ[key] for key in ("PATH", "COMPILE_QUICKLY") if key in os.environ}
    done = subprocess.run(line, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-500:]
    denoisers.load(tmp_path / "run")
    assert os.stat(tmp_path / "run" / "metrics.jsonl").st_uid == 12345


def test_a_run_from_before_a_setting_has_its_default(made, own):
    def older(record):
        del record["config"]["world_model"], record["config"]["rollout"], record["config"]["action_bounds"]

    edit(own / "agent", older)
    config = agent_config(made / "denoiser")
    assert agent_runs.fit(config, own / "agent")  # finished already
    agent_runs.load(own / "agent")
    with pytest.raises(UserError, match="rollout.horizon: run has 5, command has 7"):
        agent_runs.fit(dataclasses.replace(config, rollout=configs.RolloutConfig(horizon=7)), own / "agent")


# Longer, and only looked at.


def test_a_finished_run_can_be_made_longer(own, tmp_path):
    config = agent_config(own / "denoiser")
    assert agent_runs.fit(config, own / "again")
    longer = dataclasses.replace(config, num_phases=4)
    assert agent_runs.fit(longer, own / "again") and agent_runs.fit(longer, own / "whole")
    found, wanted = (agent_runs.load(own / name)[1] for name in ("again", "whole"))
    assert rests.of_model("", found.agent).fingerprint == rests.of_model("", wanted.agent).fingerprint
    rows = [metrics.read(own / name / "metrics.jsonl") for name in ("again", "whole")]
    for row in (*rows[0], *rows[1]):
        row.pop("wall_s")
    assert rows[0] == rows[1] and len(rows[0]) == 8
    with pytest.raises(UserError, match="num_phases: run has 4, command has 2"):
        agent_runs.fit(config, own / "again")


def test_a_denoiser_cannot_be_made_longer_and_says_why(made, own):
    with pytest.raises(UserError, match="learning rate's cosine was laid out for that length"):
        denoisers.fit(worlds.denoiser_config(str(made / "tiny.hdf5"), num_steps=40), own / "denoiser")


def test_a_check_writes_nothing(own, capfd):
    assert denoisers.fit(worlds.denoiser_config(str(own / "tiny.hdf5")), own / "new", only_check=True)
    assert agent_runs.fit(agent_config(own / "denoiser"), own / "new", only_check=True)
    said = capfd.readouterr().err
    assert "would run 6 chunks of 10 steps" in said and "would run 2 chunks of" in said
    assert said.count("nothing was written") == 2 and said.count("takes") >= 4 and not (own / "new").exists()
