"""Finding and fetching datasets: paths, names, caches, mirrors, digests. No D4RL package, no network."""

import dataclasses
import functools
import hashlib
import http.server
import pathlib
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

import pgd_jax as pgd
from pgd_jax.core import config as configs
from pgd_jax.core.errors import UserError
from pgd_jax.data import catalogue, fetch, loading
from pgd_jax.data.base import DATASETS, Reading
from pgd_jax.runs import denoiser, experiment
from tests import worlds
from tests.d4rl_files import content, write

NAME, FILE = "hopper-medium-replay-v2", "hopper_medium_replay-v2.hdf5"


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """An empty cache, and no mirror."""
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("D4RL_MIRROR", raising=False)


def hopper(num_rows=6):
    return content(num_rows, 11, 3)


@pytest.mark.parametrize(
    ("stem", "dims", "env", "reference"),
    [
        ("hopper_medium_replay-v2", (11, 3), "hopper", NAME),
        ("maze2d-umaze-sparse-v1", (4, 2), "maze2d-umaze", "maze2d-umaze-v1"),
        ("maze2d-umaze-dense-v1", (4, 2), "maze2d-umaze-dense", "maze2d-umaze-dense-v1"),
        ("maze2d-umaze-v1", (4, 2), "maze2d-umaze", "maze2d-umaze-v1"),
        ("hopper_trot", (11, 3), "", ""),
    ],
)
def test_a_file_is_known_by_its_name(tmp_path, stem, dims, env, reference):
    raw = loading.load(write(tmp_path / f"{stem}.hdf5", content(6, *dims)))
    assert (raw.name, raw.env, raw.reference) == (stem, env, reference)


def test_a_registered_dataset_may_be_made_of_arrays(monkeypatch):
    made = pgd.Dataset.from_arrays(**content(), name="mine-v0")
    monkeypatch.setattr(DATASETS, "_entries", DATASETS._entries | {"mine-v0": lambda: made})
    found = pgd.load_dataset("mine-v0", max_rows=4)
    assert found.source == "mine-v0" and len(found.rewards) == found.reading.max_rows == 4
    np.testing.assert_array_equal(found.observations, made.observations[:4])


def test_a_d4rl_name_is_read_from_its_cache(tmp_path):
    write(tmp_path / "cache" / "maze2d-umaze-sparse-v1.hdf5", content(6, 4, 2))
    raw = loading.load("maze2d-umaze-v1")
    assert (raw.name, raw.env, raw.reference) == ("maze2d-umaze-v1", "maze2d-umaze", "maze2d-umaze-v1")


def test_a_missing_dataset_says_what_to_put_where_and_fetches_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "download", lambda *_: pytest.fail("fetched unasked"))
    with pytest.raises(UserError) as caught:
        loading.load(NAME)
    message = str(caught.value)
    assert f"http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2/{FILE}" in message
    assert str(tmp_path / "cache" / FILE) in message and "download" in message
    assert not (tmp_path / "cache").exists()


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(
        UserError, match='unknown dataset "hoper-medium-replay-v2"; did you mean "hopper-medium-replay-v2"'
    ):
        loading.load("hoper-medium-replay-v2")


@pytest.mark.parametrize("max_rows", [0, 5, 100])
def test_only_the_first_rows_are_read(tmp_path, monkeypatch, max_rows):
    """A NaN in row 8 is of no concern to those who read five rows; a built-in dataset obeys too."""
    arrays = content(10)
    raw = loading.load(write(tmp_path / "own.hdf5", arrays), reading=Reading(max_rows=max_rows))
    num_rows = min(max_rows or 10, 10)
    np.testing.assert_array_equal(raw.rewards, np.arange(num_rows))
    assert len(raw.observations) == len(raw.timeouts) == num_rows
    monkeypatch.setitem(loading.DATASETS._entries, "mine", lambda: loading.load(str(tmp_path / "own.hdf5")))
    np.testing.assert_array_equal(loading.load("mine", reading=Reading(max_rows=max_rows)).rewards, raw.rewards)
    if max_rows == 5:
        arrays["rewards"][8] = np.nan
        assert len(loading.load(write(tmp_path / "nan.hdf5", arrays), reading=Reading(max_rows=5)).rewards) == 5


def test_a_run_reads_only_its_rows(tmp_path):
    """The denoiser 120 of 240 rows; an agent as many of the same dataset unless it says otherwise, all of another."""
    dataset = worlds.write_dataset(tmp_path / "toy.hdf5")
    config = worlds.denoiser_config(dataset)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, max_rows=120, outliers="clip"))
    data = denoiser.prepare(config)
    assert len(data.raw.rewards) == len(data.training.rows) == 120
    trained = denoiser.Trained(config, None, None, None)
    for settings, expected in (
        ({}, (dataset, (120, 0.0, "clip", ""))),
        ({"max_rows": 60, "outliers": "drop"}, (dataset, (60, 0.0, "drop", ""))),
        ({"dataset": "other.hdf5"}, ("other.hdf5", (0, 0.0, "keep", ""))),
        ({"dataset": "other.hdf5", "max_rows": 60}, ("other.hdf5", (60, 0.0, "keep", ""))),
    ):
        assert experiment.data_of(configs.AgentConfig(**settings), trained) == expected
    agent = configs.AgentConfig(dataset=dataset, max_rows=60, synthetic_per_batch=0, batch_size=8, environment="none")
    assert len(experiment.assemble(agent).shared.real.reward) == 60


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves `body` for every path below /d4rl/, promising `extra` bytes more than it sends; None: no length."""

    def __init__(self, *args, body: bytes, extra: int | None):
        self.body, self.extra = body, extra
        super().__init__(*args)

    def do_GET(self):
        self.send_response(200 if self.path.startswith("/d4rl/") else 404)
        if self.extra is not None:
            self.send_header("Content-Length", str(len(self.body) + self.extra))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    """(body, extra) -> address of a local mirror."""
    servers = []

    def start(body: bytes, extra: int | None = 0) -> str:
        handler = functools.partial(_Handler, body=body, extra=extra)
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/d4rl"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_download_on_demand_from_a_mirror(tmp_path, monkeypatch, serve):
    served = pathlib.Path(write(tmp_path / "origin.hdf5", hopper())).read_bytes()
    monkeypatch.setenv("D4RL_MIRROR", serve(served) + "/")
    assert fetch.url_of(catalogue.task(NAME)).endswith(f"/d4rl/gym_mujoco_v2/{FILE}")
    assert loading.load(NAME, download=True).env == "hopper"
    kept = tmp_path / "cache" / FILE
    assert kept.read_bytes() == served
    # What `sha256sum --check` reads.
    digest = hashlib.sha256(served).hexdigest()
    assert (tmp_path / "cache" / f"{FILE}.sha256").read_text() == f"{digest}  {FILE}\n"
    assert len(list(kept.parent.iterdir())) == 2


def test_a_folder_is_a_mirror_too(tmp_path, monkeypatch):
    write(tmp_path / "share of the lab" / "gym_mujoco_v2" / FILE, hopper())
    monkeypatch.setenv("D4RL_MIRROR", str(tmp_path / "share of the lab"))
    assert len(loading.load(NAME, download=True).rewards) == 6
    with pytest.raises(UserError, match="could not fetch file:.*hopper_random-v2.hdf5"):
        loading.load("hopper-random-v2", download=True)


def test_a_failed_download_leaves_nothing(tmp_path, serve):
    body = pathlib.Path(write(tmp_path / "origin.hdf5", hopper())).read_bytes()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{unused.getsockname()[1]}/x.hdf5"  # bound, not listening: refused
        target = tmp_path / "new" / "x.hdf5"
        for url, message in [
            (refused, "refused"),
            (serve(body, extra=10) + "/x.hdf5", "bytes"),
            (serve(b"<html>") + "/x.hdf5", "not an HDF5 file"),
            (serve(body).removesuffix("/d4rl") + "/x.hdf5", "404"),
            ("no-url", "unknown url type"),
        ]:
            with pytest.raises(UserError, match=message) as caught:
                fetch.download(url, target)
            assert url in str(caught.value) and str(target) in str(caught.value)
            assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_not_kept_where_no_length_is_named(tmp_path, monkeypatch, serve, share):
    """Nor its digest: the whole file is taken afterwards."""
    body = pathlib.Path(write(tmp_path / "origin.hdf5", content(2_000, 11, 3))).read_bytes()
    monkeypatch.setenv("D4RL_MIRROR", serve(body[: int(share * len(body))], extra=None))
    with pytest.raises(UserError, match="cut short"):
        loading.load(NAME, download=True)
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.setenv("D4RL_MIRROR", serve(body, extra=None))
    assert len(loading.load(NAME, download=True).rewards) == 2_000
    assert len(loading.load(NAME).rewards) == 2_000


def test_a_digest_is_recorded_only_of_a_file_in_its_place(tmp_path, monkeypatch, serve):
    body = pathlib.Path(write(tmp_path / "origin.hdf5", hopper())).read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(UserError, match="disk full"):
        fetch.download(serve(body) + "/x.hdf5", tmp_path / "new" / "x.hdf5")
    assert list((tmp_path / "new").iterdir()) == []


def test_what_a_killed_download_left_is_cleared(tmp_path, serve):
    body = pathlib.Path(write(tmp_path / "origin.hdf5", hopper())).read_bytes()
    kill = "import os, sys, pathlib; from pgd_jax.core import places\n"
    kill += "with places.replacing(pathlib.Path(sys.argv[1])) as t: t.write_text('half'); os._exit(9)"
    subprocess.run([sys.executable, "-c", kill, str(tmp_path / "new" / "x.hdf5")], check=False)
    (leftover,) = (tmp_path / "new").iterdir()
    fetch.download(serve(body) + "/x.hdf5", tmp_path / "new" / "x.hdf5")
    assert not leftover.exists() and (tmp_path / "new" / "x.hdf5").read_bytes() == body


def test_a_digest_that_is_there_must_match(tmp_path, monkeypatch):
    """Before a download, and whenever the file is read."""
    good = pathlib.Path(write(tmp_path / "mirror" / "gym_mujoco_v2" / FILE, hopper())).read_bytes()
    monkeypatch.setenv("D4RL_MIRROR", str(tmp_path / "mirror"))
    digest = tmp_path / "cache" / f"{FILE}.sha256"
    digest.parent.mkdir()
    digest.write_text(f"{'0' * 64}  {FILE}\n")
    with pytest.raises(UserError, match=f"{FILE} does not match its digest.*{hashlib.sha256(good).hexdigest()}"):
        loading.load(NAME, download=True)
    assert list(digest.parent.iterdir()) == [digest]
    digest.write_text(hashlib.sha256(good).hexdigest().upper())
    loading.load(NAME, download=True)
    loading.load(NAME)
    file = tmp_path / "cache" / FILE
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(UserError, match=f"{FILE} does not match its digest"):
        loading.load(NAME)
    digest.write_text("")
    with pytest.raises(UserError, match="sha256 says nothing"):
        loading.load(NAME)
