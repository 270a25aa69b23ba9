"""Every registered sink: it shows each row once, however often a run is killed, and never stops one."""

import csv
import json
import struct
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.runs import checkpoint, driver, metrics, rundir
from pgd_jax.runs.sinks import base
from tests import event_files

UPDATES = 100  # of a phase


class Lines:
    """A sink of a user's own: a line for each row."""

    def __init__(self, target):
        self.path = target.path / "lines.txt"
        self.path.write_text("")
        self.write(target.rows)

    def write(self, rows):
        with open(self.path, "a") as file:
            file.writelines(f"{row['lane']} {row['updates']} {row['return_mean']}\n" for row in rows)

    def close(self):
        pass


base.SINKS.add("lines", base.SinkFamily(Lines))


@pytest.fixture(params=base.SINKS.names())
def sink(request, monkeypatch):
    """The name of each; those that need a package that is not installed are passed over."""
    if needs := base.SINKS.get(request.param).needs:
        pytest.importorskip(needs)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    return request.param


def row(lane, phase):
    about = {"lane": lane, "phase": phase, "seed": lane + 7, "group": "guided alpha=2.5", "setting": {"alpha": 2.5}}
    measures = {
        "updates": UPDATES * (phase + 1),
        "by_position": np.ones(2),
        "return_mean": np.float32(10 * phase + lane),
    }
    return about | measures | ({"clone_loss": 0.5} if phase > 1 else {})  # a measure that comes later


def job(num_chunks):
    """Two lanes of one group, a phase a chunk."""
    advance = lambda state: (state + 1, {"anything": state})
    rows = lambda chunk, found, seconds: [row(lane, chunk) for lane in range(2)]
    return driver.Job(advance, rows, lambda rows: "", num_chunks, 1, UPDATES, "update", {})


def run(path, sinks, num_chunks=4):
    template = jax.ShapeDtypeStruct((), jnp.float32)
    with rundir.open_run(path, "agent", {"num_phases": num_chunks}) as directory:
        return driver.run(job(num_chunks), directory, lambda: jnp.float32(0.0), template, sinks)


class Killed(BaseException):
    pass


def kill_after(monkeypatch, chunk):
    """Dies once the rows of `chunk` are written, before its checkpoint."""
    save = checkpoint.save

    def dies(path, number, *arguments):
        if number == chunk:
            raise Killed
        save(path, number, *arguments)

    monkeypatch.setattr(checkpoint, "save", dies)


# What a sink holds: (lane, updates, return_mean) of every point, in the order in which they lie there.


def of_lines(path):
    return [(int(a), int(b), float(c)) for a, b, c in map(str.split, (path / "lines.txt").read_text().splitlines())]


def of_csv(path):
    with open(path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["setting.alpha"] for row in rows} == {"2.5"} and "by_position" not in rows[0]
    assert [row["clone_loss"] for row in rows] == [""] * 4 + ["0.5"] * (len(rows) - 4)
    return [(int(row["lane"]), int(row["updates"]), float(row["return_mean"])) for row in rows]


def of_tensorboard(path):
    events = {
        folder.name: event_files.scalars(folder) for folder in (path / "tensorboard").iterdir() if folder.is_dir()
    }
    assert events.keys() == {"lane_0", "lane_1", "guided alpha=2.5"}
    means = [value for _, tag, value in events["guided alpha=2.5"] if tag == "evaluation/return_mean"]
    assert means == [10.0 * phase + 0.5 for phase in range(len(means))]
    found = [(lane, point) for lane in range(2) for point in events[f"lane_{lane}"]]
    return [(lane, step, value) for lane, (step, tag, value) in found if tag == "evaluation/return_mean"]


def of_wandb(path):
    found = []
    for file in sorted(path.glob("wandb/offline-run-*/*.wandb")):
        for record in finished_records(file):
            if record.WhichOneof("record_type") == "history":
                items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
                values = {name: json.loads(value) for name, value in items.items()}
                key = "evaluation/return_mean/lane_"
                found += [(lane, values["_step"], values[f"{key}{lane}"]) for lane in range(2)]
    return found


def finished_records(file):
    """W&B's own process writes them, and may still do so when the run's has ended."""
    from wandb.proto.wandb_internal_pb2 import Record

    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        found = [Record.FromString(data) for data in leveldb_records(file.read_bytes())]
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        time.sleep(0.05)
    raise AssertionError(f"{file} has no end")


def leveldb_records(data):
    """W&B's own file: seven bytes, then LevelDB's log, whose blocks of 32 KiB hold records, or fragments of them."""
    position, record = 7, b""
    while position + 7 <= len(data):
        left = 32_768 - position % 32_768
        length, kind = struct.unpack_from("<HB", data, position + 4)
        if left < 7 or not kind:
            position += left
            continue
        record, position = record + data[position + 7 : position + 7 + length], position + 7 + length
        if kind in (1, 4):  # whole, or its last fragment
            yield record
            record = b""


READ = {"lines": of_lines, "csv": of_csv, "tensorboard": of_tensorboard, "wandb": of_wandb}


def expected(num_chunks):
    return [(lane, UPDATES * (phase + 1), 10.0 * phase + lane) for phase in range(num_chunks) for lane in range(2)]


def test_a_run_that_is_killed_and_made_longer_has_each_point_once(sink, tmp_path, monkeypatch):
    path = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 3)
        run(path, [sink])
    assert run(path, [sink])
    assert sorted(READ[sink](path)) == sorted(expected(4))
    assert run(path, [sink], num_chunks=5)
    assert sorted(READ[sink](path)) == sorted(expected(5))


def test_a_sink_that_comes_later_shows_the_whole_run(sink, tmp_path):
    path = tmp_path / "run"
    run(path, [], num_chunks=2)
    run(path, [sink], num_chunks=3)
    assert sorted(READ[sink](path)) == sorted(expected(3))


def test_a_run_without_lanes_has_plain_names(tmp_path):
    """As a denoiser's."""
    pytest.importorskip("tensorboardX")
    of_model = {"lane": 0, "phase": 0, "step": 10, "train_loss": 0.5, "wall_s": 1.0}
    base.Sinks(["csv", "tensorboard"], base.Target(tmp_path, {"kind": "denoiser"}, [of_model])).close()
    assert [entry.name for entry in (tmp_path / "tensorboard").iterdir() if entry.is_dir()] == []
    points = event_files.scalars(tmp_path / "tensorboard")
    assert points == [(10, "learning/train_loss", 0.5), (10, "time/wall_s", 1.0)]
    assert (tmp_path / "metrics.csv").read_text() == "lane,phase,step,train_loss,wall_s\n0,0,10,0.5,1.0\n"


class Failing:
    """Fails at one moment, as on a full disk."""

    moment = ""

    def __init__(self, target):
        self._at("open")

    def write(self, rows):
        self._at("write")

    def close(self):
        self._at("close")

    def _at(self, moment):
        if moment == self.moment:
            raise OSError(28, "No space left on device")


@pytest.mark.parametrize("moment", ["open", "write", "close"])
def test_a_sink_that_fails_is_told_of_once_and_stops_nothing(moment, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(Failing, "moment", moment)
    monkeypatch.setitem(base.SINKS._entries, "failing", base.SinkFamily(Failing))
    assert run(tmp_path / "run", ["failing", "lines"])
    said = capfd.readouterr().err
    assert said.count("warning: ") == 1 and said.count("No space left on device") == 1
    assert f'{tmp_path / "run"} goes on without sink "failing"' in said
    assert of_lines(tmp_path / "run") == expected(4)
    assert len(metrics.read(tmp_path / "run" / "metrics.jsonl")) == 8


def test_a_full_disk_ends_tensorboard_and_does_not_hang(tmp_path, capfd):
    """As tensorboardX's own writer does."""
    pytest.importorskip("tensorboardX")
    sinks = base.Sinks(["tensorboard"], base.Target(tmp_path, {}, [row(0, 0)]))
    (file,) = (tmp_path / "tensorboard" / "lane_0").iterdir()
    file.unlink()
    file.symlink_to("/dev/full")
    for phase in range(1, 40):
        sinks.write([row(0, phase)])
    assert capfd.readouterr().err.count("No space left on device") == 1


def test_what_cannot_be_sent_anywhere_is_refused(monkeypatch):
    with pytest.raises(UserError, match='unknown sink "tensorbord"; did you mean "tensorboard"'):
        base.check(["tensorbord"])
    with pytest.raises(UserError, match='sinks="csv" must be a list of names'):
        base.check("csv")
    with pytest.raises(UserError, match='"csv" is named more than once'):
        base.check(["csv", "csv"])
    with pytest.raises(UserError, match='"csv" shows no figures'):
        base.check(["csv"], of_figures=True)
    monkeypatch.setitem(base.SINKS._entries, "mine", base.SinkFamily(Lines, needs="nothing_like_it"))
    with pytest.raises(
        UserError, match=r'needs nothing_like_it, which is not installed: pip install "pgd_jax\[mine\]"'
    ):
        base.check(["mine"])


def test_a_folder_of_the_packages_name_is_not_the_package(tmp_path, monkeypatch):
    """W&B puts a folder `wandb` wherever it is used."""
    (tmp_path / "a_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not base._is_installed("a_folder") and base._is_installed("json")
