"""TensorBoard: `tensorboard/` in the run's directory, for `tensorboard --logdir=<it, or a folder above>`.

A lane is a TensorBoard run of its own ("lane_3"), and so is the mean of each group: one chart a measure, with all lanes
in it. HPARAMS lists the lanes by their seed and floats; TEXT has the run's settings.

The files are made anew when the run goes on. Events are appended and the file closed each time: many lanes would
otherwise hold many files open, and tensorboardX's own writer, a thread, waits for ever once its disk is full.
"""

import json
import os
import pathlib
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pgd_jax.runs import metrics
from pgd_jax.runs.metrics import Row
from pgd_jax.runs.sinks import scalars
from pgd_jax.runs.sinks.base import SINKS, SinkFamily, Target

FOLDER, MARK = "tensorboard", ".pgd_jax"  # MARK: at the end of the files that are ours


class EventFiles:
    """A file for each curve, of those that lie in the folder."""

    def __init__(self, target: Target):
        self._folder = target.path / FOLDER
        self._name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}{MARK}"
        self._begun: set[str] = set()
        for old in self._folder.rglob(f"events.out.tfevents.*{MARK}"):
            old.unlink()
        self._append("", _settings(target.record))
        self.write(target.rows)

    def write(self, rows: Sequence[Row]) -> None:
        for name, about in scalars.lanes(rows).items():
            if name not in self._begun:
                self._append(name, *_hyperparameters(about, rows[0]))
        for point in scalars.points(rows):
            self._append(point.curve, _summary(point.values), step=point.step)

    def show(self, figures: Mapping[str, pathlib.Path]) -> None:
        for name, path in figures.items():
            self._append("", _image(name, path))

    def close(self) -> None:
        pass

    def _append(self, curve: str, *summaries: Any, step: int = 0) -> None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder = self._folder / curve.replace(os.sep, "_")
        events = [Event(wall_time=time.time(), step=step, summary=summary) for summary in summaries]
        if curve not in self._begun:
            folder.mkdir(parents=True, exist_ok=True)
            # A TensorBoard that is open forgets what it has read of the older file.
            start = Event(wall_time=time.time(), session_log=SessionLog(status=SessionLog.START))
            events = [Event(wall_time=time.time(), file_version="brain.Event:2"), start, *events]
            self._begun.add(curve)
        with open(folder / self._name, "ab") as file:
            file.write(b"".join(_record(event.SerializeToString()) for event in events))


def _record(data: bytes) -> bytes:
    """`data` as TensorBoard's files hold it: length, checksum, data, checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def _summary(values: Mapping[str, float]) -> Any:
    from tensorboardX.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])


def _settings(record: Mapping[str, Any]) -> Any:
    from tensorboardX import summary

    return summary.text("config.json", f"```\n{json.dumps(record, indent=2)}\n```")


def _hyperparameters(about: dict[str, float | str], row: Row) -> Sequence[Any]:
    """What HPARAMS needs to list a lane, with the curve of its score where a row has one."""
    from tensorboardX import summary

    scores = [f"{scalars.section(key)}/{key}" for key in metrics.SCORES if key in row]
    return summary.hparams(about, dict.fromkeys(scores[:1]))


def _image(name: str, path: pathlib.Path) -> Any:
    from matplotlib import image
    from tensorboardX import summary

    return summary.image(name, image.imread(path), dataformats="HWC")


def show_figures(target: Target, figures: Mapping[str, pathlib.Path]) -> None:
    EventFiles(target).show(figures)


SINKS.add("tensorboard", SinkFamily(EventFiles, show_figures, needs="tensorboardX"))
