"""Files are whole or not there, take nobody's place, and only leftovers of our own go."""

import os
import socket
import subprocess
import sys
import time

import pytest

from pgd_jax.core import places
from pgd_jax.core.errors import UserError
from pgd_jax.data import catalogue, export, fetch, loading, minari_export
from pgd_jax.data.mazes import collect
from tests import worlds


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def part(path, process, host=None):
    return path.with_name(f"{path.name}.pgd_jax-{host or places._host()}-{process}.part")


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "new" / "x.bin"
    with pytest.raises(RuntimeError), places.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    with places.replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_what_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "x.bin"
    with pytest.raises(UserError, match="x.bin exists already"), places.creating(path) as temporary:
        temporary.write_text("ours")
        path.write_text("theirs")
    assert path.read_text() == "theirs" and list(tmp_path.iterdir()) == [path]


def test_without_hard_links_a_file_is_created_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError()))
    with places.creating(tmp_path / "x.bin") as temporary:
        temporary.write_text("ours")
    assert (tmp_path / "x.bin").read_text() == "ours"


def test_leftovers_of_dead_processes_go_and_nothing_else(tmp_path):
    path = tmp_path / "x.hdf5"
    dead, old = part(path, dead_process()), part(path, os.getppid(), "elsewhere")
    others = [
        part(path, os.getppid()),  # at work
        part(path, 1, "elsewhere"),  # perhaps at work
        part(tmp_path / "y.hdf5", dead_process()),
        tmp_path / "x.hdf5.part",
        tmp_path / "x.hdf5.123.part",
        tmp_path / "x.hdf5.pgd_jax-backup.part",
        tmp_path / "x.hdf5.bak",
    ]
    for file in (dead, old, *others):
        file.write_text("")
    long_ago = time.time() - places.ABANDONED_S - 60.0
    os.utime(old, (long_ago, long_ago))
    with places.replacing(path) as temporary:
        temporary.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_the_mark_holds_host_names_of_all_kinds(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "node-7.my host/x")
    found = places.PART.fullmatch(f"x.hdf5.pgd_jax-{places._host()}-12.part")
    assert found["name"] == "x.hdf5" and found["host"] == places._host() and found["process"] == "12"


WRITERS = {
    "export": lambda path: export.write_hdf5(path, *worlds.rows(), metadata={}),
    "collect": lambda path: collect.write("pendulum-mixed-v0", path, 20),
    "download": lambda path: fetch.download("http://127.0.0.1:9/x.hdf5", path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_link_to_nothing_is_told_of_and_stays(writer, tmp_path):
    path = tmp_path / "x.hdf5"
    path.symlink_to("/nowhere/disk/x.hdf5")
    with pytest.raises(UserError, match=r"x.hdf5 is a link to /nowhere/disk/x.hdf5, which is not there"):
        WRITERS[writer](path)
    assert path.is_symlink() and list(tmp_path.iterdir()) == [path]


def test_so_it_is_for_minari_datasets_and_for_d4rl_s_cache(tmp_path, monkeypatch):
    pytest.importorskip("minari", reason="the extra minari is not installed")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    (tmp_path / "mine-v0").symlink_to("/nowhere/mine")
    file = tmp_path / catalogue.task("hopper-medium-v2").file_name
    file.symlink_to("/nowhere/hopper.hdf5")
    with pytest.raises(UserError, match="mine-v0 is a link to /nowhere/mine"):
        minari_export.check_new("mine-v0")
    with pytest.raises(UserError, match=f"{file.name} is a link to /nowhere/hopper.hdf5"):
        loading.load("hopper-medium-v2", download=True)
    assert file.is_symlink()


def test_two_first_uses_of_a_built_in_dataset_both_have_it(tmp_path, monkeypatch):
    """The other process finishes while this one generates."""
    monkeypatch.setenv("PGD_JAX_CACHE_DIR", str(tmp_path))
    path, generate = collect.cache_path("pendulum-mixed-v0"), collect.generate

    def meanwhile(*arguments):
        recording = generate("pendulum-mixed-v0", 400)
        export.write_hdf5(path, **recording.flat._asdict(), metadata={"env": "pendulum"})
        return recording

    monkeypatch.setattr(collect, "generate", meanwhile)
    assert len(loading.load("pendulum-mixed-v0").rewards) == 400
    assert list(tmp_path.iterdir()) == [path]
