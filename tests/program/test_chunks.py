"""A run is one compiled program, in as many calls as one likes."""

import chex
import jax
import numpy as np
import pytest

from pgd_jax.runs import metrics
from pgd_jax.train import loop

NUM_PHASES = 4


def test_a_run_of_many_chunks_traces_and_compiles_once(undisturbed):
    """A weakly typed carry costs a second trace of a scan's body, a weakly typed first state one of chunk two."""
    assert undisturbed.num_traces == 1
    assert undisturbed.num_compilations == 1
    rows = metrics.read(undisturbed.path / "metrics.jsonl")
    expected = [(phase, lane) for phase in range(undisturbed.config.num_phases) for lane in (0, 1)]
    assert [(row["phase"], row["lane"]) for row in rows] == expected


def in_chunks(world, phases_per_chunk):
    states, pieces = world.init(), []
    for _ in range(NUM_PHASES // phases_per_chunk):
        states, piece = world.run(phases_per_chunk, states)
        pieces.append(jax.device_get(piece))
    return states, {name: np.concatenate([piece[name] for piece in pieces], axis=1) for name in pieces[0]}


@pytest.fixture(scope="module")
def whole(world):
    return in_chunks(world, NUM_PHASES)


# Of the program as users have it: at XLA's lowest optimisation, as `make test` compiles, a chunk is fused otherwise.
@pytest.mark.slow
@pytest.mark.parametrize("phases_per_chunk", [1, 2])
def test_chunks_give_the_bits_of_the_whole(world, whole, phases_per_chunk):
    states, results = in_chunks(world, phases_per_chunk)
    chex.assert_trees_all_equal(key_data(states), key_data(whole[0]))
    chex.assert_trees_all_equal(results, whole[1])
    # Every lane and phase has its own, but for the two seeds' first phases, which are unguided in both of their lanes.
    assert np.unique(results["critic_loss"]).size == 4 * NUM_PHASES - 2


def key_data(states: loop.LaneState) -> loop.LaneState:
    return states.replace(key=jax.random.key_data(states.key))


def test_the_second_call_transfers_nothing_implicitly(world):
    states, _ = world.run(1, world.init())
    with jax.transfer_guard("disallow"):
        states, results = world.run(1, states)
    assert jax.device_get(states.phase).tolist() == [2, 2, 2, 2]


def test_the_guard_sees_a_transfer(world):
    """On this platform too: a host array among the arguments is refused."""
    hypers = jax.tree.map(np.asarray, world.lanes.hypers)
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match="[Dd]isallowed"):
        loop.run_chunk(world.program, 1, world.init(), hypers, world.shared)
