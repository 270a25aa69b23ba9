"""Streams of episodes against a counting environment, and how their recording is put together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.envs.base import EvalEnv
from pgd_jax.runs.collect import online, parts, streams

HORIZON = 4


def counting(length=100, horizon=HORIZON):
    """Counts from 0; terminal when it reaches `length`. The simulator's position is ten times the count."""

    def step(key, state, action):
        return jnp.array([1.0]) * (state + 1), state + 1, action[0] + 0.0, state + 1 >= length

    return EvalEnv(
        "counting", 1, 1, horizon, lambda key: (jnp.zeros(1), jnp.float32(0.0)), step, None,
        simulator=lambda state: (10.0 * state[None], -state[None]),
    )  # fmt: skip


def record(env, num_steps, num_streams=2):
    def step(running, key):
        action = jnp.full((num_streams, 1), 0.5)
        return streams.step(env, key, running, action, jnp.zeros(num_streams))

    keys = jax.random.split(jax.random.key(1), num_steps)
    rows = jax.lax.scan(step, streams.start(env, jax.random.key(0), num_streams), keys)[1]
    return jax.tree.map(np.asarray, rows)


def test_a_time_limit_ends_an_episode_and_is_no_terminal():
    rows = record(counting(), 10)
    np.testing.assert_array_equal(rows.observations[:, 0, 0], [0, 1, 2, 3, 0, 1, 2, 3, 0, 1])
    np.testing.assert_array_equal(rows.next_observations[:, 1, 0], [1, 2, 3, 4, 1, 2, 3, 4, 1, 2])  # not the reset's
    np.testing.assert_array_equal(np.flatnonzero(rows.timeouts[:, 0]), [3, 7])
    assert not rows.terminals.any() and not online.transitions(rows).terminal.any()
    np.testing.assert_array_equal(rows.qpos, 10.0 * rows.observations)  # before the step
    np.testing.assert_array_equal(rows.qvel, -rows.observations)


def test_a_terminal_at_the_limit_is_a_terminal():
    for length, ends in ((HORIZON, [3, 7]), (3, [2, 5, 8])):
        rows = record(counting(length), 9)
        np.testing.assert_array_equal(np.flatnonzero(rows.terminals[:, 0]), ends)
        assert not rows.timeouts.any()
        np.testing.assert_array_equal(online.transitions(rows).terminal, rows.terminals)


def test_episodes_of_other_lengths_go_on_while_one_begins_anew():
    env = counting()
    states = streams.Streams(jnp.array([[2.0], [0.0]]), jnp.array([2.0, 0.0]), jnp.array([3, 0]))
    after, rows = streams.step(env, jax.random.key(0), states, jnp.zeros((2, 1)), jnp.zeros(2))
    np.testing.assert_array_equal(after.obs, [[0.0], [1.0]])
    np.testing.assert_array_equal(after.elapsed, [0, 1])
    np.testing.assert_array_equal(rows.timeouts, [True, False])


@pytest.fixture
def recording(tmp_path):
    """30 steps of 2 streams in 3 parts; rewards number them: stream 0 has 0, 1, 2, ..., stream 1 100, 101, ..."""
    rows = record(counting(length=3), 30)
    rows = rows._replace(rewards=np.arange(30.0, dtype=np.float32)[:, None] + np.float32([0.0, 100.0]))
    for index in range(3):
        parts.write(tmp_path, index, streams.Rows(*(array[10 * index : 10 * (index + 1)] for array in rows)))
    return tmp_path


def test_parts_are_joined_stream_after_stream(recording):
    whole = parts.join(recording, range(3), 1000, from_end=False)
    np.testing.assert_array_equal(whole.rewards, [*range(30), *range(100, 130)])
    assert [array.shape[1:] for array in whole] == [(1,), (1,), (), (1,), (), (), (), (1,), (1,)]
    # 30 steps are ten episodes of three: both seams are terminals already.
    np.testing.assert_array_equal(np.flatnonzero(whole.terminals), np.arange(2, 60, 3))
    assert not whole.timeouts.any()


def test_a_cut_within_an_episode_is_a_timeout(recording):
    first = parts.join(recording, range(3), 25, from_end=False)  # 13 steps of a stream, and 12 of the other
    np.testing.assert_array_equal(first.rewards, [*range(13), *range(100, 112)])
    np.testing.assert_array_equal(np.flatnonzero(first.timeouts), [12])
    assert first.terminals[24]
    last = parts.join(recording, range(3), 22, from_end=True)
    np.testing.assert_array_equal(last.rewards, [*range(19, 30), *range(119, 130)])
    np.testing.assert_array_equal(parts.join(recording, range(2), 4, from_end=True).rewards, [18, 19, 118, 119])


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_part_is_named(recording, damage):
    path = parts.path_of(recording, 1)
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[:500])
    elif damage == "flipped":
        content[200] ^= 255  # within the first array
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"part_00000001\.npz is missing or damaged"):
        parts.join(recording, range(3), 1000, from_end=False)


def test_half_written_parts_are_removed(recording):
    folder = recording / parts.FOLDER
    leftover = folder / "part_00000003.npz.pgd_jax-node-123.part"
    mine = [folder / name for name in ("part_00000003.npz.123.part", "part_best.npz.pgd_jax-node-1.part", "mine.part")]
    for file in (leftover, *mine):
        file.write_bytes(b"half")
    parts.clean(recording)
    assert not leftover.exists() and parts.path_of(recording, 2).exists() and all(file.exists() for file in mine)
