"""Signals at any moment of a command's life, and logs that cannot be written: real processes."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from pgd_jax.cli import entry
from pgd_jax.core import config as configs
from pgd_jax.runs import agent as agent_runs, metrics, rundir
from tests import quickly, worlds

TIMEOUT_S = 240.0
ENVIRONMENT = os.environ | {"XLA_FLAGS": quickly.XLA_FLAGS}


def start(*line, **options):
    pipe = subprocess.PIPE
    options = {"stdout": pipe, "stderr": subprocess.STDOUT, "env": ENVIRONMENT, "text": True} | options
    return subprocess.Popen([sys.executable, *map(str, line)], **options)


def training(dataset, path, **changes):
    """The command line of a tiny denoiser's training."""
    config = configs.to_dict(worlds.denoiser_config(dataset, **changes))
    flags = [f"--config.{part}.{name}={value}" for part in config for name, value in config[part].items()]
    return ["-m", "pgd_jax.cli.train_denoiser", f"--workdir={path}", *flags]


def wait_for(process, condition):
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def has_handlers(process):
    """Whether it catches SIGUSR1, which Python itself never does."""
    status = pathlib.Path(f"/proc/{process.pid}/status")
    if not status.exists():
        pytest.skip("only Linux tells which signals a process catches")
    caught = int(re.search(r"SigCgt:\s*([0-9a-f]+)", status.read_text())[1], 16)
    return bool(caught >> (signal.SIGUSR1 - 1) & 1)


def lines(text):
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


COMMANDS = [
    ["-m", "pgd_jax.cli.train_denoiser", "--workdir=new"],
    ["-m", "pgd_jax", "train-denoiser", "--workdir=new"],
    ["-m", "pgd_jax.cli.train_agent", "--workdir=new", "--config.synthetic_per_batch=0"],
    ["-m", "pgd_jax.cli.sample", "--denoiser=none", "--out=new"],
    ["-m", "pgd_jax.cli.report", "--runs=none", "--out=new"],
    ["-m", "pgd_jax.cli.collect", "--out=new"],
    ["-m", "pgd_jax.launch.local", "--workdir=new"],
    ["-m", "pgd_jax.cli.quickstart", "--workdir=new"],
]


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line[1])
def test_from_a_command_s_first_line_on_a_signal_ends_it_in_two_lines(line, tmp_path):
    root = str(pathlib.Path(__file__).resolve().parents[2])
    environment = ENVIRONMENT | {"PYTHONPATH": root, "PGD_JAX_CACHE_DIR": str(tmp_path / "cache")}
    process = start(*line, cwd=tmp_path, env=environment)
    wait_for(process, lambda: has_handlers(process))
    process.send_signal(signal.SIGINT)
    said = lines(process.communicate(timeout=TIMEOUT_S)[0])
    assert process.returncode == entry.STOPPED, said
    assert len(said) == 2 and said[0].startswith("SIGINT: stopping") and said[1].startswith("stopped by SIGINT")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("delay_s", [0.3, 0.8, 1.5, 2.5, 4.0])
def test_a_signal_before_the_first_chunk_ends_a_training_cleanly(delay_s, dataset, tmp_path):
    process = start(*training(dataset, tmp_path / "run", num_steps=1_000_000))
    wait_for(process, lambda: has_handlers(process))
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=TIMEOUT_S)[0]
    assert process.returncode == entry.STOPPED and "Traceback" not in said, said
    assert "stopped by SIGINT" in lines(said)[-1] and not (tmp_path / "run" / rundir.FINISHED).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_every_signal_ends_a_training_after_its_chunk_with_a_status_of_its_own(number, dataset, tmp_path):
    path = tmp_path / "run"
    process = start(*training(dataset, path, num_steps=1_000_000))
    wait_for(process, lambda: (path / "checkpoints").is_dir())
    process.send_signal(number)
    said = process.communicate(timeout=TIMEOUT_S)[0]
    assert process.returncode == entry.STOPPED and "the same command resumes" in lines(said)[-1], said
    assert f"stopped by {signal.Signals(number).name} after chunk" in lines(said)[-1]
    assert not (path / rundir.FINISHED).exists()


def test_a_hangup_that_nohup_switched_off_stays_so(dataset, tmp_path):
    path = tmp_path / "run"
    nohup = f"import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv({sys.executable!r}, "
    line = [sys.executable, *training(dataset, path, num_steps=1_000_000)]
    process = start("-c", f"{nohup}{line!r})")
    wait_for(process, lambda: (path / "checkpoints").is_dir())
    process.send_signal(signal.SIGHUP)
    time.sleep(1.0)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert "stopped by SIGTERM" in process.communicate(timeout=TIMEOUT_S)[0]


# Commands of a few lines, run as every command is.
WAITS = """
from pgd_jax.cli import entry
def main():
    import threading
    lock = threading.Lock()
    lock.acquire()
    print("waits", flush=True)
    lock.acquire()  # for ever, whatever handlers do meanwhile
entry.run(lambda: main, "", compiles=False)
"""
# As in JAX's own callback of the garbage collector, in which an exception is lost.
COLLECTS = """
import gc, os, signal
from pgd_jax.core import signals
from pgd_jax.cli import entry
def main():
    gc.callbacks.append(lambda phase, info: os.kill(os.getpid(), signal.SIGINT) if phase == "start" else None)
    gc.collect()
    gc.callbacks.clear()
    print("goes on", flush=True)
    for _ in range(1000):
        signals.check()
        import time; time.sleep(0.01)
    print("went on to its end")
entry.run(lambda: main, "", compiles=False)
"""


def test_a_second_interrupt_always_ends_a_command():
    process = start("-c", WAITS)
    assert process.stdout.readline() == "waits\n"
    process.send_signal(signal.SIGINT)
    process.stdout.readline()
    assert process.stdout.readline().startswith("SIGINT: stopping as soon as it is safe (Ctrl-C again")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10.0)
    assert process.returncode == 130


def test_an_interrupt_within_the_garbage_collector_is_not_lost():
    said = start("-c", COLLECTS).communicate(timeout=TIMEOUT_S)[0]
    assert "goes on" in said and "stopped by SIGINT" in said and "its end" not in said and "Traceback" not in said


def test_a_stopped_sweep_is_not_a_finished_one(dataset, tmp_path):
    """Two jobs at work; both stop, and the launcher says so by its last line and its status."""
    base = training(dataset, "", num_steps=1_000_000)[3:]
    base = [flag for flag in base if "training.seed" not in flag]
    line = ["-m", "pgd_jax.launch.local", "--command=train_denoiser", "--grid=training.seed=0,1", "--num_parallel=2"]
    process = start(*line, f"--workdir={tmp_path}", "--", *base)
    jobs = [tmp_path / f"training.seed={seed}" for seed in (0, 1)]
    wait_for(process, lambda: all((job / "checkpoints").is_dir() for job in jobs))
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=TIMEOUT_S)[0]
    assert process.returncode == entry.STOPPED
    assert lines(said)[-1] == "0 of 2 jobs finished, 2 stopped; the same command goes on"
    assert sum(": stopped by SIGTERM after" in line for line in lines(said)) == 2
    assert not any((job / rundir.FINISHED).exists() for job in jobs)


def test_a_job_that_was_stopped_alone_is_not_a_finished_one(dataset, tmp_path):
    line = ["-m", "pgd_jax.launch.local", "--command=train_denoiser", f"--workdir={tmp_path}", "--"]
    process = start(*line, *training(dataset, "", num_steps=1_000_000)[3:])
    job = tmp_path / "train_denoiser"
    wait_for(process, lambda: (job / "checkpoints").is_dir())
    os.kill(int((job / "lock").read_text().split()[1]), signal.SIGTERM)
    said = process.communicate(timeout=TIMEOUT_S)[0]
    assert process.returncode == entry.STOPPED
    assert lines(said)[-1] == "0 of 1 jobs finished, 1 stopped; the same command goes on"


SHELLS = {
    "a full disk": "exec {} >/dev/full 2>/dev/full",
    "closed": "exec {} >&- 2>&- <&-",
    "a reader that leaves": "{} 2>&1 | head -1 >/dev/null; exit ${{PIPESTATUS[0]}}",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_log_that_cannot_be_written_ends_no_training(shell, dataset, tmp_path):
    """Nor does anything of the log come into the run's files, where stderr's number is free for them."""
    path = tmp_path / "run"
    words = " ".join(f"'{word}'" for word in [sys.executable, *training(dataset, path)])
    status = subprocess.run(
        ["bash", "-c", SHELLS[shell].format(words)], env=ENVIRONMENT, timeout=TIMEOUT_S, check=False
    )
    assert status.returncode == 0 and (path / rundir.FINISHED).exists()
    assert [row["phase"] for row in metrics.read(path / "metrics.jsonl")] == list(range(6))
    assert re.fullmatch(r"pid \d+ on .+\n", (path / "lock").read_text())
    assert sorted(entry.name for entry in path.iterdir()) == [
        "checkpoints", "config.json", "finished", "lock", "metrics.jsonl"
    ]  # fmt: skip


# A user's own program, in packages that are called as ours are.
OWN = """
import pgd_jax, time
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("mine")
"""


@pytest.mark.parametrize(
    "line", [["-m", "experiments.study"], ["-m", "launch.study"], ["study.py", "-m", "pgd_jax.launch.local"]]
)
def test_a_user_s_own_program_keeps_its_signals(line, tmp_path):
    for name in ("experiments", "launch"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / "study.py").write_text(OWN)
    (tmp_path / "study.py").write_text(OWN)
    process = start(*line, cwd=tmp_path, env=ENVIRONMENT | {"PYTHONPATH": str(tmp_path)})
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=TIMEOUT_S)[0] == "mine\n" and process.returncode == 0


def test_a_signal_in_the_last_chunk_is_not_lost_to_a_program_that_trains(dataset, tmp_path, monkeypatch):
    heard = []
    old = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    summary = agent_runs._summary
    monkeypatch.setattr(agent_runs, "_summary", lambda rows: os.kill(os.getpid(), signal.SIGTERM) or summary(rows))
    try:
        config = worlds.agent_config(denoiser="", dataset=dataset, synthetic_per_batch=0, num_phases=1, num_seeds=1)
        assert agent_runs.fit(config, tmp_path / "run")
        assert heard == [signal.SIGTERM] and (tmp_path / "run" / rundir.FINISHED).exists()
    finally:
        signal.signal(signal.SIGTERM, old)


BUSY = """
from pgd_jax.core import signals
from pgd_jax.cli import entry
def main():
    with signals.at_once():
        import threading
        print("busy", flush=True)
        threading.Event().wait(60)
entry.run(lambda: main, "", compiles=False, keeps_nothing={keeps_nothing})
"""


@pytest.mark.parametrize("keeps_nothing", [False, True])
def test_where_nothing_is_kept_the_first_signal_ends_a_command_at_once(keeps_nothing):
    process = start("-c", BUSY.format(keeps_nothing=keeps_nothing))
    assert process.stdout.readline() == "busy\n"
    process.send_signal(signal.SIGTERM)
    said = lines(process.communicate(timeout=10.0)[0])
    assert process.returncode == entry.STOPPED and said == [
        "stopped by SIGTERM; the same command begins again, or goes on"
    ]


def test_a_long_sampling_ends_at_once_and_leaves_nothing(trained, tmp_path):
    out = tmp_path / "x.hdf5"
    sizes = ["--num_trajectories=4000000", "--trajectories_per_batch=8", "--num_steps=1000"]
    process = start("-m", "pgd_jax.cli.sample", f"--denoiser={trained}", f"--out={out}", *sizes)
    assert "its config.json names the dataset" in process.stdout.readline()
    time.sleep(3.0)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=10.0)[0]
    assert process.returncode == entry.STOPPED and "stopped by SIGINT" in said and list(tmp_path.iterdir()) == []
