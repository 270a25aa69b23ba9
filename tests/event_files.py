"""TensorBoard's files, read back."""

import pathlib
import struct
from collections.abc import Iterator
from typing import Any


def values(folder: pathlib.Path) -> Iterator[tuple[int, Any]]:
    """(step, summary value) of the one file that lies in `folder`."""
    from tensorboardX.proto.event_pb2 import Event

    (file,) = folder.glob("events.out.tfevents.*")
    data, position = file.read_bytes(), 0
    while position < len(data):
        (length,) = struct.unpack_from("<Q", data, position)
        event = Event.FromString(data[position + 12 : position + 12 + length])
        yield from ((event.step, value) for value in event.summary.value)
        position += length + 16


def scalars(folder: pathlib.Path) -> list[tuple[int, str, float]]:
    """(step, tag, number) of each."""
    return [(step, value.tag, value.simple_value) for step, value in values(folder) if value.HasField("simple_value")]
