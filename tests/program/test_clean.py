"""No NaN anywhere on the way and no key used twice, on one lane with either agent and every rule of guidance."""

import functools

import chex
import jax
import jax.numpy as jnp
import pytest

from pgd_jax.train import loop
from tests import quickly, worlds

CASES = [
    ("td3_bc", "proximal", "churned_heun", 0, True),
    ("td3_bc", "paper", "euler", 0, False),
    ("iql", "score", "ancestral", 2, False),
    ("iql", "jacobian", "dpmpp_2m_sde", 0, False),
    ("td3_bc", "proximal", "twisted", 0, False),
]


def run_lane(world, num_phases):
    """The phases of lane 0 without the vmap: JAX's checker takes every vmapped scan over keys for a reuse of them."""
    state, hyper = jax.tree.map(lambda leaf: leaf[0], (world.init(), world.lanes.hypers))
    step = functools.partial(loop.phase, world.program)

    @quickly.jit
    def run(state, hyper, shared):
        return jax.lax.scan(lambda state, _: step(hyper, shared, state), state, None, length=num_phases)

    with jax.debug_nans(True), jax.debug_key_reuse(True):
        return jax.block_until_ready(run(state, hyper, world.shared))


@pytest.mark.parametrize(("agent", "rule", "sampler", "warm_steps", "evaluated"), CASES)
def test_no_nan_and_no_key_used_twice(agent, rule, sampler, warm_steps, evaluated):
    sampling = dict(sampler=sampler, guidance=rule, warm_steps=warm_steps, num_particles=2)
    world = worlds.build(worlds.agent_config(sampling, agent=agent, num_seeds=1, hyper={"guidance_coefficient": 3}))
    env = world.program.env if evaluated else None
    state, results = run_lane(world._replace(program=world.program._replace(env=env)), 2)
    chex.assert_tree_all_finite((state.agent, results))
    assert int(state.phase) == 2


def twice(key):
    return jax.random.normal(key) + jax.random.uniform(key)


def not_a_number(key):
    return jnp.log(-jax.random.uniform(key))


@pytest.mark.parametrize(("faulty", "message"), [(twice, "already consumed"), (not_a_number, "nan")])
def test_the_checks_see_a_fault(faulty, message):
    """In the update of an agent that does nothing else."""
    world = worlds.build(worlds.agent_config(num_seeds=1, hyper={}, synthetic_per_batch=0))
    stub = world.program.agent._replace(
        init=lambda key, hyper: jnp.zeros(()), update=lambda key, state, batches, hyper: (state + faulty(key), {})
    )
    program = world.program._replace(agent=stub, env=None, generator=None)
    with pytest.raises(Exception, match=message):
        run_lane(world._replace(program=program), 1)
