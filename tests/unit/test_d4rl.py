"""Finding, fetching, reading and refusing D4RL files; with a stand-in d4rl package that must not be imported."""

import functools
import http.server
import importlib.util
import pathlib
import socket
import threading

import h5py
import numpy as np
import pytest

from pgd_jax.data import d4rl, references
from pgd_jax.errors import UserError

INFOS = """
DATASET_URLS = {
    "hopper-medium-replay-v2": "http://host/a/hopper_medium_replay-v2.hdf5",
    "maze2d-umaze-v1": "http://host/maze2d/maze2d-umaze-sparse-v1.hdf5",
    "maze2d-umaze-dense-v1": "http://host/maze2d/maze2d-umaze-dense-v1.hdf5",
    "carla-town-full-v0": "http://host/carla.hdf5",
}
REF_MIN_SCORE = {"hopper-medium-replay-v2": -20.272305}
REF_MAX_SCORE = {"hopper-medium-replay-v2": 3234.3}
"""


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    """A d4rl package that raises when it is imported, as the real one does without MuJoCo 2.1; an empty cache."""
    folder = tmp_path / "site" / "d4rl"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text('raise RuntimeError("imported")')
    (folder / "infos.py").write_text(INFOS)
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))


def content(num_rows: int = 6, **changes: np.ndarray) -> dict[str, np.ndarray]:
    arrays = {
        "observations": np.arange(2.0 * num_rows).reshape(num_rows, 2),
        "actions": np.linspace(-1, 1, num_rows)[:, None],
        "rewards": np.arange(num_rows, dtype=np.float32),
        "terminals": np.arange(num_rows) == 3,
    }
    return {key: array for key, array in (arrays | changes).items() if array is not None}


def write(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array
    return str(path)


def test_scores_by_hand():
    # (1000 + 20.272305) / (3234.3 + 20.272305) = 1020.272305 / 3254.572305 = 0.313489
    assert references.normalised_score("hopper-medium-replay-v2", 1000.0) == pytest.approx(31.3489, abs=1e-4)
    ends = references.normalised_score("hopper-medium-replay-v2", np.array([-20.272305, 3234.3]))
    np.testing.assert_allclose(ends, [0.0, 100.0], atol=1e-12)
    assert references.reference_scores("carla-town-full-v0") is None
    with pytest.raises(UserError, match='no reference scores for "carla-town-full-v0"'):
        references.normalised_score("carla-town-full-v0", 1.0)


def test_without_the_package_names_fail_and_files_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install d4rl"):
        references.names()
    with pytest.raises(UserError, match='unknown dataset "hopper-medium-v2".*pip install d4rl'):
        d4rl.load("hopper-medium-v2")
    raw = d4rl.load(write(tmp_path / "hopper_medium-v2.hdf5", content()))
    assert (raw.env, raw.reference) == ("hopper", "")


def test_the_real_tables_where_installed(monkeypatch):
    monkeypatch.undo()
    if not references.installed():
        pytest.skip("the d4rl package is not installed")
    assert references.reference_scores("walker2d-medium-v2") == (1.629008, 4592.3)
    assert references.reference_scores("maze2d-large-v1") == (6.7, 273.99)
    assert references.name_of_file("halfcheetah_medium_expert-v2.hdf5") == "halfcheetah-medium-expert-v2"


@pytest.mark.parametrize(
    ("stem", "env", "reference"),
    [
        ("hopper_medium_replay-v2", "hopper", "hopper-medium-replay-v2"),
        ("maze2d-umaze-sparse-v1", "maze2d-umaze", "maze2d-umaze-v1"),
        ("maze2d-umaze-dense-v1", "maze2d-umaze-dense", "maze2d-umaze-dense-v1"),
        ("maze2d-umaze-v1", "maze2d-umaze", "maze2d-umaze-v1"),
        ("hopper_trot", "", ""),
    ],
)
def test_a_file_is_known_by_its_name(tmp_path, stem, env, reference):
    raw = d4rl.load(write(tmp_path / f"{stem}.hdf5", content()))
    assert (raw.name, raw.env, raw.reference) == (stem, env, reference)


def test_metadata_wins_over_the_file_name(tmp_path):
    arrays = content() | {"metadata/env": "maze2d-umaze", "metadata/reference": b""}
    raw = d4rl.load(write(tmp_path / "hopper_medium_replay-v2.hdf5", arrays))
    assert (raw.env, raw.reference) == ("maze2d-umaze", "")
    raw = d4rl.load(write(tmp_path / "own.hdf5", content() | {"metadata/env": "HalfCheetah-v4"}))
    assert raw.env == "halfcheetah"


def test_columns_doubles_and_float_flags_are_read_as_rows(tmp_path):
    arrays = content(
        rewards=np.arange(6.0)[:, None],
        terminals=np.array([[0.0], [0], [1], [0], [0], [0]]),
        timeouts=np.array([0, 0, 0, 0, 1, 0], np.uint8),
        next_observations=np.zeros((6, 2)),
    )
    raw = d4rl.load(write(tmp_path / "own.hdf5", arrays))
    assert {raw.observations.dtype, raw.actions.dtype, raw.rewards.dtype, raw.next_observations.dtype} == {
        np.dtype(np.float32)
    }
    np.testing.assert_array_equal(raw.rewards, [0, 1, 2, 3, 4, 5])
    assert raw.terminals.dtype == raw.timeouts.dtype == bool
    np.testing.assert_array_equal(raw.terminals, np.arange(6) == 2)
    np.testing.assert_array_equal(raw.timeouts, np.arange(6) == 4)


def test_missing_timeouts_are_never(tmp_path):
    raw = d4rl.load(write(tmp_path / "own.hdf5", content()))
    np.testing.assert_array_equal(raw.timeouts, np.zeros(6, bool))
    assert raw.next_observations is None


def test_rounding_outside_the_action_range_is_clipped(tmp_path):
    actions = np.array([[1 + 5e-5], [-1 - 5e-5], [0.5], [0], [0], [0]])
    raw = d4rl.load(write(tmp_path / "own.hdf5", content(actions=actions)))
    np.testing.assert_array_equal(raw.actions[:3], np.float32([[1], [-1], [0.5]]))


@pytest.mark.parametrize("flag", ["timeouts", "terminals"])
def test_maze2d_marks_are_timeouts_and_the_stale_row_goes(tmp_path, flag):
    """Rows 2 and 3: sub-goal, then the same observation again. Row 5 repeats row 4 with no mark before it and stays."""
    obs = np.array([[0, 0], [1, 1], [2, 2], [2, 2], [4, 4], [4, 4]])
    marks = np.array([0, 0, 1, 0, 0, 0], bool)
    arrays = content(observations=obs, terminals=np.zeros(6, bool)) | {flag: marks}
    raw = d4rl.load(write(tmp_path / "maze2d-umaze-sparse-v1.hdf5", arrays))
    np.testing.assert_array_equal(raw.rewards, [0, 1, 2, 4, 5])
    np.testing.assert_array_equal(raw.observations[:, 0], [0, 1, 2, 4, 4])
    np.testing.assert_array_equal(raw.timeouts, [0, 0, 1, 0, 0])
    assert not raw.terminals.any()
    same_under_another_name = d4rl.load(write(tmp_path / "own.hdf5", arrays))
    assert len(same_under_another_name.rewards) == 6


BAD = {
    "no array": (content(terminals=None, x=np.zeros(3)), '"terminals"; it holds: actions, observations, rewards, x'),
    "lengths": (content(rewards=np.zeros(5)), "differ in length: observations 6, actions 6, rewards 5, terminals 6"),
    "nan": (content(observations=np.where(np.eye(6, 2, -4) == 1, np.nan, 0)), "observations.*first in row 4"),
    "overflow": (content(rewards=np.array([0, 1e300, 0, 0, 0, 0])), "rewards.*first in row 1"),
    "action range": (content(actions=np.array([[0], [0], [1.01], [0], [0], [2]])), r"\[-1, 1\]; row 2 holds"),
    "empty": (content(0), "is empty"),
    "rank": (content(actions=np.zeros(6)), r"actions has shape \(6,\).*expected numbers \[N, dim\]"),
    "reward rank": (content(rewards=np.zeros((6, 2))), r"rewards has shape \(6, 2\).*expected numbers \[N\] or"),
    "type": (content(rewards=np.array([b"a"] * 6)), "rewards has shape"),
    "flag": (content(terminals=np.array([0, 0, 0.5, 0, 0, 0])), "terminals must be 0 or 1; row 2 holds 0.5"),
    "next shape": (content(next_observations=np.zeros((6, 3))), r"\(6, 2\), next_observations \(6, 3\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_by_name(tmp_path, case):
    arrays, message = BAD[case]
    path = write(tmp_path / "bad.hdf5", arrays)
    with pytest.raises(UserError, match=message) as caught:
        d4rl.load(path)
    assert path in str(caught.value)


def test_what_is_no_hdf5_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no dataset file at .*gone\.hdf5"):
        d4rl.load(str(tmp_path / "gone.hdf5"))
    text = tmp_path / "text.hdf5"
    text.write_text("<html>404</html>")
    with pytest.raises(UserError, match="is not an HDF5 file"):
        d4rl.load(str(text))
    whole = pathlib.Path(write(tmp_path / "whole.hdf5", content(1000)))
    text.write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(UserError, match="damaged or cut short"):
        d4rl.load(str(text))


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UserError, match='did you mean "hopper-medium-replay-v2"'):
        d4rl.load("hoper-medium-replay-v2")


def test_a_d4rl_name_is_read_from_its_cache(tmp_path):
    write(tmp_path / "cache" / "maze2d-umaze-sparse-v1.hdf5", content())
    raw = d4rl.load("maze2d-umaze-v1")
    assert (raw.name, raw.env, raw.reference) == ("maze2d-umaze-v1", "maze2d-umaze", "maze2d-umaze-v1")


def test_a_missing_dataset_says_what_to_put_where_and_fetches_nothing(tmp_path):
    with pytest.raises(UserError) as caught:
        d4rl.load("hopper-medium-replay-v2")
    message = str(caught.value)
    assert "http://host/a/hopper_medium_replay-v2.hdf5" in message and "--download" in message
    assert str(tmp_path / "cache" / "hopper_medium_replay-v2.hdf5") in message
    assert not (tmp_path / "cache").exists()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves `body`, promising `extra` bytes more than it sends."""

    def __init__(self, *args, body: bytes, extra: int):
        self.body, self.extra = body, extra
        super().__init__(*args)

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body) + self.extra))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    """(body, extra) -> URL of a local server."""
    servers = []

    def start(body: bytes, extra: int = 0) -> str:
        handler = functools.partial(_Handler, body=body, extra=extra)
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/served.hdf5"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_download_on_demand(tmp_path, monkeypatch, serve):
    served = pathlib.Path(write(tmp_path / "origin.hdf5", content())).read_bytes()
    url = serve(served)
    monkeypatch.setattr(references, "dataset_url", lambda name: url)
    raw = d4rl.load("hopper-medium-replay-v2", download=True)
    assert raw.env == "hopper"
    kept = list((tmp_path / "cache").iterdir())
    assert [path.name for path in kept] == ["served.hdf5"] and kept[0].read_bytes() == served


def test_a_failed_download_leaves_nothing(tmp_path, serve):
    body = pathlib.Path(write(tmp_path / "origin.hdf5", content())).read_bytes()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{unused.getsockname()[1]}/x.hdf5"  # bound, not listening: refused
        target = tmp_path / "new" / "x.hdf5"
        for url, message in [
            (refused, "refused"),
            (serve(body, extra=10), "bytes"),
            (serve(b"<html>"), "not an HDF5 file"),
            ("no-url", "unknown url type"),
        ]:
            with pytest.raises(UserError, match=message) as caught:
                d4rl.download(url, target)
            assert url in str(caught.value) and str(target) in str(caught.value)
            assert list(target.parent.iterdir()) == []
