"""How far a run has come: on a terminal, in a pipe, and quietly."""

import contextlib
import io
import os
import types

import pytest

from pgd_jax.core import logging
from pgd_jax.runs import progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test lets pass."""
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def pipe(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(logging, "stream", lambda: logging.Tolerant(stream))
    return stream


@pytest.fixture
def terminal(monkeypatch):
    """Closes a pseudo terminal, and returns all that was written to it."""
    reading, writing = os.openpty()
    stream, found = open(writing, "w"), b""
    monkeypatch.setattr(logging, "stream", lambda: logging.Tolerant(stream))

    def said():
        nonlocal found
        stream.close()
        with contextlib.suppress(OSError):  # as nobody writes any more
            while new := os.read(reading, 65_536):
                found += new
        return found.decode()

    yield said
    os.close(reading)


@pytest.fixture
def quiet():
    logging.set_quiet(True)
    yield
    logging.set_quiet(False)


def go(clock, seconds, **options):
    with progress.Progress("runs/guided", "update", 1_000, len(seconds), **options) as shown:
        for number, each in enumerate(seconds):
            clock.now += each
            shown.chunk_done(f"return_mean: guided {-100 + number}")


def test_the_time_left_is_that_of_whole_chunks_without_the_first(clock, pipe):
    shown, left = progress.Progress("run", "update", 1, 5), []
    for seconds in (100.0, 10.0, 20.0):
        clock.now += seconds
        shown.chunk_done("")
        left.append(shown.seconds_left())
    assert left == [400.0, 30.0, 30.0]  # 4 x 100, 3 x 10, 2 x (10 + 20) / 2


def test_a_pipe_gets_a_line_a_minute_and_one_at_the_end(clock, pipe):
    go(clock, [25.0] * 7)
    assert "\r" not in pipe.getvalue() and pipe.getvalue().splitlines() == [
        "runs/guided: 3.00k of 7.00k updates (43%), return_mean: guided -98, 100 s left",
        "runs/guided: 6.00k of 7.00k updates (86%), return_mean: guided -95, 25 s left",
        "runs/guided: 7.00k of 7.00k updates (100%), return_mean: guided -94, 2.9 min in all",
    ]


def test_a_terminal_gets_a_bar(clock, terminal):
    go(clock, [25.0] * 7)
    said = terminal()
    assert "\rguided: 100%" in said and "7.00k/7.00k updates" in said and "return_mean: guided -94" in said
    assert "runs/guided:" not in said


def test_a_line_does_not_run_into_a_bar(terminal):
    with logging.bar(total=2, desc="bar"):
        logging.warning("told")
    before = terminal().split("warning: told")[0]
    assert before.endswith("\r") and "bar:" in before


@pytest.mark.parametrize("place", ["pipe", "terminal"])
def test_quietly_nothing_is_said_but_warnings(place, clock, quiet, request):
    stream = request.getfixturevalue(place)
    go(clock, [70.0] * 3)
    logging.info("not told")
    logging.warning("told")
    said = stream.getvalue() if place == "pipe" else stream()
    assert said.split() == ["warning:", "told"]


def test_only_one_of_several_processes_tells(clock, pipe):
    go(clock, [70.0] * 3, is_hidden=True)
    assert pipe.getvalue() == ""


def test_a_run_that_goes_on_counts_what_it_has(clock, pipe):
    with progress.Progress("run", "step", 10, num_chunks=4, num_done=3) as shown:
        clock.now += 5.0
        shown.chunk_done("")
    assert pipe.getvalue() == "run: 40.0 of 40.0 steps (100%), 5 s in all\n"
