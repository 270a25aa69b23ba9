"""A program read from disk is the one that was compiled: the same bits, and donated states are given up as before.

Of updates alone, which compile in seconds. Guided programs: test_resume.py, whose processes share what they compile.
"""

import chex
import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests import worlds

NUM_CHUNKS = 3
SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def agents():
    """A world that generates and evaluates nothing, and its first states."""
    world = worlds.build(worlds.agent_config(num_seeds=1, synthetic_per_batch=0))
    world = world._replace(program=world.program._replace(env=None))
    return world, world.init()


@pytest.fixture
def events(agents, tmp_path):
    """What JAX tells of its cache: with `agents` made, an empty one that keeps every program."""
    before, found = [getattr(jax.config, name) for name in SETTINGS], []

    def listen(event, **_):
        found.append(event.rpartition("/")[2])

    configure(str(tmp_path), 0.0)
    jax.monitoring.register_event_listener(listen)
    yield found
    jax.monitoring.unregister_event_listener(listen)
    configure(*before)


def configure(*values):
    for name, value in zip(SETTINGS, values, strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    jax.clear_caches()  # or what this process has compiled already would be used


def run(world, initial):
    """The last states and all metrics of a few chunks, each taking over the memory of the states before."""
    states, found = jax.tree.map(jnp.copy, initial), []
    for _ in range(NUM_CHUNKS):
        given = jax.tree.leaves(states)
        states, metrics = world.run(1, states)
        found.append(jax.device_get(metrics))
        assert all(leaf.is_deleted() for leaf in given)
    return jax.device_get((states.replace(key=jax.random.key_data(states.key)), found))


def test_the_bits_of_a_fresh_program(agents, events, tmp_path):
    fresh = run(*agents)
    assert "cache_hits" not in events and list(tmp_path.glob("jit_run_chunk-*"))
    events.clear()
    jax.clear_caches()
    read = run(*agents)
    assert "cache_misses" not in events and "cache_hits" in events
    chex.assert_trees_all_equal(read, fresh)
