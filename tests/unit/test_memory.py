"""Files larger than a part of memory: block by block, estimated from shapes, refused before they are read."""

import tracemalloc
import types

import h5py
import jax
import numpy as np
import pytest

from pgd_jax.core import memory
from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Layout
from pgd_jax.data import columns, episodes, loading, normalizer as normalizers
from pgd_jax.data.base import Reading
from tests.d4rl_files import content, write


@pytest.mark.parametrize("storage", [{}, {"chunks": True, "compression": "gzip"}])
def test_a_read_takes_the_float32_arrays_and_a_block(tmp_path, monkeypatch, storage):
    """6.7 MB in float64, 3.4 in float32, blocks of 128 kB; infos are never touched."""
    monkeypatch.setattr(columns, "BLOCK_BYTES", 1 << 17)
    arrays = content(40_000, 17, 3) | {"infos/qpos": np.zeros((40_000, 40))}
    path = write(tmp_path / "large.hdf5", arrays, **storage)
    kept = 40_000 * (4 * (17 + 3 + 1) + 2)
    loading.load(path)
    tracemalloc.start()
    raw = loading.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(raw.observations, np.float32(arrays["observations"]))
    np.testing.assert_array_equal(raw.actions, np.float32(arrays["actions"]))
    assert kept <= peak < kept + 1.2e6 < 8 * 40_000 * 21


def test_blocks_are_whole_chunks_and_cover_every_row_once(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "BLOCK_BYTES", 1000)
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        array = file.create_dataset("x", shape=(1005, 2), dtype="f8", chunks=(25, 1))
        plain = file.create_dataset("plain", shape=(10, 200), dtype="f8")
        found = list(columns.blocks(array, 1005))  # 16 bytes a row: 62 rows fit, two chunks of 25
        assert [block.start for block in found] == list(range(0, 1005, 50)) and found[-1].stop == 1005
        assert [block.stop for block in columns.blocks(plain, 3)] == [1, 2, 3]


def test_the_estimate_holds_what_is_made_of_a_dataset(tmp_path):
    """By hand, for 1,000 rows of 5 + 2 + 2 columns; and at least what the arrays themselves take."""
    arrays = content(1000, 5, 2, next_observations=np.arange(5000.0).reshape(1000, 5))
    raw = loading.load(write(tmp_path / "x.hdf5", arrays))
    need = memory.estimate(1000, 5, 2, has_next=True)
    assert need == (1000 * (4 * (5 + 5 + 2 + 1) + 2 + 4 * (5 + 2 + 1 + 5 + 1)), 1000 * 2 * 4 * 9)
    assert memory.estimate(1000, 5, 2, has_next=False).host == need.host - 1000 * 4 * 5
    as_read = sum(array.nbytes for array in vars(raw).values() if isinstance(array, np.ndarray))
    rows = episodes.rows(raw)
    normalizer = normalizers.fit(rows, Layout(5, 2))
    taken = episodes.transitions(raw, episodes.segments(raw), normalizer)
    transitions = sum(leaf.nbytes for leaf in jax.tree.leaves(taken))
    assert as_read + max(rows.nbytes, transitions) <= need.host < as_read + 1.01 * transitions + 56
    assert max(2 * rows.nbytes, transitions) == need.device


def peak_of(function, *arguments):
    """(what it returns, the most bytes that its arrays took on the host)"""
    tracemalloc.start()
    result = function(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, peak


@pytest.mark.parametrize("has_next", [False, True])
def test_what_is_made_of_a_dataset_is_made_block_by_block(monkeypatch, tmp_path, has_next):
    """Rows take 5.3 MB, transitions 9.9; blocks of 256 rows 70 kB in float64, row numbers and flags 1.3 MB."""
    monkeypatch.setattr(normalizers, "ROWS_PER_BLOCK", 256)
    monkeypatch.setattr(episodes, "ROWS_PER_BLOCK", 256)
    arrays = content(40_000, 29, 2)
    if has_next:
        arrays["next_observations"] = arrays["observations"] + 29.0
    raw = loading.load(write(tmp_path / "x.hdf5", arrays))
    rows, pieces = episodes.rows(raw), episodes.segments(raw)
    normalizer, peak = peak_of(normalizers.fit, rows, Layout(29, 2))
    assert peak < 0.1 * rows.nbytes
    columns_ = rows.astype(np.float64)
    columns_[:, 29:31] = np.arctanh(np.clip(columns_[:, 29:31], -0.999, 0.999))
    np.testing.assert_allclose(normalizer.mean, columns_.mean(axis=0), rtol=1e-6)
    std = columns_.std(axis=0)
    std[-1] = max(std[-1], normalizers.TERMINAL_STD_FLOOR)
    np.testing.assert_allclose(normalizer.std, std, rtol=1e-6)
    made, peak = peak_of(episodes.transitions, raw, pieces, normalizer)
    assert peak < sum(leaf.nbytes for leaf in jax.tree.leaves(made)) + 1.8e6
    np.testing.assert_array_equal(
        made.obs[:1000], normalizers.encode_obs(jax.device_get(normalizer), raw.observations[:1000])
    )
    following = jax.device_get(normalizer).mean[:29] + made.next_obs[4:100] * jax.device_get(normalizer).std[:29]
    np.testing.assert_allclose(following, raw.observations[5:101], rtol=1e-5, atol=0.1)


def test_what_does_not_fit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "large.hdf5", content(1000, 5, 2))
    need = sum(memory.estimate(1000, 5, 2, has_next=False))  # this backend's device is the host
    monkeypatch.setattr(memory, "available", lambda: memory.Bytes(0.5 * need, 0.5 * need))
    monkeypatch.setattr(columns, "read", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError, match=r"large\.hdf5: 1000 rows take about .* GB.*max_rows=450$"):
        loading.load(path)
    monkeypatch.undo()
    assert len(loading.load(path, reading=Reading(max_rows=450)).rewards) == 450


def test_a_small_accelerator_counts_apart(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    need = memory.estimate(1000, 5, 2, has_next=False)
    monkeypatch.setattr(memory, "available", lambda: memory.Bytes(need.host, 0.2 * need.device))
    with pytest.raises(UserError, match=r"GB on the host and .* GB on the device; free are .*max_rows=180$"):
        memory.require("x", 1000, 5, 2, has_next=False)
    monkeypatch.setattr(memory, "available", lambda: need)
    memory.require("x", 1000, 5, 2, has_next=False)


def test_a_large_estimate_is_said(capfd, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: memory.Bytes(1e12, 1e12))
    memory.require("small", 1000, 11, 3, has_next=True)
    assert capfd.readouterr().err == ""
    # Rows of 25 columns: as read 4 * (2 * 17 + 6 + 1) + 2, transitions 4 * (2 * 17 + 6 + 2), on the device 8 * 25.
    memory.require("large", 2_000_000, 17, 6, has_next=True)
    assert capfd.readouterr().err == "large: 2000000 rows take about 1.07 GB\n"


def test_free_memory_is_what_the_system_and_the_control_group_allow(tmp_path, monkeypatch):
    meminfo, group = tmp_path / "meminfo", tmp_path / "cgroup"
    monkeypatch.setattr(memory, "MEMINFO", meminfo)
    monkeypatch.setattr(memory, "CGROUP", group)
    assert memory.available() == (float("inf"), float("inf"))
    meminfo.write_text("MemTotal:  9000 kB\nMemAvailable:  5000 kB\nHugePages_Total: 0\n")
    assert memory.available().host == 5000 * 1024
    group.mkdir()
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("123\n")
    assert memory.available().host == 5000 * 1024
    (group / "memory.max").write_text("3000000\n")
    (group / "memory.current").write_text("1000000\n")
    (group / "memory.stat").write_text("anon 7\ninactive_file 50000\n")
    assert memory.available().host == 2_050_000
    (group / "memory.current").write_text("9000000\n")
    assert memory.available().host == 0.0, "more is used than allowed"


def test_an_accelerator_that_is_overfull_has_nothing_free(monkeypatch):
    stats = {"bytes_limit": 1000, "bytes_in_use": 1001}
    monkeypatch.setattr(jax, "local_devices", lambda: [types.SimpleNamespace(memory_stats=lambda: stats)])
    assert memory.available().device == 0.0


@pytest.mark.parametrize(
    ("free", "advice"), [(0.0, "not even one row"), (175.0, "not even one row"), (185.0, "read fewer, max_rows=1")]
)
def test_advice_is_never_no_rows_at_all(monkeypatch, free, advice):
    """A row takes 90 bytes on the host and 72 on the device, here 162 together; a tenth of what is free stays so."""
    monkeypatch.setattr(memory, "available", lambda: memory.Bytes(free, free))
    with pytest.raises(UserError, match=rf"1000 rows take .*; free are .* GB; .*{advice}") as caught:
        memory.require("x", 1000, 5, 2, has_next=False)
    assert "max_rows=0" not in str(caught.value) and "-" not in str(caught.value).replace("e-", "")
