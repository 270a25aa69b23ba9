"""Broken dataset files: each is one UserError that names the file and what is wrong with it, and stays as it was.

The good file is of hopper, as D4RL's v2 files are: 40 episodes of 25 rows, gzip-compressed in chunks. What is
broken in a copy of it has a name and a regular expression that the message must match.
"""

import contextlib
import os
import pathlib
import shutil
import sys
import tempfile

import h5py
import numpy as np
import pytest
from absl import app, flags

from pgd_jax.cli import train_agent, train_denoiser
from pgd_jax.core.errors import UserError
from pgd_jax.data import loading

NUM_ROWS, EPISODE = 1000, 25
FILE = "hopper_medium-v2.hdf5"


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    row = np.arange(NUM_ROWS)
    states = generator.normal(size=(NUM_ROWS + 1, 11)).astype(np.float32)
    return {
        "observations": states[:-1],
        "actions": np.tanh(generator.normal(size=(NUM_ROWS, 3))).astype(np.float32),
        "rewards": generator.normal(size=NUM_ROWS).astype(np.float32),
        "next_observations": states[1:],
        "terminals": row % (2 * EPISODE) == EPISODE - 1,
        "timeouts": row % (2 * EPISODE) == 2 * EPISODE - 1,
    }


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / FILE
    with h5py.File(path, "w") as file:
        for key, array in arrays().items():
            file.create_dataset(key, data=array, chunks=(100, *array.shape[1:]), compression="gzip")
        file["metadata/algorithm"] = "SAC"
    return path


def changed(key, index, value, dtype=np.float32):
    array = arrays()[key].astype(dtype)
    array[index] = value
    return {key: array}


def replace(path, changes):
    """Keys of the file replaced or, by None, removed."""
    with h5py.File(path, "a") as file:
        for key, value in changes.items():
            if key in file:
                del file[key]
            if value is not None:
                file[key] = value


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def make_directory(path):
    path.unlink()
    path.mkdir()


def spoil_chunk(path):
    with h5py.File(path) as file:
        chunk = file["observations"].id.get_chunk_info(3)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)


def spoil_tables(path):
    content = bytearray(path.read_bytes())
    for start in range(96, 2048, 7):
        content[start] ^= 0xFF
    path.write_bytes(content)


FILES = {
    "absent": ("no dataset file at", lambda path: path.unlink()),
    "a directory": ("is a directory", make_directory),
    "empty": ("is not an HDF5 file", lambda path: path.write_bytes(b"")),
    "a page of html": ("is not an HDF5 file", lambda path: path.write_text("<html>404</html>")),
    "without its head": ("is not an HDF5 file", lambda path: path.write_bytes(path.read_bytes()[512:])),
    "cut in the head": ("damaged or cut short", lambda path: path.write_bytes(path.read_bytes()[:90])),
    "cut in the middle": ("damaged or cut short", lambda path: cut(path, 0.5)),
    "cut before the end": ("damaged or cut short", lambda path: cut(path, 0.999)),
    "garbage in a compressed chunk": ("damaged or cut short", spoil_chunk),
    "garbage in the tables": ("damaged or cut short|has no array", spoil_tables),
    "not the file of its digest": (
        "does not match its digest",
        lambda path: path.with_name(f"{FILE}.sha256").write_text("0" * 64),
    ),
    "no arrays": ('it has no array "observations"; it holds: nothing', lambda path: h5py.File(path, "w").close()),
}

NUMBERS = r"expected numbers \[N\] or \[N, 1\]"
VECTORS = r"expected numbers \[N, dim\]"
ALL_FALSE = np.zeros(NUM_ROWS, bool)
WIDE = np.random.default_rng(0).normal(size=(NUM_ROWS, 17))
GOOD = arrays()

CONTENTS = {
    "a key missing": ('it has no array "rewards"; it holds: actions, metadata, next_observations', {"rewards": None}),
    "a group": ('its "terminals" is a group, not an array', {"terminals": None, "terminals/of": ALL_FALSE}),
    "a dangling external link": (
        r"actions is a link into elsewhere\.hdf5; a file may not lead to others",
        {"actions": h5py.ExternalLink("elsewhere.hdf5", "/actions")},
    ),
    "a dangling link": (
        "timeouts is a link to /flags/timeouts, which cannot be followed",
        {"timeouts": h5py.SoftLink("/flags/timeouts")},
    ),
    "no rows": ("is empty: its arrays have no rows", {key: array[:0] for key, array in GOOD.items()}),
    "one row": ("each of its 1 rows ends an episode", {key: array[:1] for key, array in GOOD.items()}),
    "a row less": ("arrays differ in length: observations 1000, actions 999", {"actions": GOOD["actions"][1:]}),
    "fewer next observations": (
        "arrays differ in length.*next_observations 990",
        {"next_observations": GOOD["next_observations"][10:]},
    ),
    # Shapes and types.
    "a scalar": (rf"rewards has shape \(\).*{NUMBERS}", {"rewards": 1.5}),
    "a null array": (rf"rewards has shape None.*{NUMBERS}", {"rewards": h5py.Empty("f4")}),
    "strings": (r"rewards has shape \(1000,\) and type \|S3", {"rewards": np.full(NUM_ROWS, b"1.0")}),
    "objects": ("rewards has .* type object", {"rewards": np.array(["1.0"] * NUM_ROWS, h5py.string_dtype())}),
    "compounds": (
        rf"observations has shape \(1000,\).*{VECTORS}",
        {"observations": np.zeros(NUM_ROWS, [("x", "f4"), ("y", "f4")])},
    ),
    "complex numbers": ("actions has .* type complex64", {"actions": GOOD["actions"].astype(np.complex64)}),
    "images": (
        rf"observations has shape \(1000, 4, 4\).*{VECTORS}",
        {"observations": np.zeros((NUM_ROWS, 4, 4), np.uint8)},
    ),
    "no columns": (rf"observations has shape \(1000, 0\).*{VECTORS}", {"observations": np.zeros((NUM_ROWS, 0))}),
    "flat actions": (rf"actions has shape \(3000,\).*{VECTORS}", {"actions": GOOD["actions"].ravel()}),
    "two rewards": (rf"rewards has shape \(1000, 2\).*{NUMBERS}", {"rewards": np.zeros((NUM_ROWS, 2))}),
    "narrow next observations": (
        r"observations are \(1000, 11\), next_observations \(1000, 10\); they must agree",
        {"next_observations": GOOD["next_observations"][:, 1:]},
    ),
    "of another task": (
        'has observations of 17 and actions of 6; its environment "hopper" has 11 and 3',
        {"observations": WIDE, "next_observations": WIDE, "actions": np.zeros((NUM_ROWS, 6))},
    ),
    "of another task by its metadata": (
        'has observations of 11 and actions of 3; its environment "walker2d" has 17 and 6',
        {"metadata/env": "Walker2d-v4"},
    ),
    # Values.
    "nan in the last row": (
        "observations holds NaN or infinity, first in row 999",
        changed("observations", (999, 10), np.nan),
    ),
    "infinity": (
        "next_observations holds NaN or infinity, first in row 3",
        changed("next_observations", (3, 0), -np.inf),
    ),
    "more than float32 holds": ("rewards holds NaN .* row 7", changed("rewards", 7, 1e300, np.float64)),
    "actions out of range": (
        r"actions must lie in \[-1, 1\]; row 12 holds \[.*1\.5.*\]; .*action_bounds",
        changed("actions", (12, 1), 1.5),
    ),
    "bytes that wrapped round": (
        r"actions are whole numbers \(type uint8\)",
        {"actions": np.full((NUM_ROWS, 3), 255, np.uint8)},
    ),
    "a flag of two": (r"timeouts must be 0 or 1; row 5 holds 2\.0", changed("timeouts", 5, 2, np.int64)),
    "half a flag": (r"terminals must be 0 or 1; row 900 holds 0\.5", changed("terminals", 900, 0.5)),
    "flags of minus one": (
        r"terminals must be 0 or 1; row 24 holds -1\.0",
        {"terminals": -GOOD["terminals"].astype(np.int8)},
    ),
    "every row terminal": ("each of its 1000 rows ends an episode, so no row follows", {"terminals": ~ALL_FALSE}),
    "all observations the same": (
        "all 1000 observations are the same",
        {"observations": np.full((NUM_ROWS, 11), -0.0), "next_observations": None},
    ),
    "nothing to cut by": (
        "nothing says where an episode ends.*add timeouts, or metadata/horizon",
        {"timeouts": None, "next_observations": None, "terminals": ALL_FALSE}
        | {"metadata/env": "my-robot", "metadata/reference": ""},
    ),
}

MESSAGES = {name: message for name, (message, _) in (FILES | CONTENTS).items()}


def snapshot(folder):
    return sorted((str(p), p.read_bytes() if p.is_file() else None) for p in folder.rglob("*"))


@pytest.fixture
def broken(request, good, tmp_path):
    """The path of a copy of the good file, broken in the way that the test's parameter names."""
    path = tmp_path / FILE
    shutil.copy(good, path)
    if request.param in FILES:
        FILES[request.param][1](path)
    else:
        replace(path, CONTENTS[request.param][1])
    return path


def test_the_good_file_is_good(good):
    raw = loading.load(str(good))
    assert (raw.env, raw.reference, len(raw.rewards)) == ("hopper", "hopper-medium-v2", NUM_ROWS)


@pytest.mark.parametrize("broken", MESSAGES, indirect=True)
def test_one_error_names_the_file_and_what_is_wrong(broken, request):
    before = snapshot(broken.parent)
    with pytest.raises(UserError, match=MESSAGES[request.node.callspec.params["broken"]]) as caught:
        loading.load(str(broken))
    assert str(broken) in str(caught.value) and "\n" not in str(caught.value)
    assert snapshot(broken.parent) == before


COMMANDS = [
    (train_denoiser, "--config.data.dataset={}"),
    (train_agent, "--config.dataset={} --config.synthetic_per_batch=0 --config.environment=none"),
]
SEEN = ["cut in the middle", "garbage in a compressed chunk", "a directory", "of another task", "nan in the last row"]


@pytest.mark.parametrize("broken", SEEN, indirect=True)
@pytest.mark.parametrize(("command", "line"), COMMANDS)
def test_a_command_stops_with_one_line(broken, command, line, monkeypatch, capfd):
    before = snapshot(broken.parent)
    run = broken.parent / "run"
    assert status(command, monkeypatch, [f"--workdir={run}", *line.format(broken).split()]) == 2
    stdout, stderr = capfd.readouterr()
    assert stdout == "" and stderr.startswith(f"error: {broken}") and stderr.count("\n") == 1
    assert snapshot(broken.parent) == before


def status(command, monkeypatch, arguments):
    """The exit status of a command in this process, as a shell would start it."""
    app.define_help_flags()
    known = set(flags.FLAGS)
    monkeypatch.setattr(sys, "argv", ["pgd", *arguments])
    try:
        with pytest.raises(SystemExit) as stopped:
            command.run()
    finally:
        flags.FLAGS.unparse_flags()
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
    return stopped.value.code


def test_rows_in_no_order_have_no_windows(good, tmp_path, monkeypatch, capfd):
    """A file for agents, which learn from single steps, but not for a denoiser."""
    path = tmp_path / FILE
    shutil.copy(good, path)
    order = np.random.default_rng(0).permutation(NUM_ROWS)
    replace(path, {key: array[order] for key, array in GOOD.items()})
    assert status(train_denoiser, monkeypatch, [f"--workdir={tmp_path / 'run'}", f"--config.data.dataset={path}"]) == 2
    stderr = capfd.readouterr().err
    note, error = stderr.splitlines()
    assert "flags mark 40 ends of episodes, next_observations 958 more" in note
    assert error.startswith(f"error: {path}: no complete window of 32 rows")
    assert list(tmp_path.iterdir()) == [path]


@contextlib.contextmanager
def without_rights():
    """Who may read everything is somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_may_not_be_read(good):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / FILE
        shutil.copy(good, path)
        pathlib.Path(folder).chmod(0o755)
        path.chmod(0)
        with without_rights(), pytest.raises(UserError, match=f"{path} cannot be read: Permission denied"):
            loading.load(str(path))
