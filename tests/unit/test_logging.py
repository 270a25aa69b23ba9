"""What is said never ends what it is said about."""

import contextlib
import io
import os
import sys

import pytest

from pgd_jax.core import logging


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


def full():
    return io.TextIOWrapper(open("/dev/full", "wb", buffering=0), write_through=True)


def unread():
    reading, writing = os.pipe()
    os.close(reading)
    return io.TextIOWrapper(open(writing, "wb", buffering=0), write_through=True)


@pytest.mark.parametrize("make", [closed, full, unread, lambda: None])
def test_what_cannot_be_written_is_lost(make, monkeypatch):
    stream = make()
    monkeypatch.setattr(sys, "stderr", stream)
    logging.info("one")
    logging.info("two")
    with contextlib.suppress(AttributeError):  # None has none
        stream.close()


def test_why_is_kept_but_for_a_reader_that_left():
    for make, why in ((full, "No space left"), (unread, "")):
        stream = logging.Tolerant(make())
        assert stream.write("x\n") == 2 and why in stream.lost and bool(stream.lost) == bool(why)
        stream.flush()
        stream.close()


def test_the_rest_is_the_stream_s_own():
    inner = io.StringIO()
    stream = logging.Tolerant(inner)
    print("said", file=stream, flush=True)
    assert inner.getvalue() == "said\n" and stream.encoding == inner.encoding and not stream.isatty()
