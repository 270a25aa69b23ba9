"""A process that loses another one, or its own life: what it says."""

import os
import signal
import subprocess
import sys

import pytest

from pgd_jax.core import processes
from pgd_jax.core.errors import UserError

GLOO = "UNKNOWN: Gloo AllGather failed: Connection closed by peer [10.0.0.2]:1234\nand more"

KILLED = """
import os
from pgd_jax.core import processes
with processes._last_words():
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def joined(monkeypatch):
    """Of processes that have found each other."""
    monkeypatch.setattr(processes, "start", lambda choice: None)
    monkeypatch.setattr(processes, "OTHERS_FIRST_S", 0.0)
    monkeypatch.setattr(os, "_exit", sys.exit)
    return processes.joined("10.0.0.1:1234,2,0")


def test_an_error_of_what_processes_do_together_ends_this_one_with_one_message(joined, capfd):
    with pytest.raises(SystemExit) as ended, joined:
        raise RuntimeError(GLOO)
    assert ended.value.code == processes.LOST != 0
    (said,) = capfd.readouterr().err.splitlines()
    assert said.startswith(f"error: another process is gone ({GLOO.splitlines()[0]})")
    assert "the same command in every process again" in said


@pytest.mark.parametrize("error", [RuntimeError("RESOURCE_EXHAUSTED: out of memory"), UserError("no Gloo here")])
def test_any_other_error_is_what_it_is(joined, error, capfd):
    with pytest.raises(type(error)) as raised, joined:
        raise error
    assert raised.value is error and capfd.readouterr().err == ""


def test_a_good_end_says_nothing(joined, capfd):
    with joined:
        pass
    assert capfd.readouterr().err == ""


def test_a_killed_process_has_last_words():
    ended = subprocess.run([sys.executable, "-c", KILLED], stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL and ended.stderr.strip() == processes.LAST_WORDS
