import gc
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from pgd_jax.core.errors import UserError
from pgd_jax.runs import array_store, checkpoint


class Stats(NamedTuple):
    count: jax.Array
    pixels: jax.Array


@struct.dataclass
class State:
    params: Any
    opt: Any
    key: jax.Array
    lane_keys: jax.Array
    stats: Stats
    alive: jax.Array
    empty: jax.Array
    buffer: np.ndarray
    name: str = struct.field(pytree_node=False, default="x")


def make_state(seed=0):
    key, key_params, key_lanes = jax.random.split(jax.random.key(seed), 3)
    params = {"dense": {"kernel": jax.random.normal(key_params, (3, 2)), "bias": jnp.float32([jnp.nan, -0.0])}}
    return State(
        params=params,
        opt=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)).init(params),
        key=key,
        lane_keys=jax.random.split(key_lanes, 4),
        stats=Stats(jnp.int32(seed), jnp.arange(6, dtype=jnp.uint8).reshape(2, 3)),
        alive=jnp.array([True, False]),
        empty=jnp.zeros((0, 3)),
        buffer=np.arange(3, dtype=np.float64) / 3,
    )


def raw(leaf):
    """(kind, dtype, shape, bytes): equal only if bitwise the same."""
    data = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return isinstance(leaf, jax.Array), str(leaf.dtype), leaf.shape, np.asarray(data).tobytes()


def assert_same(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    assert [raw(leaf) for leaf in jax.tree.leaves(tree)] == [raw(leaf) for leaf in jax.tree.leaves(other)]


def small(step):
    return {"w": jnp.full((3,), step, jnp.float32), "key": jax.random.key(step)}


def folders(directory):
    return sorted(p.name for p in directory.iterdir())


def array_file(folder):
    return max(folder.glob("arrays/**/d/*"), key=lambda p: p.stat().st_size)


def test_round_trip_is_bitwise(tmp_path):
    state = make_state(3)
    checkpoint.save(tmp_path, 7, state, {"obs_dim": 4})
    step, back = checkpoint.restore(tmp_path, make_state(0))
    assert step == 7
    assert_same(back, state)
    assert jax.random.bits(back.lane_keys[2]) == jax.random.bits(state.lane_keys[2])
    assert checkpoint.load_metadata(tmp_path) == {"obs_dim": 4}


def test_the_template_may_be_abstract(tmp_path):
    tree = {"key": jax.random.key(1, impl="rbg"), "x": jnp.ones(2), "none": None}
    checkpoint.save(tmp_path, 0, tree)
    _, back = checkpoint.restore(tmp_path, jax.eval_shape(lambda: tree))
    assert_same(back, tree)


def test_a_restored_state_can_be_donated_without_a_second_trace(tmp_path):
    traces = []

    @jax.jit
    def init():
        return {"w": jnp.zeros((4, 4)), "key": jax.random.key(5)}

    def advance(state):
        traces.append(1)
        return {"w": state["w"] + jnp.float32(1), "key": jax.random.split(state["key"], 1)[0]}

    advance = jax.jit(advance, donate_argnums=0)
    state = advance(init())
    checkpoint.save(tmp_path, 1, state)
    expected = advance(state)  # gives the saved buffers away
    _, back = checkpoint.restore(tmp_path, init())
    assert back["w"].committed == init()["w"].committed
    assert_same(advance(back), expected)
    assert len(traces) == 1


def test_a_bound_template_leaf_decides_the_device(tmp_path):
    checkpoint.save(tmp_path, 0, small(1))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    _, back = checkpoint.restore(tmp_path, jax.device_put(small(0), device))
    assert back["w"].committed and back["key"].sharding == device
    assert_same(back, small(1))


RESTORE_SHARDED = """
import sys
import jax, jax.numpy as jnp
from pgd_jax.runs import array_store, checkpoint
mesh = jax.sharding.Mesh(jax.devices(), ("lanes",))
sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("lanes"))
keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 8))
template = {
    "w": jax.ShapeDtypeStruct((8, 2), jnp.float32, sharding=sharding),
    "keys": jax.ShapeDtypeStruct(keys.shape, keys.dtype, sharding=sharding),
}
_, tree = checkpoint.restore(sys.argv[1], template)
for leaf in (tree["w"], jax.random.key_data(tree["keys"])):
    print(len(leaf.sharding.device_set), leaf.addressable_shards[3].data.tolist())
"""


def test_lanes_saved_on_one_device_come_back_on_four(tmp_path):
    keys = jax.random.split(jax.random.key(0), 8)
    checkpoint.save(tmp_path, 0, {"w": jnp.arange(16, dtype=jnp.float32).reshape(8, 2), "keys": keys})
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "4"}
    command = [sys.executable, "-c", RESTORE_SHARDED, tmp_path]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    # Device 3 of 4 holds lanes 6 and 7.
    assert output.splitlines() == [
        "4 [[12.0, 13.0], [14.0, 15.0]]",
        f"4 {jax.random.key_data(keys[6:]).tolist()}",
    ]


def test_the_newest_two_are_kept(tmp_path):
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, step, small(step))
    assert folders(tmp_path) == ["step_00000002", "step_00000010"]
    assert checkpoint.latest(tmp_path) == 10


def cut(folder):
    file = array_file(folder)
    os.truncate(file, file.stat().st_size // 2)


def flip(folder):
    file = array_file(folder)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "truncated": cut,
    "flipped bit": flip,
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "half a manifest": lambda folder: os.truncate(folder / "manifest.json", 40),
    "manifest of nulls": lambda folder: (folder / "manifest.json").write_text("null"),
    "file gone": lambda folder: array_file(folder).unlink(),
    "no tree.json": lambda folder: (folder / "tree.json").unlink(),
    "empty folder": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_falls_back_and_says_so(tmp_path, caplog, damage):
    for step in (4, 5):
        checkpoint.save(tmp_path, step, small(step), {"step": step})
    damage(tmp_path / "step_00000005")
    assert checkpoint.latest(tmp_path) == 4
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="absl"):
        step, back = checkpoint.restore(tmp_path, small(0))
    (warning,) = [record.getMessage() for record in caplog.records]
    assert str(tmp_path / "step_00000005") in warning
    assert any(reason in warning for reason in ("checksum", "missing", "cannot be read"))
    assert step == 4
    assert_same(back, small(4))
    assert checkpoint.load_metadata(tmp_path) == {"step": 4}
    checkpoint.save(tmp_path, 5, small(50))  # the damaged one is in the way
    assert checkpoint.restore(tmp_path, small(0))[0] == 5
    assert folders(tmp_path) == ["step_00000004", "step_00000005"]


def test_a_damaged_checkpoint_is_never_the_spare_one(tmp_path):
    for step in (4, 8):
        checkpoint.save(tmp_path, step, small(step))
    flip(tmp_path / "step_00000008")
    checkpoint.save(tmp_path, 6, small(6))  # resumed from 4 with shorter chunks; 8 is of a history left behind
    assert folders(tmp_path) == ["step_00000004", "step_00000006"]
    flip(tmp_path / "step_00000006")
    checkpoint.save(tmp_path, 9, small(9))
    assert folders(tmp_path) == ["step_00000004", "step_00000009"]


def test_no_whole_checkpoint_is_an_error(tmp_path):
    with pytest.raises(UserError, match="found none"):
        checkpoint.restore(tmp_path / "absent", small(0))
    assert checkpoint.latest(tmp_path / "absent") is None
    checkpoint.save(tmp_path, 3, small(3))
    flip(tmp_path / "step_00000003")
    with pytest.raises(UserError, match="step_00000003: .* does not match its checksum"):
        checkpoint.restore(tmp_path, small(0))
    assert checkpoint.latest(tmp_path) is None


def test_an_unfinished_save_is_invisible_and_cleared(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, small(1))

    def crash(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "_seal", crash)  # after orbax has written, before the manifest
        checkpoint.save(tmp_path, 2, small(2))
    assert folders(tmp_path) == ["step_00000001", f"step_00000002{checkpoint.PARTIAL}"]
    assert checkpoint.latest(tmp_path) == 1
    checkpoint.save(tmp_path, 2, small(22))
    assert folders(tmp_path) == ["step_00000001", "step_00000002"]
    assert_same(checkpoint.restore(tmp_path, small(0))[1], small(22))


ODD_NAMES = ["run[1]", "a\\b", "[!x]*?", "gs:", "a{b}%20#&'$(", 'x"\n|y']


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("depth", [0, 2])
def test_a_path_may_hold_any_characters(tmp_path, name, depth):
    directory = tmp_path / name / "/".join(["deeper"] * depth)
    for step in (1, 2):
        checkpoint.save(directory, step, small(step), {"step": step})
    step, back = checkpoint.restore(directory, small(0))
    assert step == 2 and checkpoint.load_metadata(directory) == {"step": 2}
    assert_same(back, small(2))
    assert folders(directory) == ["step_00000001", "step_00000002"]


def lose(path):
    """What orbax did below a path that it took for a pattern."""
    shutil.rmtree(path / "state" / "d")


def change(path):
    shutil.rmtree(path)
    array_store.ocp.save(path, {"['w']": np.zeros(3, np.float32), "['key']": np.zeros(2, np.uint32)})


# Orbax leaves coroutines behind where it fails, which the collector reports.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [lose, change, shutil.rmtree])
def test_nothing_is_committed_that_does_not_read_back(tmp_path, monkeypatch, damage):
    checkpoint.save(tmp_path, 1, small(1))
    save = array_store.save

    def damaged(path, arrays):
        save(path, arrays)
        damage(path)

    monkeypatch.setattr(array_store, "save", damaged)
    with pytest.raises(OSError, match=r"arrays was written and (cannot be read back|does not read back the same)"):
        checkpoint.save(tmp_path, 2, small(2))
    assert checkpoint.latest(tmp_path) == 1 and not (tmp_path / "step_00000002").exists()
    gc.collect()


def test_what_the_user_keeps_beside_the_checkpoints_stays(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, small(step))
    whole = tmp_path / "step_00000002"
    (tmp_path / "step_00000001.tar").write_text("mine")
    (tmp_path / "step_00000009").write_text("mine")
    for name in ("step_00000001.bak", "step_2", "step_00000002.partial", "step_2.replaced", "step_00000001_best"):
        shutil.copytree(whole, tmp_path / name)
    shutil.copytree(whole, tmp_path / "step_00000000")  # as if it were an older one, and
    shutil.copytree(whole, tmp_path / "step_00000099")  # as if it were the newest
    (tmp_path / "step_00000003").mkdir()
    (tmp_path / "step_00000003" / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert checkpoint.latest(tmp_path) == 2
    checkpoint.save(tmp_path, 3, small(3))
    checkpoint.save(tmp_path, 4, small(4))
    assert checkpoint.restore(tmp_path, small(0))[0] == 4
    gone = {path for path in before if not path.exists()}
    assert {path.relative_to(tmp_path).parts[0] for path in gone} == {
        "step_00000001", "step_00000002", "step_00000003",  # two of ours, and one that made place
    }  # fmt: skip
    assert (tmp_path / "step_00000003.aside-0" / "notes.txt").read_text() == "mine"
    assert all(path.read_bytes() == content for path, content in before.items() if path not in gone)


def test_a_manifest_from_elsewhere_leads_nowhere_else(tmp_path, monkeypatch):
    """Neither by a name nor by a link: nothing outside is opened, not even to be found wrong."""
    (tmp_path / "secret").write_text("secret")
    digest, opened, real = checkpoint._digest(tmp_path / "secret"), [], checkpoint._digest
    names = [str(tmp_path / "secret"), "../../secret", "arrays/../../../secret", "link"]
    monkeypatch.setattr(checkpoint, "_digest", lambda file: opened.append(file.resolve()) or real(file))
    for number, name in enumerate(names):
        directory = tmp_path / f"run{number}"
        checkpoint.save(directory, 1, small(1))
        folder = directory / "step_00000001"
        (folder / "link").symlink_to(tmp_path / "secret")
        manifest = json.loads((folder / "manifest.json").read_text()) | {name: digest}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        assert checkpoint.latest(directory) is None
    assert (tmp_path / "secret") not in opened


def test_another_tree_is_refused_naming_every_difference(tmp_path):
    checkpoint.save(tmp_path, 0, {"a": jnp.ones(2), "b": jnp.ones(3), "c": jnp.int32(1), "k": jax.random.key(0)})
    template = {"b": jnp.ones(4), "c": jnp.float32(1), "d": jnp.ones(1), "k": jnp.zeros(2, jnp.uint32)}
    with pytest.raises(UserError) as caught:
        checkpoint.restore(tmp_path, template)
    assert [line.strip() for line in str(caught.value).splitlines() if line.startswith("  ")] == [
        "dtype of ['c']: checkpoint has int32, program has float32",
        "dtype of ['k']: checkpoint has key<fry>, program has uint32",
        "missing in the checkpoint: ['d']",
        "shape of ['b']: checkpoint has [3], program has [4]",
        "shape of ['k']: checkpoint has [], program has [2]",
        "unexpected in the checkpoint: ['a']",
    ]


def test_what_cannot_be_stored_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match=r"\['lr'\] is a float"):
        checkpoint.save(tmp_path / "c", 0, {"lr": 0.1})
    with pytest.raises(TypeError, match="JSON"):
        checkpoint.save(tmp_path / "c", 0, {"w": jnp.ones(1)}, {"config": object()})
    assert not (tmp_path / "c").exists()


SAVE_FOREVER = """
import itertools, sys
import jax, jax.numpy as jnp
from pgd_jax.runs import array_store, checkpoint
for step in itertools.count(int(sys.argv[2])):
    checkpoint.save(sys.argv[1], step, {"w": jnp.full((20_000,), step, jnp.float32), "key": jax.random.key(step)})
    print(step, flush=True)
"""


def test_sigkill_at_any_time_leaves_the_last_committed_step(tmp_path):
    pause = random.Random(0)
    start = 1
    for _ in range(3):
        command = [sys.executable, "-c", SAVE_FOREVER, tmp_path, str(start)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as saver:
            assert saver.stdout.readline() == f"{start}\n"
            time.sleep(pause.uniform(0.2, 0.6))
            saver.kill()
            reported = [start, *map(int, saver.stdout.read().split())]
        template = {"w": jnp.zeros((20_000,)), "key": jax.random.key(0)}
        step, back = checkpoint.restore(tmp_path, template)
        assert step in (reported[-1], reported[-1] + 1)  # the commit may come just before its report
        assert_same(back, {"w": jnp.full((20_000,), step, jnp.float32), "key": jax.random.key(step)})
        start = step + 1


def test_a_run_with_damaged_checkpoints_alone_is_not_a_new_run(tmp_path):
    assert not checkpoint.exists(tmp_path / "none")
    checkpoint.save(tmp_path, 1, {"x": jnp.ones(3)})
    next(tmp_path.glob("step_*/manifest.json")).unlink()
    assert checkpoint.exists(tmp_path)
    with pytest.raises(UserError, match="only damaged ones"):
        checkpoint.restore(tmp_path, {"x": jnp.ones(3)})
