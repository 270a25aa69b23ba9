"""Every agent's update against a transcription of its paper in float64: from the same parameters, batches and noise.

The library computes in float32. What rounding explains after many updates is measured: by the transcription itself,
started as far off as float32 rounds.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax import agents  # noqa: F401 (registers the agents)
from pgd_jax.agents import adam
from pgd_jax.agents.base import AGENTS
from pgd_jax.core.types import Transition
from tests.parity import soft, transcriptions
from tests.parity.networks import Net

OBS_DIM, ACTION_DIM, BATCH, NUM_UPDATES = 3, 2, 32, 50
ROUNDING = 6e-8  # of float32, relative
COUNT = 20  # Adam's: its first step is about the sign of a gradient alone, which rounding turns

# What an agent's key becomes; a new agent adds its line where it draws anything.
NOISE = {
    "td3_bc": lambda key, shape: {"target": jax.random.normal(key, shape)},
    "awac": lambda key, shape: {
        name: jax.random.normal(part, shape[1:])
        for name, part in zip(("critic", "actor"), jax.random.split(key), strict=True)
    },
}


def proposals_and(key, shape):
    """CQL's own draws, and those of SAC."""
    key_critic, key_actor = jax.random.split(key)
    key_target, key_proposals = jax.random.split(key_critic)
    several, parts = (10, *shape[1:]), jax.random.split(key_proposals, 3)
    normal = {name: jax.random.normal(part, several) for name, part in zip(("obs", "next_obs"), parts[1:], strict=True)}
    uniform = jax.random.uniform(parts[0], several, minval=-1.0, maxval=1.0)
    own = {name: jax.random.normal(part, shape[1:]) for name, part in (("critic", key_target), ("actor", key_actor))}
    return own | normal | {"uniform": uniform}


NOISE |= {"sac_n": NOISE["awac"], "edac": NOISE["awac"], "cql": proposals_and}
NOISE |= {"rebrac": NOISE["td3_bc"], "td3_awr": NOISE["td3_bc"]}
FASTER = {
    "iql": {"actor_decay_updates": 100.0},
    "iql_deterministic": {"actor_decay_updates": 100.0},
}  # so as to be seen


@functools.cache
def case(name):
    """(agent, floats, a state in the middle of training, batches [U, K, B, ...], keys [U])."""
    family = AGENTS.get(name)
    agent = family.build(OBS_DIM, ACTION_DIM, dataclasses.replace(family.plan, hidden_dim=16, num_hidden=2))
    hyper = family.hyper().replace(**FASTER.get(name, {}))
    draw = np.random.default_rng(3)  # numpy's: each of JAX's draws would be compiled by itself
    key, *keys = jax.random.split(jax.random.key(3), 1 + NUM_UPDATES)
    state = trained(draw, jax.device_get(jax.jit(agent.init)(key, hyper)))
    shape = (NUM_UPDATES, agent.batches_per_update, BATCH)
    obs, next_obs = draw.standard_normal((2, *shape, OBS_DIM))
    # Datasets hold actions of exactly -1 and 1.
    action, next_action = np.clip(1.5 * draw.standard_normal((2, *shape, ACTION_DIM)), -1.0, 1.0)
    columns = (obs, action, draw.standard_normal(shape), next_obs, draw.uniform(size=shape) < 0.2)
    columns += (next_action,) if agent.needs_next_action else ()
    batches = Transition(*(np.asarray(column, np.float32) for column in columns))
    return agent, hyper, state, batches, jnp.stack(keys)


def trained(draw, state):
    """With larger weights, targets of their own, and moments that no single gradient decides."""

    def normal(tree):
        return jax.tree.map(lambda leaf: draw.standard_normal(leaf.shape).astype(np.float32), tree)

    def network(part):
        if not isinstance(part, adam.Trained):
            return jax.tree.map(lambda p, n: p + np.float32(0.1) * n, part, normal(part))
        mu = jax.tree.map(lambda n: np.float32(0.1) * n, normal(part.params))
        nu = jax.tree.map(lambda n: np.float32(0.001) * (1 + n**2), normal(part.params))
        moments = part.moments._replace(count=np.int32(COUNT), mu=mu, nu=nu)
        return adam.Trained(jax.tree.map(lambda p, n: p + np.float32(0.2) * n, part.params, normal(mu)), moments)

    return jax.tree.map(network, state, is_leaf=lambda part: isinstance(part, adam.Trained))


def nets(state):
    """A state's networks as the transcriptions have them, numpy's float64."""
    if isinstance(state, adam.Trained):
        return {"actor": net(state)}
    found = {}
    for field in dataclasses.fields(state):
        part = getattr(state, field.name)
        found |= nets(part) if dataclasses.is_dataclass(part) and field.name == "td3" else {field.name: net(part)}
    return found


def net(part):
    double = functools.partial(jax.tree.map, lambda leaf: np.asarray(leaf, np.float64))
    if not isinstance(part, adam.Trained):
        return Net(double(part))
    return Net(*map(double, (part.params, part.moments.mu, part.moments.nu)), t=np.float64(part.moments.count))


def noise_of(name, keys, shape):
    return jax.jit(jax.vmap(lambda key: NOISE[name](key, shape)))(keys) if name in NOISE else {}


@functools.cache
def expected(name, factor=0.0):
    """The networks after the first update and the last, by the transcription, from parameters off by `factor`."""
    agent, hyper, state, batches, keys = case(name)
    draws = noise_of(name, keys, batches.action.shape[1:])
    draw = np.random.default_rng(0)
    now = jax.tree.map(lambda leaf: leaf * (1.0 + factor * draw.standard_normal(np.shape(leaf))), nets(state))
    rows = {key: x for key, x in batches._asdict().items() if x is not None}
    rows, draws = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (rows, draws))
    after, step = [], getattr(transcriptions, name, None) or getattr(soft, name)
    for i in range(NUM_UPDATES):
        several = [{key: x[i, k] for key, x in rows.items()} for k in range(agent.batches_per_update)]
        noise = {key: x[i] for key, x in draws.items()}
        now = step(now, several, noise, vars(hyper))
        after.append(now)
    return after[0], after[-1]


@functools.cache
def found(name):
    """Likewise by the library."""
    agent, hyper, state, batches, keys = case(name)

    def update(state, item):
        state, _ = agent.update(item[0], state, item[1], hyper)
        return state, state

    states = jax.device_get(jax.jit(lambda *items: jax.lax.scan(update, items[0], items[1:])[1])(state, keys, batches))
    return [nets(jax.tree.map(lambda leaf: leaf[i], states)) for i in (0, NUM_UPDATES - 1)]


def distance(ours, theirs):
    """Of the farthest parameters, over all networks."""
    of_each = jax.tree.map(lambda a, b: np.abs(a - b).max(), [n.theta for n in ours.values()],
                           [theirs[name].theta for name in ours])  # fmt: skip
    return max(jax.tree.leaves(of_each))


@pytest.mark.parametrize("name", AGENTS.names())
def test_one_update_is_the_paper_s(name):
    ours, theirs = found(name)[0], expected(name)[0]
    assert ours.keys() == theirs.keys()
    assert distance(ours, theirs) < 1e-6
    assert distance(ours, nets(case(name)[2])) > 1e-4  # there was something to agree on


@pytest.mark.parametrize("name", AGENTS.names())
def test_many_updates_stay_as_near_as_rounding_lets_them(name):
    theirs = expected(name)[1]
    by_rounding = distance(expected(name, ROUNDING)[1], theirs)
    assert distance(found(name)[1], theirs) < 20.0 * by_rounding < 1e-4
