"""Samplers against the exact solution of the ODE and against Gaussian worlds (method: Karras et al. 2022)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.diffusion import samplers, schedules
from tests import oracles

SAMPLERS = {name: samplers.SAMPLERS.get(name) for name in samplers.SAMPLERS}
ODE = samplers.Options(samplers.Noise(eta=0.0, churn=0.0))


def cubic(num_steps: int, top: float) -> jax.Array:
    """Down to exactly 0: the last, always first-order, step is then of size N^-3 and hides nothing."""
    return top * (1.0 - jnp.arange(num_steps + 1) / num_steps) ** 3


def slope(counts: list[int], errors: list[float]) -> float:
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


@pytest.mark.parametrize("name", [name for name in SAMPLERS if not SAMPLERS[name].is_twisted])
def test_order_of_convergence_is_the_stated_one(name):
    """Without its noise every sampler solves the ODE: slope of log error on log step size, float64, N = 16 .. 128."""
    with jax.enable_x64(True):
        world, top, errors, counts = oracles.correlated_world(jnp.float64), 5.0, [], [16, 32, 64, 128]
        key = jax.random.key(1)
        start = jnp.sqrt(top**2 + 1.0) * jax.random.normal(jax.random.split(key)[0], (8, *world.shape))
        exact = world.flow(start, jnp.float64(top))
        for num_steps in counts:
            x = SAMPLERS[name].sample(key, world.denoise, cubic(num_steps, top), (8, *world.shape), ODE)
            errors.append(float(jnp.max(jnp.abs(x - exact))))
    assert slope(counts, errors) == pytest.approx(SAMPLERS[name].order, abs=0.25)


def exact_variance(monkeypatch, name: str, num_steps: int) -> float:
    """Variance of the sampler's x for unit data, float64, without drawing a number.

    The denoiser of N(0, 1), x / (1 + s^2), is linear, so x = sum_i c_i noise_i. In window i the draw of key i is 1 and
    every other is 0: what comes out is c_i.
    """
    key = jax.random.key(0)
    key_start, key_steps = jax.random.split(key)
    known = jax.random.key_data(jnp.concatenate([key_start[None], jax.random.split(key_steps, num_steps)]))

    def draw(key, shape, dtype):
        return jnp.all(known == jax.random.key_data(key)[None], axis=-1).astype(dtype).reshape(shape)

    options = samplers.Options(samplers.Noise(eta=1.0, churn=20.0, churn_min=0.0, churn_scale=1.0))
    shape, sigmas = (num_steps + 1, 1, 1), cubic(num_steps, 5.0)
    with monkeypatch.context() as patch:
        patch.setattr(jax.random, "normal", draw)
        x = SAMPLERS[name].sample(key, lambda x, s: x / (1.0 + s**2), sigmas, shape, options)
    return float(np.sum(np.asarray(x) ** 2))


@pytest.mark.parametrize(
    "name", [name for name in SAMPLERS if SAMPLERS[name].is_stochastic and not SAMPLERS[name].is_twisted]
)
def test_order_of_the_variance_of_stochastic_samplers(name, monkeypatch):
    """The weak order, at which mean and variance converge; from N = 64 on the churn of 20 / N is below its ceiling."""
    counts = [64, 128, 256]
    with jax.enable_x64(True):
        errors = [abs(exact_variance(monkeypatch, name, num_steps) - 1.0) for num_steps in counts]
    assert slope(counts, errors) == pytest.approx(SAMPLERS[name].order, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SAMPLERS))
def test_gaussian_world_keeps_its_mean_and_covariance(name, key):
    world, count, sampler = oracles.correlated_world(), 20_000, SAMPLERS[name]
    num_steps = 128 if sampler.order > 1 else 512
    options = samplers.Options(samplers.Noise(churn=20.0, churn_scale=1.0), num_particles=4)
    sample = jax.jit(
        lambda key: sampler.sample(key, world.denoise, oracles.edm_karras(num_steps), (count, *world.shape), options)
    )
    x = np.asarray(sample(key)).reshape(count, -1)
    # Standard errors: sqrt(4 / 20,000) = 0.014 of a mean, 4 sqrt(2 / 20,000) = 0.04 of the largest variance, which is
    # 4; first-order samplers are a few percent off it.
    np.testing.assert_allclose(x.mean(0), world.mean, atol=0.05)
    np.testing.assert_allclose(np.cov(x.T), world.covariance, atol=0.12 if sampler.order > 1 else 0.25)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_warm_start_keeps_the_world_it_started_from(name, key):
    """Exact windows, re-noised to 1 and brought back, are windows of the same world: and keep to their start."""
    world, count, sampler = oracles.correlated_world(), 20_000, SAMPLERS[name]
    root = jnp.linalg.cholesky(world.covariance)
    start = world.mean[None] + jax.random.normal(jax.random.key(5), (count, world.mean.size)) @ root.T
    options = samplers.Options(samplers.Noise(churn=5.0, churn_scale=1.0), start=start.reshape(count, *world.shape))
    sigmas = oracles.edm_karras(128, sigma_max=1.0)
    x = jax.jit(lambda key: sampler.sample(key, world.denoise, sigmas, (count, *world.shape), options))(key)
    x = np.asarray(x).reshape(count, -1)
    np.testing.assert_allclose(x.mean(0), world.mean, atol=0.05)
    np.testing.assert_allclose(np.cov(x.T), world.covariance, atol=0.15)
    # Cov(x0, start) for x0 drawn from the posterior given start + noise: S (S + I)^-1 S; the ODE keeps more of it.
    kept = np.asarray(world.covariance @ jnp.linalg.solve(world.covariance + jnp.eye(6), world.covariance))
    assert np.trace(np.cov(x.T, start.T)[:6, 6:]) > np.trace(kept) - 0.3


@pytest.mark.parametrize(
    "name, limit", [("churned_heun", "heun"), ("ancestral", "euler"), ("dpmpp_2m_sde", "dpmpp_2m")]
)
def test_without_noise_a_stochastic_sampler_is_its_ode_also_traced(name, limit, key):
    """In float32, with churn and eta as arguments of the program, as lanes have them: no noise at all is added."""
    world = oracles.correlated_world()
    sigmas, shape = oracles.edm_karras(32), (64, *world.shape)

    @jax.jit
    def run(noise):
        return SAMPLERS[name].sample(key, world.denoise, sigmas, shape, samplers.Options(noise))

    traced = samplers.Noise(eta=jnp.float32(0.0), churn=jnp.float32(0.0), churn_scale=jnp.float32(1.003))
    plain = jax.jit(lambda: SAMPLERS[limit].sample(key, world.denoise, sigmas, shape))()
    np.testing.assert_allclose(run(traced), plain, atol=2e-5)


def test_published_churn_at_32_steps_keeps_unit_variance(key):
    # Stepping from the un-churned point, as the released code does, gives 1.34 here; algorithm 2 gives 1.05.
    world = oracles.unit_world((2, 4))
    x = SAMPLERS["churned_heun"].sample(key, world.denoise, oracles.edm_karras(32), (4_000, 2, 4))
    assert float(jnp.std(x)) == pytest.approx(1.05, abs=0.02)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_number_of_denoiser_calls_is_the_stated_one(name, key):
    calls = []

    def denoise(x, sigma):
        jax.debug.callback(lambda s: calls.append(float(s)), sigma)
        return x / (1.0 + sigma**2)

    SAMPLERS[name].sample(key, denoise, oracles.edm_karras(6), (1, 2, 3)).block_until_ready()
    jax.effects_barrier()
    assert len(calls) == SAMPLERS[name].calls(6)
    assert min(calls) > 0.0, "no call at sigma = 0"


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_lanes_share_one_network_batch_a_step(name, key):
    """Over lanes of keys and noise levels, the denoiser's product with its weights stays one product without batches.

    A product per lane would be a batched one: its lanes would be batch dimensions of `dot_general`.
    """
    weight = 0.1 * jax.random.normal(key, (3, 3))

    def one(key, top):
        sigmas = oracles.edm_karras(4, sigma_max=top)
        return SAMPLERS[name].sample(key, lambda x, s: (x @ weight) / (1.0 + s**2), sigmas, (5, 2, 3))

    jaxpr = jax.make_jaxpr(jax.vmap(one))(jax.random.split(key, 7), jnp.linspace(10.0, 80.0, 7))
    products = [e for e in equations(jaxpr.jaxpr) if e.primitive.name == "dot_general"]
    assert products
    for product in products:
        assert product.params["dimension_numbers"][1] == ((), ())
        assert product.outvars[0].aval.shape == (7, 5, 2, 3)


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def test_karras_schedule_by_hand():
    # N = 3, rho = 1 is linear: 80, (80 + 0.002) / 2, 0.002, then 0.
    np.testing.assert_allclose(oracles.edm_karras(3, rho=1.0), [80.0, 40.001, 0.002, 0.0], atol=4e-6)
    # rho = 7: the middle level is ((80^(1/7) + 0.002^(1/7)) / 2)^7 = ((1.87005 + 0.41156) / 2)^7 = 2.5153.
    np.testing.assert_allclose(oracles.edm_karras(3)[1], 2.5153, rtol=1e-3)


def test_other_schedules_by_hand():
    # Geometric: 100, 10, 1. Tangent of angles evenly from 60 to 30 degrees: sqrt(3), 1, 1 / sqrt(3).
    np.testing.assert_allclose(schedules.log_linear(3, 1.0, 100.0), [100.0, 10.0, 1.0, 0.0], rtol=1e-5)
    root = np.sqrt(3.0)
    np.testing.assert_allclose(schedules.cosine(3, 1.0 / root, root), [root, 1.0, 1.0 / root, 0.0], rtol=1e-5)


@pytest.mark.parametrize("name", schedules.SCHEDULES.names())
def test_schedules_fall_from_sigma_max_to_sigma_min_and_zero(name):
    sigmas = np.asarray(schedules.SCHEDULES.get(name)(256, 0.002, 80.0, 7.0))
    assert sigmas.shape == (257,) and np.all(np.diff(sigmas) < 0.0) and sigmas[-1] == 0.0
    np.testing.assert_allclose(sigmas[[0, -2]], [80.0, 0.002], rtol=1e-3)
