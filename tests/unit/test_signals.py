import os
import signal
import sys
import threading

import pytest

from pgd_jax.core import signals
from pgd_jax.core.errors import Stopped


def handlers():
    return signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_only_sets_the_flag(number):
    before = handlers()
    with signals.graceful() as stop:
        assert not stop and stop.signal == ""
        os.kill(os.getpid(), number)
        assert stop and stop.signal == number.name
    assert handlers() == before


def test_repeated_sigterm_is_patient_and_a_second_sigint_raises():
    before = handlers()
    with signals.graceful() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert stop
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(5)
    assert handlers() == before


def test_a_signal_that_stopped_nothing_reaches_the_old_handler():
    """A program that goes on to other work must hear of it; a command remembers it by itself."""
    heard = []
    old = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        for is_unheeded in (False, True):
            with signals.graceful() as stop:
                os.kill(os.getpid(), signal.SIGTERM)
                stop.is_unheeded = is_unheeded
            assert heard == [signal.SIGTERM] * is_unheeded
        with signals.command(), signals.graceful() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            stop.is_unheeded = True
        assert len(heard) == 1
    finally:
        signal.signal(signal.SIGTERM, old)


def test_the_handlers_come_back_after_an_error():
    before = handlers()
    with pytest.raises(RuntimeError), signals.graceful():
        assert handlers() != before
        raise RuntimeError
    assert handlers() == before


def test_a_command_keeps_its_flag_and_check_raises_where_it_is_asked():
    before = handlers()
    with signals.command():
        signals.check()
        with signals.command(), signals.graceful() as stop:  # within it, both are the same one
            assert not stop
            os.kill(os.getpid(), signal.SIGUSR1)
            assert stop.signal == signals.found() == "SIGUSR1"
        with pytest.raises(Stopped, match="SIGUSR1"):
            signals.check()
    assert handlers() == before
    signals.check()  # outside commands nothing happens


def test_the_handlers_are_there_again_where_somebody_has_replaced_them():
    """As jax.distributed does with SIGTERM."""
    with signals.command():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with signals.graceful() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.signal == "SIGTERM"


@pytest.mark.parametrize(
    ("line", "argv0", "package", "expected"),
    [
        ("python -m pgd_jax.cli.train_agent --workdir=x", "-m", "pgd_jax.cli", True),
        ("python -um pgd_jax.cli.train_agent", "-m", "pgd_jax.cli", True),
        ("python -X dev -Wignore -mpgd_jax.cli.sample", "-m", "pgd_jax.cli", True),
        ("python -m experiments.bench", "-m", "experiments", True),
        ("python -m pgd_jax.launch.local", "-m", "pgd_jax.cli", False),
        ("python -m pgd_jax.launch.local", "-m", "pgd_jax", True),
        ("python -m pgd_jax sample", "-m", "pgd_jax", True),
        ("python -m pgd_jax_of_mine", "-m", "pgd_jax", False),
        ("python /venv/bin/pgd-train-agent --workdir=x", "/venv/bin/pgd-train-agent", "pgd_jax.cli", True),
        ("python /venv/bin/pgd-train", "/venv/bin/pgd-train", "pgd_jax.cli", False),
        ("python -m pytest -m slow", "/venv/bin/pytest", "pgd_jax.cli", False),
        ("python mine.py -m pgd_jax.cli.sample", "mine.py", "pgd_jax.cli", False),
        ("python -m mine --package pgd_jax.cli.x", "-m", "pgd_jax.cli", False),
        ("python -m", "-m", "pgd_jax.cli", False),
    ],
)
def test_only_our_commands_are_commands(line, argv0, package, expected, monkeypatch):
    began = []
    monkeypatch.setattr(sys, "orig_argv", line.split())
    monkeypatch.setattr(sys, "argv", [argv0])
    monkeypatch.setattr(signals, "begin", lambda: began.append(1))
    monkeypatch.setattr(signals.logging, "protect", lambda: None)
    monkeypatch.setattr(signals, "_is_for_good", False)
    signals.begin_if_started(package, scripts="pgd-(sample|train-agent)")
    assert bool(began) == expected


def test_another_thread_gets_a_flag_and_installs_nothing():
    before, seen = handlers(), []

    def work():
        with signals.graceful() as stop:
            seen.append((bool(stop), handlers()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
