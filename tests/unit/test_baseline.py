"""What the benchmark compares with computes the same as the library: each part on the same inputs and noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench import baseline, baseline_agent, baseline_sampler, baseline_unet, setting as settings
from pgd_jax.agents.base import AGENTS, AgentPlan
from pgd_jax.core.types import Transition
from pgd_jax.data import normalizer as normalizers
from pgd_jax.diffusion import edm, guidance, samplers, schedules
from pgd_jax.envs import evaluate as evaluation
from pgd_jax.envs.base import EvalEnv
from pgd_jax.networks import unet

pytestmark = pytest.mark.slow

SETTING = settings.Setting(
    obs_dim=2, window_length=8, width=8, num_blocks=1, num_steps=3, num_windows=8, hidden_dim=16, num_hidden=1,
    batch_size=16, synthetic_per_batch=12, num_real=64, num_updates=4, num_episodes=2,
)  # fmt: skip
LAYOUT = SETTING.layout
AGENT = AGENTS.get("td3_bc").build(LAYOUT.obs_dim, LAYOUT.action_dim, AgentPlan(SETTING.hidden_dim, SETTING.num_hidden))
HYPER = AGENTS.get("td3_bc").hyper()
CODEC = normalizers.fit(settings.rows(SETTING, 64), LAYOUT)
PLAIN = CODEC.replace(mean=np.zeros(LAYOUT.dim, np.float32), std=np.ones(LAYOUT.dim, np.float32))
NUM_STEPS = 5
EDM = dict(sigma_min=0.002, sigma_max=80.0)
SIGMAS = schedules.karras(NUM_STEPS, **EDM)
SHAPE = (1, SETTING.window_length, LAYOUT.dim)


def random(shapes, scale, seed=0):
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.asarray(scale * generator.standard_normal(x.shape), x.dtype), shapes)


@functools.cache
def states():
    """(library's TD3+BC, the baseline's with the same weights): targets a little off, no moments yet."""
    state = jax.eval_shape(AGENT.init, jax.random.key(0), HYPER)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state)
    actor, critic = random((state.actor.params, state.critic.params), 0.3)
    target_actor, target_critic = jax.tree.map(np.add, (actor, critic), random((actor, critic), 0.1, seed=1))
    trained = dict(actor=zeros.actor.replace(params=actor), critic=zeros.critic.replace(params=critic))
    state = zeros.replace(**trained, target_actor=target_actor, target_critic=target_critic)
    return state, converted(state)


def converted(state):
    def twins(critic):
        return {name: jax.tree.map(lambda p: p[i], critic) for i, name in enumerate(("q1", "q2"))}

    actor, critic = baseline_agent.networks(LAYOUT.action_dim, SETTING.hidden_dim, SETTING.num_hidden)
    return baseline_agent.Agent(
        baseline_agent.wrap(actor, state.actor.params).replace(target=state.target_actor),
        baseline_agent.wrap(critic, twins(state.critic.params)).replace(target=twins(state.target_critic)),
    )


def random_transitions(shape, seed=0):
    generator = np.random.default_rng(seed)
    obs, next_obs = generator.standard_normal((2, *shape, LAYOUT.obs_dim), np.float32)
    action = generator.uniform(-1.0, 1.0, (*shape, LAYOUT.action_dim)).astype(np.float32)
    terminal = (generator.uniform(size=shape) < 0.3).astype(np.float32)
    return Transition(*map(jnp.asarray, (obs, action, obs[..., 0] + action[..., 0], next_obs, terminal)))


def test_the_unet_is_the_library_s(key):
    num_blocks = 3  # the fewest whose blocks on the way up have an order
    ours = unet.build(SETTING.window_length, LAYOUT.dim, SETTING.width, num_blocks, "float32")
    params = random(jax.eval_shape(ours.init, key), 0.3)
    theirs = baseline_unet.UNet(LAYOUT.dim, SETTING.width, num_blocks)
    same = baseline_unet.from_library(params, num_blocks)
    x = np.random.default_rng(0).standard_normal((3, SETTING.window_length, LAYOUT.dim), np.float32)
    c_noise = np.linspace(-1.5, 1.0, 3, dtype=np.float32)
    shapes = jax.eval_shape(theirs.init, key, x[0], c_noise[0])["params"]
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, same)
    found = jax.jit(jax.vmap(theirs.apply, in_axes=(None, 0, 0)))({"params": same}, x, c_noise)
    expected = jax.jit(ours.apply)(params, x, c_noise)
    assert jnp.std(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_noise_levels_are_the_library_s():
    np.testing.assert_allclose(baseline_sampler.karras(16), schedules.karras(16, **EDM), rtol=1e-5)


def network(x, c_noise):
    """Of windows [..., T, D] at noise levels [...]: every row and column concerns every other."""
    length, dim = x.shape[-2:]
    rows, columns = random((np.zeros((length, length), x.dtype), np.zeros((dim, dim), x.dtype)), 0.4)
    return jax.nn.soft_sign(rows @ x @ columns + c_noise[..., None, None])


@pytest.mark.parametrize("sampler", ["churned_heun", "dpmpp_2m_sde"])
def test_guided_windows_are_the_library_s(sampler, key):
    our_agent, their_agent = states()

    def ours(key):
        log_prob = functools.partial(AGENT.log_prob, our_agent)
        everywhere = guidance.Interval(sigma_max=guidance.EVERY_SIGMA)
        guided = guidance.guide(
            edm.precondition(network), log_prob, CODEC, jnp.float32(1.0), NUM_STEPS, "paper", interval=everywhere
        )
        sample = samplers.SAMPLERS.get(sampler).sample
        return sample(key, guided.denoise, SIGMAS, SHAPE, guided.options())[0]

    def theirs(key, coefficient):
        key_start, key_steps = jax.random.split(key)
        denoise = baseline_sampler.precondition(network)
        score = baseline.policy_score(baseline.actor(SETTING), their_agent.actor.params, CODEC)
        steer = baseline_sampler.guidance(denoise, score, coefficient, NUM_STEPS, LAYOUT.action)
        x = samplers.begin(key_start, SIGMAS, SHAPE, None)[0]
        return baseline_sampler.SAMPLERS[sampler](key_steps, x, denoise, steer, SIGMAS)

    # A batch of one window in the library, whose draws are then those of a single trajectory.
    sample, sample_ours = jax.jit(theirs), jax.jit(ours)
    for key_of_window in jax.random.split(key, 3):
        found = sample(key_of_window, 1.0)
        np.testing.assert_allclose(found, sample_ours(key_of_window), rtol=1e-4, atol=1e-4)
        assert np.max(np.abs(found - sample(key_of_window, 0.0))) > 0.1


@pytest.mark.parametrize("sampler, calls_per_step", [("churned_heun", 3), ("dpmpp_2m_sde", 2)])
def test_denoiser_calls_are_counted(sampler, calls_per_step, key):
    calls = []

    def denoise(x, sigma):
        calls.append(sigma)
        return x

    steer = baseline_sampler.guidance(denoise, jnp.zeros_like, 0.0, NUM_STEPS, slice(None))
    sample = baseline_sampler.SAMPLERS[sampler]
    jax.eval_shape(lambda key, x: sample(key, x, denoise, steer, SIGMAS), key, jnp.zeros((4, 3)))
    # The scan's body is traced once for its N - 1 steps; the last step is outside.
    assert len(calls) == calls_per_step + 1


def test_two_updates_are_one_of_the_library_s(key):
    ours, theirs = states()
    update_ours = jax.jit(AGENT.update)

    @jax.jit
    def update_theirs(key, agent, batches):
        noise = baseline_agent.smoothing_noise(key, batches.action.shape)  # the library draws for both at once
        first, second = (jax.tree.map(lambda leaf: leaf[i], batches) for i in range(2))
        agent, first_loss = baseline_agent.update_critic(agent, first, noise[0])
        agent, second_loss, actor_loss = baseline_agent.update_both(agent, second, noise[1])
        return agent, (first_loss + second_loss) / 2.0, actor_loss

    for pair in range(2):  # the second finds moments and a count of steps
        batches = random_transitions((2, 16), seed=pair)
        ours, logs = update_ours(key, ours, batches, HYPER)
        theirs, critic_loss, actor_loss = update_theirs(key, theirs, batches)
        np.testing.assert_allclose(critic_loss, logs["critic_loss"], rtol=1e-5)
        np.testing.assert_allclose(actor_loss, logs["actor_loss"], rtol=1e-5)
    expected, start = converted(ours), states()[1]
    for name in ("actor", "critic"):
        for part in ("params", "target"):
            trees = (getattr(getattr(agent, name), part) for agent in (theirs, expected, start))
            for found, same, before in zip(*map(jax.tree.leaves, trees), strict=True):
                np.testing.assert_allclose(found, same, atol=1e-5)
                assert np.max(np.abs(found - before)) > 5e-5


def test_weights_start_within_one_over_the_root_of_the_inputs(key):
    critic = baseline.agent(SETTING, key).critic.params["q2"]
    for name, num_inputs in (("Dense_0", LAYOUT.obs_dim + LAYOUT.action_dim), ("Dense_1", SETTING.hidden_dim)):
        bound = num_inputs**-0.5
        assert 0.8 * bound < np.max(np.abs(critic[name]["kernel"])) <= bound
        assert 0.0 < np.max(np.abs(critic[name]["bias"])) <= bound


def test_rows_are_the_library_s_valid_transitions():
    windows = np.random.default_rng(0).standard_normal((6, 5, LAYOUT.dim), np.float32)
    transition, valid = normalizers.to_transitions(PLAIN, windows)
    found = baseline.to_rows(PLAIN, windows)
    assert 0 < np.sum(found.terminal) < found.terminal.size < valid.size
    for a, b in zip(found, transition, strict=True):
        np.testing.assert_array_equal(a, np.asarray(b)[np.asarray(valid)])


@pytest.mark.parametrize("num_rows, expected", [(8, [0, 1, 2, 4, 5, 6, 0, 1]), (4, [0, 1, 2, 4])])
def test_rows_of_a_fixed_number_are_repeated_or_left_out(num_rows, expected):
    windows = np.zeros((2, 4, LAYOUT.dim), np.float32)
    windows[..., 0] = np.arange(8.0).reshape(2, 4)
    np.testing.assert_array_equal(baseline.to_rows(PLAIN, windows, num_rows).obs[:, 0], expected)


@pytest.mark.parametrize("replace", [False, True])
def test_a_batch_without_replacement_has_no_row_twice(replace, key):
    drawn = baseline.draw(key, random_transitions((12,)), 12, replace)
    assert (len(np.unique(drawn.obs[:, 0])) == 12) is not replace


def walk():
    """A walk that ends where its first coordinate exceeds 1, and would go on."""

    def reset(key):
        x = jax.random.uniform(key, (2,), maxval=0.9)
        return x, x

    def step(key, x, action):
        del key
        x = x + 0.1 * action
        return x, x, jnp.sum(x), x[0] > 1.0

    return EvalEnv("walk", 2, 2, horizon=8, reset=reset, step=step, from_obs=None)


def test_episodes_are_the_library_s(key):
    # The library draws the keys of its steps otherwise, but nothing in these is random.
    keys = jax.random.split(jax.random.split(key)[0], 16)
    found = jax.jit(jax.vmap(functools.partial(baseline.episode, policy=jnp.cos, env=walk())))(keys, keys)
    expected = jax.jit(lambda key: evaluation.evaluate(key, jnp.cos, walk(), 16))(key)
    assert 0 < np.sum(expected.lengths == 8) < 16  # some end before the horizon
    np.testing.assert_allclose(found, expected.returns, rtol=1e-5)


def test_phases_of_two_seeds_run_and_compile_once(monkeypatch, key):
    traced, made = [], []

    def trace(module, name, function):
        setting = monkeypatch.setitem if isinstance(module, dict) else monkeypatch.setattr
        setting(module, name, lambda *args, **kwargs: traced.append(name) or function(*args, **kwargs))

    trace(baseline_agent, "update_critic", baseline_agent.update_critic)
    trace(baseline_agent, "update_actor", baseline_agent.update_actor)
    trace(baseline, "episode", baseline.episode)
    trace(baseline_sampler.SAMPLERS, "dpmpp_2m_sde", baseline_sampler.dpmpp_2m_sde)
    monkeypatch.setattr(baseline, "ENVS", {SETTING.environment: walk})  # quicker to compile
    sample = baseline.sampling(SETTING, "dpmpp_2m_sde", windows_per_batch=4)
    run = baseline.phase(SETTING, lambda *args: made.append(sample(*args)) or made[-1])
    for seed in range(2):
        agent = baseline.agent(SETTING, jax.random.key(seed))
        for num_phases in (1, 2):
            agent, metrics = run(key, agent)
            assert metrics.keys() == {"critic_loss", "actor_loss", "return_mean", "return_std"}
            assert np.all(np.isfinite(list(metrics.values())))
            assert agent.critic.step == 2 * agent.actor.step == num_phases * SETTING.num_updates
            # Two batches of four windows, no two alike.
            assert made[-1].shape == (8, *SHAPE[1:]) and len(np.unique(made[-1][:, 0, 0])) == 8
    # Each of the two functions that update has a critic's part.
    assert sorted(traced) == ["dpmpp_2m_sde", "episode", "update_actor", "update_critic", "update_critic"]


def test_windows_must_fill_their_batches():
    with pytest.raises(ValueError, match="num_windows=8 must be a multiple of windows_per_batch=3"):
        baseline.sampling(SETTING, windows_per_batch=3)
