"""Log-likelihoods of the probability-flow ODE against the exact densities of Gaussian worlds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.diffusion import likelihood, schedules
from tests import oracles, quickly

BOTTOM, TOP = 0.05, 20.0


def exact(world, x, sigma):
    """log N(x; m, S + sigma^2 I) of windows [B, T, D]."""
    noisy = world.covariance + sigma**2 * jnp.eye(world.mean.size, dtype=x.dtype)
    deviation = x.reshape(x.shape[0], -1) - world.mean[None]
    squares = jnp.sum(deviation * jnp.linalg.solve(noisy, deviation.T).T, axis=-1)
    return -0.5 * (squares + jnp.linalg.slogdet(2.0 * jnp.pi * noisy)[1])


def windows(world, count=6, dtype=np.float64):
    return jnp.asarray(2.0 * np.random.default_rng(1).normal(size=(count, *world.shape)), dtype)


def levels(num_levels, dtype=np.float64, bottom=BOTTOM, top=TOP):
    return jnp.asarray(oracles.karras(num_levels, top, bottom), dtype)


def test_the_error_is_of_order_two_in_the_steps():
    """With the world's own density at the top: slope of log error on log step size, float64."""
    counts, errors = [32, 64, 128], []
    with jax.enable_x64(True):
        world = oracles.correlated_world(jnp.float64)
        x = windows(world)
        for count in counts:
            run = quickly.jit(lambda x, sigmas: likelihood.log_likelihood(
                world.denoise, x, sigmas, log_prior=lambda x, sigma: exact(world, x, sigma)
            ))  # fmt: skip
            errors.append(float(jnp.max(jnp.abs(run(x, levels(count + 1)) - exact(world, x, BOTTOM)))))
    assert -np.polyfit(np.log(counts), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.25)
    assert errors[-1] < 0.05


def test_of_clean_windows_by_the_library_s_own_levels_in_float32():
    """From 0.002 to 80 by the standard prior: what clean windows have, whose smallest variance is 0.2."""
    world = oracles.correlated_world()
    x = windows(world, dtype=np.float32)
    run = quickly.jit(lambda x: likelihood.log_likelihood(world.denoise, x, oracles.edm_karras(128)))
    # Left: steps, the prior (whose mean and variance are not the world's: about 1 / 80 of a unit), and rounding.
    np.testing.assert_allclose(run(x), exact(world, x, 0.0), atol=0.1)


def test_probes_have_the_exact_trace_as_their_mean():
    """Within four standard errors over 256 keys, and with several probes a call within fewer."""
    world = oracles.correlated_world()
    x, sigmas = windows(world, 2, np.float32), levels(12, np.float32)
    run = lambda num_probes: quickly.jit(jax.vmap(
        lambda key: likelihood.log_likelihood(world.denoise, x, sigmas, key, num_probes)
    ))(jax.random.split(jax.random.key(2), 256))  # fmt: skip
    expected, one, four = likelihood.log_likelihood(world.denoise, x, sigmas), run(1), run(4)
    for found in (one, four):
        assert np.all(np.abs(found.mean(0) - expected) < 4.0 * found.std(0) / np.sqrt(256))
    # The standard deviation halves; of 256 draws it is known to 1 / sqrt(512) = 4 %.
    np.testing.assert_allclose(one.std(0) / four.std(0), 2.0, rtol=0.25)


def test_a_trace_by_hand_does_not_need_symmetry():
    """D = M x in each row of 2: the trace is 3 rows times 1 + 4, and signs see the other diagonal too, with mean 0."""
    matrix = jnp.array([[1.0, 2.0], [-3.0, 4.0]])
    x = jnp.ones((2, 3, 2))
    np.testing.assert_allclose(likelihood.exact_trace(lambda v: v @ matrix.T, x), 15.0)
    # e . M e = 1 + 4 + (2 - 3) e_1 e_2 a row: 15 -+ 1 -+ 1 -+ 1
    found = likelihood.estimated_trace(lambda v: v @ matrix.T, x, jax.random.key(0), num_probes=1)
    assert set(np.asarray(found).tolist()) <= {12.0, 14.0, 16.0, 18.0}


def test_probes_need_a_key():
    with pytest.raises(ValueError, match="key"):
        likelihood.log_likelihood(lambda x, s: x, jnp.ones((1, 2, 2)), schedules.karras(3), num_probes=1)
