"""What every registered generator must keep: shapes, purity, lanes, and measures of each of its positions."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax import generators  # noqa: F401 (registers the generators)
from pgd_jax.core import devices, hyper as floats
from pgd_jax.envs.base import ENVS
from pgd_jax.generators import ensemble
from pgd_jax.generators.base import GENERATORS, Guide, describe
from tests import worlds

CONFIGS = {"diffusion": worlds.AGENT_CONFIG, "ensemble": worlds.ENSEMBLE}
LENGTHS = {"diffusion": worlds.WINDOW, "ensemble": worlds.ENSEMBLE.rollout.horizon}


def log_prob(obs, action):
    return -0.5 * jnp.sum((action - 0.3 * jnp.tanh(obs[..., :1])) ** 2, axis=-1)


def guide(phase):
    return Guide(log_prob, lambda obs: 0.3 * jnp.tanh(obs[..., :1]), phase)


class Case:
    """A generator of the smallest sizes, its lanes' floats, and its compiled functions."""

    def __init__(self, name):
        self.name, world = name, worlds.build(dataclasses.replace(CONFIGS[name], num_seeds=1))
        self.generator, self.hypers = world.program.generator, world.lanes.hypers.generator
        self.model, self.normalizer = world.shared.model, world.shared.normalizer
        self.num_traces = 0
        self.one = jax.jit(self._one)
        self.lanes = jax.jit(jax.vmap(functools.partial(self._one, mesh=None), in_axes=(None, 0, None, None)))

    def _one(self, key, hyper, model, phase, mesh=None):
        self.num_traces += 1
        state = self.generator.init(key, hyper, model, self.normalizer)
        return self.generator.generate(key, state, guide(phase), hyper, model, self.normalizer, mesh)

    def hyper(self, lane):
        return jax.tree.map(lambda leaf: leaf[lane], self.hypers)

    def run(self, key, lane=1, phase=1):
        return self.one(key, self.hyper(lane), self.model, jnp.int32(phase))[1]


@pytest.fixture(params=GENERATORS.names(), scope="module")
def case(request):
    return Case(request.param)


def test_each_float_is_one_has_help_and_lies_in_its_range(case):
    hyper = GENERATORS.get(case.name).hyper()
    assert {type(leaf) for leaf in jax.tree.leaves(hyper)} == {float}
    assert all(text for _, _, text in floats.described(hyper))
    floats.values(hyper, {name: default for name, default, _ in floats.described(hyper)})


def test_a_phase_has_the_rows_that_it_says(case, key):
    made, generator = case.run(key), case.generator
    num_rows = generator.num_windows * generator.window_length
    assert generator.window_length == LENGTHS[case.name] and generator.num_windows == 8
    layout, rows = worlds.LAYOUT, made.transition
    shapes = [(num_rows, layout.obs_dim), (num_rows, layout.action_dim), (num_rows,), (num_rows, layout.obs_dim)]
    assert [leaf.shape for leaf in rows[:5]] == [*shapes, (num_rows,)]
    assert rows.next_action is None or rows.next_action.shape == rows.action.shape
    leaves = jax.tree.leaves(rows)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")} and made.valid.dtype == bool
    assert all(np.isfinite(leaf).all() for leaf in leaves) and np.abs(rows.action).max() <= 1.0
    assert set(np.unique(rows.terminal)) <= {0.0, 1.0}
    num_valid = int(made.num_valid)
    assert 1 <= num_valid == made.valid.sum() and made.order.dtype == jnp.int32
    assert made.valid[made.order[:num_valid]].all() and np.unique(made.order[:num_valid]).size == num_valid


def test_valid_rows_follow_one_another(case, key):
    """A row's next obs and action are the next row's; nothing is valid after a terminal; the first row always is."""
    made, length = case.run(key), case.generator.window_length
    rows, valid = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(8, length, *leaf.shape[1:]), made[:2])
    follows = valid[:, 1:] & valid[:, :-1]
    assert follows.any()
    np.testing.assert_array_equal(rows.next_obs[:, :-1][follows], rows.obs[:, 1:][follows])
    if rows.next_action is not None:
        np.testing.assert_array_equal(rows.next_action[:, :-1][follows], rows.action[:, 1:][follows])
    assert not (valid[:, 1:] & (np.cumsum(rows.terminal, axis=1)[:, :-1] > 0.0)).any()
    assert valid[:, 0].all()
    if case.generator.is_whole:
        alive = np.cumsum(rows.terminal, axis=1) - rows.terminal == 0.0
        np.testing.assert_array_equal(valid, alive)


def test_rollouts_act_once_more_where_the_agent_learns_from_the_next_action(key):
    """The last row's too: the policy acts at where it led."""
    made, world = {}, worlds.build(worlds.ENSEMBLE)
    hyper = jax.tree.map(lambda leaf: leaf[0], world.lanes.hypers.generator)
    for has_next in (False, True):
        plan = world.program.generator.plan._replace(has_next_action=has_next, is_exploring=False)
        made[has_next], _ = jax.jit(functools.partial(ensemble.sample, plan, policy=guide(1).act))(
            key, hyper=hyper, model=world.shared.model, normalizer=world.shared.normalizer
        )
    rows = made[True]
    chex.assert_trees_all_equal(made[False], rows._replace(next_action=None))
    goes_on = np.asarray(rows.terminal[:, :-1] == 0.0)
    np.testing.assert_array_equal(rows.next_action[:, :-1][goes_on], rows.action[:, 1:][goes_on])
    np.testing.assert_allclose(rows.next_action[:, -1], guide(1).act(rows.next_obs[:, -1]), atol=1e-6)


def test_the_same_key_gives_the_same_and_another_another(case, key):
    first, again, other = case.run(key), case.run(key), case.run(jax.random.key(1))
    chex.assert_trees_all_equal(first, again)
    assert not np.array_equal(first.transition.obs, other.transition.obs)


def test_a_second_phase_does_not_trace_again(case, key):
    case.run(key, phase=0)
    before = case.num_traces
    case.run(jax.random.key(5), lane=0, phase=7)
    assert case.num_traces == before


def test_the_state_keeps_shapes_and_strong_types(case, key):
    hyper = case.hyper(0)
    state = jax.eval_shape(case.generator.init, key, hyper, case.model, case.normalizer)
    generate = functools.partial(case.generator.generate, guide=guide(jnp.int32(1)))
    carried, made = jax.eval_shape(
        lambda key, state: generate(key, state, hyper=hyper, model=case.model, normalizer=case.normalizer), key, state
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(state, carried)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((state, carried, made)))


def test_lanes_are_as_alone_and_equal_lanes_equal_to_the_bit(case, key):
    several = jax.tree.map(lambda leaf: jnp.stack([leaf[0], leaf[1], leaf[1]]), case.hypers)
    made = case.lanes(key, several, case.model, jnp.int32(1))[1]
    for lane, of in ((0, 0), (1, 1)):
        mine = jax.tree.map(lambda leaf: leaf[lane], made)
        chex.assert_trees_all_close(mine.transition, case.run(key, of).transition, rtol=2e-4, atol=2e-4)
    chex.assert_trees_all_equal(*(jax.tree.map(lambda leaf: leaf[lane], made) for lane in (1, 2)))
    assert not np.array_equal(made.transition.reward[0], made.transition.reward[1])


@pytest.mark.skipif(len(jax.devices()) < 2, reason="needs two devices")
def test_devices_share_the_batches_of_a_phase(case, key):
    mesh = devices.mesh_of("windows=2", 1, case.generator.num_batches)
    divided = devices.on_each(functools.partial(case._one, mesh=mesh), mesh)
    made = jax.jit(divided)(key, case.hyper(1), case.model, jnp.int32(1))[1]
    chex.assert_trees_all_close(made, case.run(key), rtol=1e-4, atol=1e-4)


def test_measures_are_of_each_position_that_has_a_successor(case, key):
    made, generator = case.run(key), case.generator
    env, length = ENVS.get("pendulum")(), generator.window_length
    found = describe(made, log_prob, case.normalizer, env, length, 8, generator.is_whole)
    by_position = np.asarray(found["dynamics_error_by_position"])
    assert by_position.shape == (length if generator.is_whole else length - 1,)
    assert found["dynamics_error_by_window"].shape == (8,)
    # The mean over positions, weighted by the rows that each has, is the mean over rows.
    counts = np.asarray(made.valid & (made.transition.terminal == 0.0)).reshape(8, length).sum(axis=0)
    counts = counts[: by_position.size]
    assert counts.sum() == np.asarray(made.valid & (made.transition.terminal == 0.0)).sum() and counts[-1] > 0
    np.testing.assert_allclose(counts @ by_position / counts.sum(), found["dynamics_error"], rtol=1e-4)
    likelihood = log_prob(made.transition.obs, made.transition.action)[made.valid].mean()
    np.testing.assert_allclose(found["synthetic_log_likelihood"], likelihood, rtol=1e-4)
