"""Bad input to a command line: exit status 2, one `error: ...` that says what to do, no traceback, nothing written."""

import os
import pathlib
import shutil
import subprocess
import sys
import types

import h5py
import jax
import numpy as np
import pytest
from absl import app, flags

from experiments.bench import __main__ as bench
from pgd_jax.cli import collect, quickstart, report, sample, train_agent, train_behaviour, train_denoiser
from pgd_jax.core import memory
from pgd_jax.data import loading
from pgd_jax.launch import local
from pgd_jax.runs import agent as agent_runs, denoiser, metrics
from tests import worlds

DENOISER_SETTINGS = {
    "data.window_length": 8, "unet.width": 8, "unet.num_blocks": 2, "training.num_steps": 20,
    "training.steps_per_chunk": 10, "training.batch_size": 8, "training.num_validation_windows": 16,
}  # fmt: skip
AGENT_SETTINGS = {"synthetic_per_batch": 0, "num_phases": 2, "updates_per_phase": 2, "batch_size": 8, "num_seeds": 1}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Works in an empty folder, with an empty cache of built-in datasets in it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PGD_JAX_CACHE_DIR", str(tmp_path / "here" / "cache"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "here" / "d4rl"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A usable dataset, and what may be wrong with one, by name."""
    folder = tmp_path_factory.mktemp("data")
    worlds.write_dataset(folder / "good.hdf5")
    arrays = worlds.rows()._asdict()
    rewards, observations = arrays["rewards"].copy(), arrays["observations"].copy()
    rewards[7], observations[3, 1] = np.nan, np.inf
    write(folder / "keyless.hdf5", arrays | {"rewards": None})
    write(folder / "lengths.hdf5", arrays | {"actions": arrays["actions"][:-1]})
    write(folder / "nan.hdf5", arrays | {"rewards": rewards})
    write(folder / "inf.hdf5", arrays | {"observations": observations})
    write(folder / "unscaled.hdf5", arrays | {"actions": 3.0 * arrays["actions"]})
    write(folder / "empty.hdf5", {name: array[:0] for name, array in arrays.items()})
    write(folder / "cuts.hdf5", arrays | {"timeouts": np.arange(240) % 4 == 3, "terminals": np.zeros(240, bool)})
    write(folder / "wide.hdf5", arrays | {"observations": np.arange(1200.0).reshape(240, 5), "next_observations": None})
    (folder / "text.hdf5").write_text("observations,actions")
    (folder / "half.hdf5").write_bytes((folder / "good.hdf5").read_bytes()[:3000])
    return folder


def write(path, arrays):
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            if array is not None:
                file[key] = array


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A finished denoiser, and one that is not."""
    folder = tmp_path_factory.mktemp("runs")
    assert denoiser.fit(worlds.denoiser_config(str(data / "good.hdf5")), folder / "finished")
    shutil.copytree(folder / "finished", folder / "unfinished")
    (folder / "unfinished" / "finished").unlink()
    return folder


def run(command, *arguments, **settings):
    """(exit status, stderr) of a command in this process, as a shell would start it."""
    app.define_help_flags()
    known = set(flags.FLAGS)
    line = [f"--config.{name.replace('__', '.')}={value}" for name, value in settings.items()]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(sys, "argv", ["pgd", *arguments, *line])
        try:
            command.run()
        finally:
            flags.FLAGS.unparse_flags()
            for name in set(flags.FLAGS) - known:
                delattr(flags.FLAGS, name)
    return stopped.value.code


def refused(capfd, command, arguments, settings, *fragments):
    """Asserts that the command is refused as this file's first line says, and with these words."""
    before = everything(pathlib.Path.cwd().parent)
    capfd.readouterr()
    assert run(command, *arguments, **settings) == 2
    stdout, stderr = capfd.readouterr()
    # Notes about the data may come before it.
    assert stderr.count("error: ") == 1 and "\nerror: " in f"\n{stderr}"
    assert "Traceback" not in stderr and stdout == ""
    for fragment in fragments:
        assert fragment in stderr
    assert everything(pathlib.Path.cwd().parent) == before


def everything(folder):
    return sorted((str(p), p.read_bytes() if p.is_file() else None) for p in folder.rglob("*"))


DATA = {
    "missing": ["no dataset file at", "missing.hdf5"],
    "text": ["text.hdf5 is not an HDF5 file"],
    "half": ["half.hdf5"],
    "keyless": ['no array "rewards"', "it holds: actions, next_observations, observations"],
    "lengths": ["arrays differ in length", "actions 239", "observations 240"],
    "nan": ["rewards holds NaN or infinity, first in row 7"],
    "inf": ["observations holds NaN or infinity, first in row 3"],
    "unscaled": ["actions must lie in [-1, 1]", "rescale"],
    "empty": ["empty.hdf5 is empty"],
    "cuts": ["no complete window of 8 rows", "segments has 4 rows", "use a shorter window"],
}


@pytest.mark.parametrize("name", DATA)
def test_datasets_that_cannot_be_used(name, data, capfd):
    settings = DENOISER_SETTINGS | {"data.dataset": data / f"{name}.hdf5"}
    refused(capfd, train_denoiser, ["--workdir=new"], settings, *DATA[name])


@pytest.mark.parametrize("name", ["missing", "text", "keyless", "lengths", "nan", "unscaled"])
def test_datasets_that_no_agent_can_use(name, data, capfd):
    settings = AGENT_SETTINGS | {"dataset": data / f"{name}.hdf5"}
    refused(capfd, train_agent, ["--workdir=new"], settings, *DATA[name])


DENOISER = [
    ({"data.dataset": "pendulum-mixt-v0"}, ['unknown dataset "pendulum-mixt-v0"; did you mean "pendulum-mixed-v0"?']),
    ({"data.window_length": 9}, ["data.window_length=9 cannot be halved 1 times", "such as 10"]),
    ({"data.window_length": 1}, ["data.window_length=1 must be at least 2"]),
    ({"data.window_length": 64}, ["no complete window of 64 rows", "has 20 rows"]),
    ({"training.batch_size": 1_000}, ["batch_size=1000 is larger than the data", "training windows of 8 rows"]),
    ({"training.steps_per_chunk": 7}, ["training.num_steps=20 must be a multiple of training.steps_per_chunk=7"]),
    ({"unet.width": 12}, ["unet.width=12 must be a positive multiple of 8"]),
    ({"unet.compute_dtype": "float8"}, ['unet.compute_dtype="float8" must be float32 or bfloat16']),
    ({"unet.widht": 16}, ['unknown flag "--config.unet.widht"; did you mean "--config.unet.width"?']),
    ({"training.num_steps": "many"}, ["training.num_steps", "many"]),
    ({"data.max_rows": -1}, ["max_rows=-1 must be a number of rows, or 0"]),
    ({"data.max_rows": 10, "data.window_length": 16}, ["no complete window of 16 rows", "1 segments has 10 rows"]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "fragments"), DENOISER)
def test_denoiser_settings_that_cannot_work(changes, fragments, data, capfd):
    settings = DENOISER_SETTINGS | {"data.dataset": data / "good.hdf5"} | changes
    refused(capfd, train_denoiser, ["--workdir=new"], settings, *fragments)


AGENT = [
    ({"agent": "td3bc"}, ['unknown agent "td3bc"; did you mean "td3_bc"? (known: awac, bc, ', "--import="]),
    ({"sampling.sampler": "hoin"}, ['unknown sampler "hoin"; did you mean "heun"?']),
    ({"sampling.guidance": "proximale"}, ['unknown guidance rule "proximale"; did you mean "proximal"?']),
    ({"sampling.noise_schedule": "karas"}, ['unknown noise schedule "karas"; did you mean "karras"?']),
    ({"sampling.guidance_schedule": "riseing"}, ['unknown guidance schedule "riseing"; did you mean "rising"?']),
    ({"sampling.sampler": "twisted", "sampling.guidance": "paper"}, ["proximal or score", '"paper"', "twisting"]),
    ({"sampling.sampler": "twisted", "sampling.num_particles": 7}, ["multiple of sampling.num_particles=7"]),
    ({"sampling.warm_steps": 1}, ["sampling.warm_steps=1 must be at least 2"]),
    (
        {"synthetic_per_batch": 4, "denoiser": "{finished}", "hyper.generator.guidance.behaviour": 0.5},
        ["config.behaviour", "train_behaviour"],
    ),
    ({"environment": "pendulm"}, ['unknown environment "pendulm"; did you mean "pendulum"?']),
    ({"environment": "maze2d-umaze"}, ['"maze2d-umaze" has observations of 4 and actions of 2', "has 3 and 1"]),
    ({"dataset": "pendulum-mixd-v0"}, ['unknown dataset "pendulum-mixd-v0"; did you mean "pendulum-mixed-v0"?']),
    ({"hyper.reward_scal": 1}, ['unknown flag "--config.hyper.reward_scal"', '"--config.hyper.reward_scale"?']),
    ({"hyper.agent.expectile": 1}, ['unknown flag "--config.hyper.agent.expectile"']),
    ({"hyper.agent.alpha": "1,two"}, ["hyper.agent.alpha=('1,two',) must be a finite number"]),
    ({"hyper.agent.alpha": "inf"}, ["hyper.agent.alpha=", "must be a finite number"]),
    ({"batch_size": 1_000}, ["batch_size=1000 takes 1000 real rows", "has 240"]),
    ({"updates_per_phase": 3}, ["updates_per_phase=3 must be a multiple of 2"]),
    ({"synthetic_per_batch": 4}, ["name the run directory of train_denoiser, or set synthetic_per_batch=0"]),
    ({"denoiser": "nowhere"}, ["nowhere is not a run directory"]),
    ({"denoiser": "{unfinished}"}, ["not trained to its end"]),
    ({"denoiser": "{finished}", "dataset": "{wide}"}, ["has observations of 5 and actions of 1", "on 3 and 1"]),
    ({"num_seds": 3}, ['unknown flag "--config.num_seds"; did you mean "--config.num_seeds"?']),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "fragments"), AGENT)
def test_agent_settings_that_cannot_work(changes, fragments, data, trained, capfd):
    places = dict(wide=data / "wide.hdf5", finished=trained / "finished", unfinished=trained / "unfinished")
    changes = {name: str(value).format(**places) for name, value in changes.items()}
    settings = AGENT_SETTINGS | {"dataset": data / "good.hdf5"} | changes
    refused(capfd, train_agent, ["--workdir=new"], settings, *fragments)


BEHAVIOUR = [
    ({}, ["config.denoiser is empty: name the run directory of train_denoiser"]),
    ({"denoiser": "nowhere"}, ["nowhere is not a run directory"]),
    ({"denoiser": "{unfinished}"}, ["not trained to its end"]),
    ({"denoiser": "{finished}", "num_steps": 30}, ["num_steps=30 must be a multiple of steps_per_chunk=1000"]),
    ({"denosier": "x"}, ['unknown flag "--config.denosier"; did you mean "--config.denoiser"?']),
]


@pytest.mark.parametrize(("changes", "fragments"), BEHAVIOUR)
def test_behaviour_settings_that_cannot_work(changes, fragments, trained, capfd):
    places = dict(finished=trained / "finished", unfinished=trained / "unfinished")
    settings = {name: str(value).format(**places) for name, value in changes.items()}
    refused(capfd, train_behaviour, ["--workdir=new"], settings, *fragments)


COMMANDS = [
    (train_agent, ["--workdir=new", "--preset=quickstrt"], ['unknown preset "quickstrt"; did you mean "quickstart"?']),
    (train_denoiser, ["--workdir=new", "--wrokdir=other"], ["wrokdir", "workdir"]),
    (train_agent, [], ["workdir"]),
    (train_denoiser, ["--workdir=new", "runs/x"], ['unexpected argument "runs/x"', "--name=value"]),
    (collect, ["--dataset=pendulum-mixd-v0", "--out=x.hdf5"], ['did you mean "pendulum-mixed-v0"?']),
    (collect, ["--dataset=pendulum-mixed-v0", "--num_rows=0", "--out=x.hdf5"], ["num_rows must be at least 1"]),
    (sample, ["--out=x.hdf5"], ["name one source"]),
    (sample, ["--denoiser=nowhere", "--out=x.hdf5"], ["nowhere is not a run directory"]),
    (sample, ["--denoiser=nowhere", "--out=x.hdf5", "--num_steps=1"], ["num_steps=1 must be at least 2"]),
    # What is ambiguous: absl alone takes the last, a preset would be the first.
    (train_agent, ["--workdir=new", "--preset=paper", "--preset=quickstart"], ["--preset is given more than once"]),
    (train_agent, ["--workdir=new", "--preset", "paper", "-preset=paper"], ["--preset is given more than once"]),
    (train_agent, ["--workdir=new", "--workdir=other"], ["--workdir is given more than once"]),
    (train_behaviour, ["--workdir=new", "--config.seed=1", "--config.seed=1"], ["--config.seed is given more than"]),
    (train_agent, ["--workdir=new", "--config.download", "--noconfig.download"], ["--config.download is given more"]),
    # What would be the current folder.
    *((command, ["--workdir="], ["--workdir", "it is needed"]) for command in (train_agent, train_denoiser)),
    (train_behaviour, ["--workdir= "], ["--workdir", "it is needed"]),
    (report, ["--runs=new", "--out="], ["--out", "it is needed"]),
    (report, ["--runs=new", "--out=x", "--num_pool_episodes=-1"], ["num_pool_episodes=-1", "non-negative integer"]),
    (report, ["--runs=new,,", "--out=x"], ["--runs=new,, holds an empty name"]),
    (sample, ["--denoiser=nowhere", "--out="], ["--out", "it is needed"]),
    (collect, ["--out= "], ["--out", "it is empty"]),
    (collect, ["--dataset=pendulum-random-v0", "--out=x.hdf5", "--workdir="], ["--workdir", "it is empty"]),
    (bench, ["--out="], ["--out", "it is empty"]),
    (types.SimpleNamespace(run=local.run), ["--workdir="], ["--workdir", "it is needed"]),
    (quickstart, ["--workdir="], ["--workdir", "it is needed"]),
    # What would be ignored.
    (sample, ["--run=x", "--out=x.hdf5", "--sampler=hoin"], ["--sampler means nothing with --run"]),
    (sample, ["--run=x", "--out=x.hdf5", "--num_steps=8"], ["--num_steps means nothing with --run"]),
    (sample, ["--denoiser=x", "--out=x.hdf5", "--lane=1"], ["--lane means nothing with --denoiser"]),
    (sample, ["--denoiser=x", "--out=x.hdf5", "--coefficient=1"], ["--coefficient means nothing with --denoiser"]),
    (collect, ["--out=x.hdf5", "--workdir=w"], ["--workdir means nothing with maze2d-umaze-waypoint-v0"]),
    (collect, ["--out=x.hdf5", "--hidden_dim=8"], ["--hidden_dim means nothing with maze2d-umaze-waypoint-v0"]),
    (bench, ["--compare=a.json,b.json", "--setting=full"], ["--setting means nothing with --compare"]),
    # Seeds of which JAX would take 32 bits.
    (sample, ["--denoiser=nowhere", "--out=x.hdf5", f"--seed={2**40}"], [f"seed={2**40} must be a seed from 0 to"]),
    (collect, ["--dataset=pendulum-mixed-v0", "--out=x.hdf5", "--seed=-1"], ["seed=-1 must be a seed from 0 to"]),
    (collect, ["--dataset=pendulum-random-v0", "--out=x.hdf5", f"--seed={2**32}"], ["must be a seed from 0 to"]),
    (train_denoiser, ["--workdir=new", f"--config.training.seed={2**40}"], ["training.seed=1099511627776 must be"]),
    (train_denoiser, ["--workdir=new", "--config.data.split_seed=-1"], ["data.split_seed=-1 must be a seed"]),
    (train_behaviour, ["--workdir=new", f"--config.seed={2**32}"], ["seed=4294967296 must be a seed from 0 to"]),
    (train_agent, ["--workdir=new", f"--config.first_seed={2**32}"], ["first_seed=4294967296 must be a seed"]),
    (train_agent, ["--workdir=new", f"--config.first_seed={2**32 - 3}"], ["first_seed + num_seeds - 1=4294967296"]),
]  # fmt: skip


@pytest.mark.parametrize(("command", "arguments", "fragments"), COMMANDS)
def test_command_lines_that_cannot_be_read(command, arguments, fragments, capfd):
    refused(capfd, command, arguments, {}, *fragments)


def test_what_is_measured_is_not_written_over_somebody_s_file(capfd):
    for name in ("mine.json", "curves.png"):
        pathlib.Path(name).write_text("mine")
    refused(capfd, bench, ["--out=mine.json"], {}, "mine.json exists already")
    refused(capfd, bench, ["--curves=lanes", "--out=curves.json"], {}, "curves.png exists already")


TOO_LARGE = [
    (train_denoiser, DENOISER_SETTINGS | {"unet.width": 2048}, "lower unet.width,"),
    (train_agent, AGENT_SETTINGS | {"hidden_dim": 8192}, "lower hidden_dim,"),
    (train_agent, AGENT_SETTINGS | {"num_hidden": 30, "hidden_dim": 1024}, "lower num_hidden,"),
    (train_agent, AGENT_SETTINGS | {"num_seeds": 20_000}, "lower num_seeds or hyper,"),
    (train_agent, AGENT_SETTINGS | {"num_episodes": 10_000_000}, "lower num_episodes,"),
    (train_behaviour, {"batch_size": 10_000_000}, "lower batch_size,"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "settings", "advice"), TOO_LARGE)
def test_what_is_too_large_leaves_no_run_behind_and_hears_what_is_at_fault(
    command, settings, advice, data, trained, capfd, monkeypatch
):
    monkeypatch.setattr(memory, "available", lambda: memory.Bytes(2e8, 2e8))
    source = {train_denoiser: "data.dataset", train_agent: "dataset"}.get(command)
    settings = settings | ({source: data / "good.hdf5"} if source else {"denoiser": trained / "finished"})
    refused(capfd, command, ["--workdir=new"], settings, "not enough memory", advice)


def test_a_sampling_that_is_too_large_is_refused_too(trained, capfd, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: memory.Bytes(2e8, 2e8))
    for batch, advice in ((4_000_000, "lower trajectories_per_batch,"), (1, "lower num_trajectories,")):
        sizes = ["--num_trajectories=4000000", f"--trajectories_per_batch={batch}", "--num_steps=2"]
        line = [f"--denoiser={trained / 'finished'}", "--out=x.hdf5", *sizes]
        refused(capfd, sample, line, {}, "not enough memory", advice)


def test_lanes_beyond_reason_are_refused_before_they_are_made(data, capfd):
    settings = AGENT_SETTINGS | {"dataset": data / "good.hdf5", "num_seeds": 10**9}
    refused(
        capfd, train_agent, ["--workdir=new"], settings, "num_seeds=1000000000 and the values make 1000000000 lanes"
    )


def test_a_file_name_need_not_be_utf8(capfd):
    name = os.fsdecode(b"a\xff[1].hdf5")
    line = ["--dataset=pendulum-mixed-v0", "--num_rows=20", f"--out={name}"]
    assert not run(collect, *line)
    assert len(loading.load(str(pathlib.Path.cwd() / name)).rewards) == 20


UNWRITABLE = ["note/x.hdf5", "note/deep/x.hdf5", "/proc/x.hdf5"]


@pytest.mark.parametrize("dataset", ["pendulum-mixed-v0", "pendulum-random-v0"])
@pytest.mark.parametrize("out", UNWRITABLE)
def test_where_nothing_can_be_written_is_found_before_anything_is_collected(dataset, out, capfd, monkeypatch):
    pathlib.Path("note").write_text("a file")
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith("/proc"))  # root may do anything
    refused(capfd, collect, [f"--dataset={dataset}", f"--out={out}"], {}, "is not a folder that can be written to")


@pytest.mark.slow
def test_the_largest_seeds_are_taken(data):
    settings = AGENT_SETTINGS | {"dataset": data / "good.hdf5", "environment": "none", "hidden_dim": 8}
    assert not run(train_agent, "--workdir=new", **settings, first_seed=2**32 - 1)
    assert [row["seed"] for row in metrics.read("new/metrics.jsonl")] == [2**32 - 1] * 2
    settings = DENOISER_SETTINGS | {"data.dataset": data / "good.hdf5", "training.seed": 2**32 - 1}
    assert not run(train_denoiser, "--workdir=denoiser", **settings)


def test_a_directory_that_holds_something_else(data, trained, capfd):
    settings = DENOISER_SETTINGS | {"data.dataset": data / "good.hdf5"}
    pathlib.Path("photos").mkdir()
    pathlib.Path("photos/cat.png").write_text("cat")
    pathlib.Path("note").write_text("note")
    shutil.copytree(trained / "finished", "other")
    for workdir, fragments in (
        ("photos", ["photos is not empty and not a run (it holds cat.png)"]),
        ("note", ["note is a file; a run needs a directory"]),
        ("other", ["holds a run with other settings", "training.num_steps: run has 60, command has 20"]),
    ):
        refused(capfd, train_denoiser, [f"--workdir={workdir}"], settings, *fragments)
    settings = AGENT_SETTINGS | {"dataset": data / "good.hdf5"}
    refused(capfd, train_agent, ["--workdir=other"], settings, 'holds a run of kind "denoiser", not "agent"')


def test_a_damaged_checkpoint_is_passed_over_and_said_so(data, capfd, caplog):
    """The newest of two is cut short: the run goes on from the one before, and ends as if nothing had been."""
    settings = AGENT_SETTINGS | {"dataset": data / "good.hdf5", "environment": "none", "hidden_dim": 8}
    for name in ("whole", "damaged"):
        assert not run(train_agent, f"--workdir={name}", **settings)
    newest = pathlib.Path("damaged/checkpoints/step_00000002")
    victim = max((p for p in (newest / "arrays").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    pathlib.Path("damaged/finished").unlink()
    capfd.readouterr()
    assert not run(train_agent, "--workdir=damaged", **settings)
    assert "step_00000002 is damaged" in caplog.text and "falling back to the one before it" in caplog.text
    assert "resuming after chunk 1" in capfd.readouterr().err
    rows = [agent_runs.load(name)[1:] for name in ("whole", "damaged")]
    assert rows[0][1] == rows[1][1] == 2
    jax.tree.map(np.testing.assert_array_equal, rows[0][0].agent, rows[1][0].agent)


def test_a_run_with_only_damaged_checkpoints_is_refused(data, capfd):
    settings = AGENT_SETTINGS | {"dataset": data / "good.hdf5", "environment": "none", "hidden_dim": 8}
    assert not run(train_agent, "--workdir=run", **settings)
    pathlib.Path("run/finished").unlink()
    for manifest in pathlib.Path("run/checkpoints").glob("*/manifest.json"):
        manifest.unlink()
    assert run(train_agent, "--workdir=run", **settings) == 2
    stderr = capfd.readouterr().err
    assert "error: no whole checkpoint in" in stderr and "Traceback" not in stderr


def test_in_a_process_of_its_own(data):
    """What the shell sees of one bad setting, one bad flag and one bad file."""
    for arguments, fragment in (
        ([f"--config.data.dataset={data / 'nan.hdf5'}"], "row 7"),
        (["--config.unet.widht=16"], "did you mean"),
    ):
        line = [sys.executable, "-m", "pgd_jax.cli.train_denoiser", "--workdir=new", *arguments]
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        done = subprocess.run(line, capture_output=True, text=True, timeout=120, env=environment, check=False)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and fragment in done.stderr
        assert not pathlib.Path("new").exists()
