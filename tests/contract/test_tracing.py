"""Every sampler and every rule of guidance can be traced: the same windows, and what each step really saw."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax import generators  # noqa: F401 (registers the twisted sampler and the rules)
from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Layout, Normalizer
from pgd_jax.diffusion import guidance, samplers, tracing
from tests import oracles, quickly

LAYOUT = Layout(obs_dim=2, action_dim=2)
NORMALIZER = Normalizer(jnp.full(LAYOUT.dim, 0.2), jnp.full(LAYOUT.dim, 0.8), LAYOUT)
SHAPE, NUM_STEPS = (8, 3, LAYOUT.dim), 6
SIGMAS = oracles.karras(NUM_STEPS, top=10.0).astype(np.float32)
INTERVAL = guidance.Interval(sigma_min=float(SIGMAS[-2]) * 2.0, sigma_max=float(SIGMAS[2]))  # steps 2, 3 and 4 of 6
policy = oracles.gaussian_policy(jnp.tanh, 0.4)


def denoise(x, sigma):
    """Of a unit world. Ends in a matrix product, as a network does: nothing is fused with it, and rounded otherwise."""
    return oracles.unit_denoise(x, sigma) @ jnp.eye(LAYOUT.dim)


def guide(rule, log_prob=policy):
    steps = tuple(bool(INTERVAL.sigma_min <= sigma <= INTERVAL.sigma_max) for sigma in SIGMAS[:-1])
    return guidance.guide(denoise, log_prob, NORMALIZER, jnp.float32(0.7), NUM_STEPS, rule, "rising", INTERVAL, steps)


def options(guided):
    return guided.options(noise=samplers.Noise(churn=3.0), num_particles=4)


@functools.cache
def sampled(sampler, rule):
    """(x, rows [K, O + A] at which the policy says that it was evaluated), of a sampling that is not traced."""
    seen = []

    def spy(obs, action):
        jax.debug.callback(lambda *rows: seen.append(np.concatenate(rows, axis=-1).reshape(-1, 4)), obs, action)
        return policy(obs, action)

    guided, sample = guide(rule, spy), samplers.SAMPLERS.get(sampler).sample
    run = lambda key: sample(key, guided.denoise, jnp.asarray(SIGMAS), SHAPE, options(guided))
    x = np.asarray(quickly.jit(run)(jax.random.key(3)))
    jax.effects_barrier()
    return x, np.concatenate(seen)


@functools.cache
def traced(sampler, rule):
    """(x, its steps)."""
    guided = guide(rule)

    def run(key):
        x, record = tracing.record(sampler, key, guided.denoise, jnp.asarray(SIGMAS), SHAPE, options(guided))
        return x, tracing.explain(record, guided, denoise, jnp.asarray(SIGMAS))

    return jax.tree.map(np.asarray, quickly.jit(run)(jax.random.key(3)))


def mine(key, denoise, sigmas, shape, options=samplers.Options()):
    """A user's own: jumps to the denoised window and half of the way back; what it makes of x afterwards is its own."""

    def update(x, denoised, step, memory):
        x0 = denoised(x, step.sigma, step.number)
        return x0 + 0.5 * step.sigma_next / step.sigma * (x - x0), memory

    return jnp.clip(samplers.integrate(key, denoise, sigmas, shape, options, update), -9.0, 9.0)


@pytest.fixture(autouse=True)
def with_mine(monkeypatch):
    monkeypatch.setitem(samplers.SAMPLERS._entries, "mine", samplers.Sampler(mine, order=1, calls=lambda n: n))


PAIRS = [(sampler, "proximal") for sampler in [*samplers.SAMPLERS, "mine"]]
PAIRS += [("churned_heun", rule) for rule in guidance.GUIDANCE]


@pytest.mark.parametrize("sampler, rule", dict.fromkeys(PAIRS))
def test_a_traced_sampling_is_the_same_and_its_last_answer_is_the_sample(sampler, rule):
    """But for rounding: these are two programs, which XLA may fuse in two ways."""
    x, steps = traced(sampler, rule)
    np.testing.assert_allclose(x, sampled(sampler, rule)[0], atol=1e-5)
    np.testing.assert_allclose(steps.denoised[-1], x, atol=1e-5)
    for windows in (steps.noisy, steps.denoised, steps.unguided, steps.evaluated):
        assert windows.shape == (NUM_STEPS, *SHAPE) and np.isfinite(windows).all()
    assert steps.log_prob.shape == (NUM_STEPS, *SHAPE[:2])
    if sampler == "churned_heun":
        assert (steps.sigma >= SIGMAS[:-1]).all() and (steps.sigma > SIGMAS[:-1]).any()
    else:
        np.testing.assert_array_equal(steps.sigma, SIGMAS[:-1])


@pytest.mark.parametrize("sampler, rule", dict.fromkeys(PAIRS))
def test_guidance_was_where_the_trace_says(sampler, rule):
    steps = traced(sampler, rule)[1]
    level = steps.sigma if "paper" not in rule else SIGMAS[:-1]  # the paper's rules act before noise is raised
    is_on = (INTERVAL.sigma_min <= level) & (level <= INTERVAL.sigma_max)
    assert 2 <= is_on.sum() <= 3
    np.testing.assert_allclose(steps.strength, np.where(is_on, 0.7 / (1.0 + level**2), 0.0), rtol=1e-5)
    np.testing.assert_array_equal(steps.unguided[~is_on], steps.denoised[~is_on])
    np.testing.assert_array_equal(steps.evaluated[~is_on], steps.denoised[~is_on])
    moved = np.abs(steps.denoised - steps.unguided)
    assert (moved[is_on][..., LAYOUT.action].max(axis=(1, 2, 3)) > 1e-3).all()
    assert moved[..., LAYOUT.terminal].max() < 1e-5  # the denoiser here treats each column by itself
    # The policy was evaluated at the rows of the trace.
    obs, action = steps.evaluated[..., LAYOUT.obs], np.tanh(0.8 * steps.evaluated[..., LAYOUT.action] + 0.2)
    np.testing.assert_allclose(steps.log_prob, policy(obs, action), rtol=1e-4, atol=1e-5)
    found = sampled(sampler, rule)[1]
    for row in np.concatenate([obs, action], axis=-1)[is_on].reshape(-1, 4):
        assert np.abs(found - row).max(axis=1).min() < 1e-5


def test_the_steps_of_ode_samplers_by_hand():
    """Euler from each x to the next; without guidance D is x / (1 + s^2); "paper" moves x, here by what it says."""
    for rule in ("proximal", "paper"):
        shift = quickly.jit(guide(rule).shift)
        x, steps = traced("euler", rule)
        s, t = (levels[:, None, None, None] for levels in (SIGMAS[:-1], SIGMAS[1:]))
        after = steps.noisy + (t - s) / s * (steps.noisy - steps.denoised)
        moved = np.stack([shift(after[n], SIGMAS[n + 1], np.int32(n + 1)) - after[n] for n in range(NUM_STEPS - 1)])
        np.testing.assert_allclose(after[:-1] + moved, steps.noisy[1:], atol=2e-5)
        np.testing.assert_allclose(after[-1], x, atol=1e-5)
        np.testing.assert_allclose(steps.unguided[1:], (steps.noisy[1:] - moved) / (1.0 + s[1:] ** 2), atol=2e-5)


def test_windows_of_the_particle_filter_have_the_ways_of_their_ancestors():
    """Each step is the ancestral one from the denoised window that the trace has, and what is left is noise of N(0, 1).

    Where the resampling is not followed, the next window is another's.
    """
    steps = traced("twisted", "proximal")[1]
    s, t = (levels[:, None, None, None] for levels in (SIGMAS[:-2], SIGMAS[1:-1]))
    mean = steps.denoised[:-1] + (t / s) ** 2 * (steps.noisy[:-1] - steps.denoised[:-1])
    noise = (steps.noisy[1:] - mean) / (t * np.sqrt(1.0 - (t / s) ** 2))
    assert np.abs(noise).max() < 4.5 and np.std(noise) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("sampler", [*samplers.SAMPLERS, "mine"])
def test_a_sampling_that_is_not_traced_keeps_nothing(sampler):
    """Its scan has no output but what it carries on; traced it has."""
    guided = guide("proximal")

    def scan_of(run):
        jaxpr = jax.make_jaxpr(run)(jax.random.key(0)).jaxpr
        scans = [each for each in jaxpr.eqns if each.primitive.name == "scan"]
        return [len(each.outvars) - each.params["num_carry"] for each in scans]

    args = (guided.denoise, jnp.asarray(SIGMAS), SHAPE, options(guided))
    assert scan_of(lambda key: samplers.SAMPLERS.get(sampler).sample(key, *args)) == [0]
    assert scan_of(lambda key: tracing.record(sampler, key, *args))[0] > 0


def test_a_sampler_that_does_not_tell_its_steps_is_one_clear_error(monkeypatch):
    def alone(key, denoise, sigmas, shape, options):
        return denoise(jax.random.normal(key, shape), sigmas[0])

    def deaf(key, denoise, sigmas, shape, options):
        update = lambda x, denoised, step, memory: (denoise(x, step.sigma), memory)
        return samplers.integrate(key, denoise, sigmas, shape, options, update)

    def branching(key, denoise, sigmas, shape, options):
        def update(x, denoised, step, memory):
            skip = lambda x: x
            return jax.lax.cond(step.number > 1, lambda x: denoised(x, step.sigma, step.number), skip, x), memory

        return samplers.integrate(key, denoise, sigmas, shape, options, update)

    for sample in (alone, deaf, branching):
        entry = samplers.Sampler(sample, order=1, calls=lambda n: n)
        monkeypatch.setitem(samplers.SAMPLERS._entries, "mine", entry)
        with pytest.raises(UserError, match='sampler "mine" does not record its steps: build it by'):
            tracing.record("mine", jax.random.key(0), denoise, jnp.asarray(SIGMAS), SHAPE, samplers.Options())
