"""Four processes with two devices each, of which one is lost in the middle of a run: the others end, and all resume."""

import re
import signal
import time

import pytest

from pgd_jax.runs import checkpoint, rundir
from tests import commands, several, worlds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NUM_PHASES = 16
TIMEOUT_S = 600.0


def start(trained, path):
    """An agent's training, with four lanes over eight devices: two share a lane."""
    config = worlds.agent_config(denoiser=str(trained), num_phases=NUM_PHASES)
    flags = [f"--workdir={path}", *commands.flags(config)]
    return several.start(4, 2, lambda choice: ["-m", "pgd_jax.cli.train_agent", f"--distributed={choice}", *flags])


@pytest.fixture(scope="module")
def undisturbed(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    several.finish(start(trained, path))
    return commands.content(path)


def wait_for_checkpoint(path, number, running):
    deadline = time.monotonic() + TIMEOUT_S
    while not (path / "checkpoints" / checkpoint.folder_name(number)).is_dir():
        assert all(process.poll() is None for process in running), [process.communicate()[1] for process in running]
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize(
    "lost, number",
    [(2, signal.SIGKILL), (0, signal.SIGKILL), (3, signal.SIGSTOP)],
    ids=["killed", "the first is killed", "falls silent, as its host is gone"],
)
def test_the_others_end_within_a_minute_and_the_same_command_resumes(lost, number, trained, undisturbed, tmp_path):
    path = tmp_path / "run"
    running = start(trained, path)
    wait_for_checkpoint(path, 3, running)
    running[lost].send_signal(number)
    began = time.monotonic()
    others = [process for process in running if process is not running[lost]]
    said = [process.communicate(timeout=60.0)[1] for process in others]
    assert time.monotonic() - began < 60.0
    running[lost].kill()
    said.append(running[lost].communicate()[1])
    for process, text in zip([*others, running[lost]], said, strict=True):
        last = [line for line in re.split(r"[\r\n]+", text) if line.strip()][-1]
        assert process.returncode != 0
        assert last.startswith("error: ") and "process is gone" in last and "same command in every process" in last
    newest = max(folder.name for folder in (path / "checkpoints").glob("step_" + 8 * "[0-9]"))
    assert newest == checkpoint.folder_name(checkpoint.latest(path / "checkpoints"))  # whole
    assert not (path / rundir.FINISHED).exists()

    assert all("resuming after chunk" in text for text in several.finish(start(trained, path)))
    assert commands.content(path) == undisturbed
