"""What the program learns from: guided or not, and nothing from beyond a generated terminal."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.data import normalizer as normalizers
from pgd_jax.diffusion import edm, guidance, samplers, schedules
from pgd_jax.generators import base, diffusion
from pgd_jax.networks.base import Network
from pgd_jax.runs import agent as agent_runs, experiment
from pgd_jax.train import loop
from tests import quickly, worlds
from tests.worlds import LAYOUT, WINDOW


def generator(world, rule):
    """states -> windows f32[L, M, T, D] that the lanes' agents generate under `rule`."""
    program = world.program
    sampling = dataclasses.replace(program.generator.plan.sampling, guidance=rule)

    @quickly.jit
    def windows(states):
        def one(state, hyper):
            log_prob = functools.partial(program.agent.log_prob, state.agent)
            return worlds.sample(world, state.key, log_prob, hyper, sampling=sampling)

        return jax.vmap(one)(states, world.lanes.hypers)

    return lambda states: np.asarray(windows(states))


def specialised(world):
    """The world without what no lane needs."""
    made = diffusion.of_plan(diffusion.specialised(world.program.generator.plan, world.lanes.hypers.generator))
    return world._replace(program=world.program._replace(generator=made))


@pytest.fixture(scope="module")
def plain(world):
    """The same windows from the sampler alone: no rule, no policy."""
    plan = world.program.generator.plan
    sampling, denoise = plan.sampling, edm.denoiser(plan.network, world.shared.model.denoiser)
    shape = (sampling.trajectories_per_batch, WINDOW, LAYOUT.dim)
    sample = samplers.SAMPLERS.get(sampling.sampler).sample

    @quickly.jit
    def windows(keys, hypers):
        def one(key, hyper):
            keys = jax.random.split(key, plan.num_batches)
            sigmas = schedules.karras(sampling.num_steps, hyper.sigma_min, hyper.sigma_max, hyper.rho)
            batch = jax.lax.map(lambda k: sample(k, denoise, sigmas, shape), keys)
            return batch.reshape(sampling.num_trajectories, *shape[1:])

        return jax.vmap(one)(keys, hypers)

    return np.asarray(windows(world.init().key, world.lanes.hypers.generator))


SLOW = ("jacobian", "pigdm")  # to compile
RULES = [pytest.param(rule, marks=pytest.mark.slow) if rule in SLOW else rule for rule in guidance.GUIDANCE]


@pytest.mark.parametrize("rule", RULES)
def test_coefficient_zero_is_unguided(world, plain, rule):
    """Lanes 0 and 1 have coefficient 0, lanes 2 and 3 have 1 and the same two seeds: lane 2 is lane 0 but for guidance.

    Within one program no bit depends on the policy. Two programs, with and without a rule, are fused differently: their
    rounding, 1e-7, grows to 1e-4 on the way from noise of 80 in three steps.
    """
    states, generate = world.init(), generator(world, rule)
    windows = generate(states)
    other = generate(states.replace(agent=jax.tree.map(lambda leaf: leaf[jnp.array([1, 0, 3, 2])], states.agent)))
    np.testing.assert_array_equal(windows[:2], other[:2])
    np.testing.assert_allclose(windows[:2], plain[:2], atol=2e-3)
    action = LAYOUT.action
    assert np.abs(windows[2:, ..., action] - other[2:, ..., action]).max() > 0.02
    assert np.abs(windows[2:, ..., action] - plain[2:, ..., action]).max() > 0.02


def test_the_share_is_of_whole_batches_evenly_spread():
    """By hand: of 4 batches a share of 0.5 guides the first and the third, 0.25 the second, 0.1 none, 0.9 all."""
    index = np.arange(4, dtype=np.float32)
    expected = {0.5: [1, 0, 1, 0], 0.25: [0, 1, 0, 0], 0.75: [1, 1, 0, 1], 0.1: [0, 0, 0, 0], 0.9: [1, 1, 1, 1]}
    for share, guided in expected.items():
        assert diffusion.is_guided(index, np.float32(share)).tolist() == guided, share
    shares = np.linspace(0.0, 1.0, 201, dtype=np.float32)
    for num_batches in (1, 3, 7, 16, 100):
        index = np.arange(num_batches, dtype=np.float32)
        static = diffusion.is_guided(index, shares[:, None])
        traced = jax.jit(diffusion.is_guided)(jnp.asarray(index)[None], jnp.asarray(shares)[:, None])
        np.testing.assert_array_equal(static, traced)
        assert np.abs(static.sum(axis=1) - num_batches * shares).max() <= 0.5 + 1e-4
        assert static[-1].all() and not static[0].any()


SIZES = dict(num_trajectories=16, trajectories_per_batch=4)
COEFFICIENT = {"guidance_coefficient": 3}


@pytest.mark.parametrize("rule", ["proximal", "paper", "pigdm"])
@pytest.mark.parametrize("shares", [(0, 0.5, 1), (0, 0.25, 0.5)])
def test_a_share_of_the_windows_is_guided_in_each_lane(rule, shares):
    """Lanes of one seed: each batch is that of the lane without guidance, or that of a lane that guides all."""
    sizes = SIZES | {"guidance": rule}
    world = specialised(
        worlds.build(worlds.agent_config(sizes, num_seeds=1, hyper=COEFFICIENT | {"guided_share": shares}))
    )
    assert (world.program.generator.plan.guided_batches is None) == (1 in shares)
    all_guided = worlds.build(worlds.agent_config(sizes, num_seeds=1, hyper=COEFFICIENT))
    states = jax.tree.map(lambda leaf: leaf[:1], world.init())
    guided = generator(all_guided, rule)(states)[0].reshape(4, 4, WINDOW, -1)
    windows = generator(world, rule)(world.init()).reshape(3, 4, 4, WINDOW, guided.shape[-1])
    for lane, share in enumerate(np.float32(shares)):
        for index in range(4):
            is_guided = diffusion.is_guided(np.float32(index), share)
            expected = guided[index] if is_guided else windows[0, index]
            np.testing.assert_allclose(windows[lane, index], expected, atol=2e-3, err_msg=f"{share} {index}")
            assert is_guided == (np.abs(windows[lane, index] - windows[0, index]).max() > 0.02)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_unguided_windows_cost_no_evaluation_of_the_policy(share):
    hyper = COEFFICIENT | {"guided_share": share}
    world, calls = specialised(worlds.build(worlds.agent_config(SIZES, num_seeds=2, hyper=hyper))), []

    def log_prob(obs, action):
        jax.debug.callback(lambda _: calls.append(1), obs.sum())
        return -jnp.sum(action**2, axis=-1)

    def one(key, hyper):
        return worlds.sample(world, key, log_prob, hyper)

    keys = jax.random.split(jax.random.key(0), 2)
    jax.block_until_ready(jax.jit(jax.vmap(one))(keys, world.lanes.hypers))
    jax.effects_barrier()
    guided_steps, batches = sum(world.program.generator.plan.guided_steps), int(4 * share)
    assert 0 < guided_steps < 3
    assert (len(calls) > 0) == (batches > 0) and len(calls) % max(batches * guided_steps, 1) == 0


def test_a_share_must_be_one():
    for share in (-0.1, 1.5):
        with pytest.raises(UserError, match=f"guided_share={share:g} must be from 0 to 1"):
            worlds.build(worlds.agent_config(num_seeds=1, hyper={"guided_share": share}))


def test_the_first_phase_is_unguided_whatever_the_coefficient(world):
    states, first = world.run(1, world.init())
    assert first["synthetic_log_likelihood"].shape == (4, 1)
    weights = jax.device_get(states.agent)
    for name, values in first.items():
        np.testing.assert_array_equal(values[:2], values[2:], err_msg=name)
    unguided, guided = (jax.tree.map(lambda leaf: leaf[part], weights) for part in (slice(0, 2), slice(2, 4)))
    chex.assert_trees_all_equal(unguided, guided)
    _, second = world.run(1, states)
    for name in ("synthetic_log_likelihood", "critic_loss"):
        assert np.all(np.asarray(second[name][:2]) != np.asarray(second[name][2:]))


def test_stronger_guidance_is_more_likely_under_the_policy(key):
    """A network of zeros is the exact denoiser of N(0, I) windows (c_skip x = x / (1 + s^2)): only guidance moves them.

    Actions are tanh(u), u ~ N(0, 1), and the policy is N(0.5, 0.3^2), of log density -0.5 ((a - 0.5) / 0.3)^2 + 0.285.
    For lambda = 0: E a^2 = 0.394, so the mean is -0.5 (0.394 + 0.25) / 0.09 + 0.285 = -3.29.
    """
    config = worlds.agent_config(
        sampling=dict(num_steps=16, num_trajectories=512, trajectories_per_batch=512), num_seeds=1,
        hyper={"guidance_coefficient": (0, 0.1, 0.3, 1, 3, 10)},
    )  # fmt: skip
    world = worlds.build(config)

    def log_prob(obs, action):
        return jnp.sum(-0.5 * ((action - 0.5) / 0.3) ** 2 - jnp.log(0.3 * jnp.sqrt(2.0 * jnp.pi)), axis=-1)

    nothing = Network(lambda key: {}, lambda params, x, c_noise: jnp.zeros_like(x))
    plan = world.program.generator.plan._replace(network=nothing)
    normalizer = world.shared.normalizer.replace(mean=jnp.zeros(LAYOUT.dim), std=jnp.ones(LAYOUT.dim))

    @jax.jit
    @jax.vmap
    def measure(hyper):
        strength, model = hyper.guidance_coefficient, diffusion.Model({})
        windows = diffusion.sample(plan, key, log_prob, strength, hyper, model, normalizer)
        return base.describe(diffusion.flatten(normalizer, windows), log_prob, normalizer, None, WINDOW, 0)

    likelihood = np.asarray(measure(world.lanes.hypers.generator)["synthetic_log_likelihood"])
    # Standard deviation of the log density is about 4.5, over at least 512 actions: 0.2.
    assert likelihood[0] == pytest.approx(-3.29, abs=0.6)
    assert np.all(np.diff(likelihood) > 0.05)
    assert -0.5 < likelihood[-1] < 0.285, "never above the density at the policy's mean"


def with_terminals(world, terminal_at):
    """Windows whose reward is 100 * window + row and whose terminal column is up at the given rows (None: nowhere)."""
    num_windows, normalizer = len(terminal_at), world.shared.normalizer
    rows = np.zeros((num_windows, WINDOW, LAYOUT.dim), np.float32)
    rows[..., LAYOUT.reward] = 100.0 * np.arange(num_windows)[:, None] + np.arange(WINDOW)
    for window, row in enumerate(terminal_at):
        rows[window, [] if row is None else row, LAYOUT.terminal] = 1.0
    return diffusion.flatten(normalizer, normalizers.encode(normalizer, jnp.asarray(rows)))


def test_rows_after_a_generated_terminal_are_never_drawn(world, key):
    """Valid: up to the terminal and with it; without one, all but the last row, which has no successor."""
    synthetic = with_terminals(world, [None, [3, 5], 0, WINDOW - 1])
    expected = {*range(0, 7), *range(100, 104), 200, *range(300, 308)}
    assert int(synthetic.num_valid) == len(expected)
    hyper = loop.ProgramHyper(None)
    plan = world.program.plan._replace(batch_size=400, synthetic_per_batch=400)
    draw = jax.jit(lambda key: loop.draw(key, synthetic, hyper, world.shared, world.program._replace(plan=plan)))
    rewards, counts = np.unique(np.rint(draw(key).reward), return_counts=True)
    assert set(rewards.tolist()) == expected
    # 800 draws over 20 rows: 40 each, standard deviation sqrt(40) = 6.3.
    assert counts.min() > 40 - 28 and counts.max() < 40 + 28


def test_a_batch_is_synthetic_then_real_with_rewards_scaled_alike(world, key):
    synthetic = with_terminals(world, [None, 3])
    hyper = loop.ProgramHyper(None, reward_scale=2.0, reward_shift=-1.0)
    batch = jax.jit(lambda key: loop.draw(key, synthetic, hyper, world.shared, world.program))(key)
    assert batch.obs.shape == (2, 8, 3) and batch.action.shape == (2, 8, 1) and batch.reward.shape == (2, 8)
    reward = (np.asarray(batch.reward) + 1.0) / 2.0
    made, real = np.rint(reward[:, :6]), reward[:, 6:]
    assert np.isin(made, [*range(0, 7), *range(100, 104)]).all()
    assert np.isclose(real[..., None], world.shared.real.reward, atol=1e-5).any(axis=-1).all()
    # Columns stay together: each real row's observation is that of its reward.
    source = np.argmin(np.abs(real[..., None] - np.asarray(world.shared.real.reward)), axis=-1)
    np.testing.assert_array_equal(batch.obs[:, 6:], np.asarray(world.shared.real.obs)[source])


def test_real_data_alone_generates_nothing_and_needs_no_denoiser(dataset, tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("generated")

    monkeypatch.setattr(loop, "generate", refuse)
    config = worlds.agent_config(
        denoiser="", dataset=dataset, synthetic_per_batch=0, environment="none", num_phases=1, hyper={}, agent="iql"
    )
    assembled = experiment.assemble(config)
    assert assembled.program.generator is None and assembled.shared.model is None
    states = jax.eval_shape(functools.partial(agent_runs.initial_states, assembled))
    run = functools.partial(loop.run_chunk, assembled.program, 3)
    _, results = jax.eval_shape(run, states, assembled.lanes.hypers, assembled.shared)
    assert results["critic_loss"].shape == (2, 3) and not any(name.startswith("synthetic") for name in results)
