"""The rules that move whole windows by the denoiser's Jacobian, against closed forms in a correlated Gaussian world."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.types import Layout
from pgd_jax.diffusion import guidance, rules
from tests import oracles, quickly

LAYOUT = Layout(obs_dim=2, action_dim=2)
SHAPE = (2, LAYOUT.dim)  # T, D
DIM = SHAPE[0] * SHAPE[1]
ACTIONS = np.array([t * LAYOUT.dim + i for t in range(SHAPE[0]) for i in (2, 3)])  # of a flattened window
CENTRE, STDS = np.array([0.9, -0.4]), np.array([0.3, 0.6])
COEFFICIENT = 0.7
SIGMAS = (0.05, 0.5, 3.0, 80.0)


def constant_policy(stds=STDS):
    return oracles.gaussian_policy(lambda obs: jnp.asarray(CENTRE, obs.dtype).reshape(1, 1, 2), stds)


def exact(world, coefficient, stds=STDS):
    """The world tilted by the constant policy."""
    weights = np.tile(coefficient / stds**2, SHAPE[0])
    return world.tilted(np.eye(DIM)[ACTIONS], np.tile(CENTRE, SHAPE[0]), weights)


def denoised(world, rule, policy, coefficient=COEFFICIENT, num_iterations=rules.CONJUGATE_GRADIENTS):
    """The function D_lambda(x, sigma); of "jacobian" with so many conjugate gradients."""
    normalizer, dtype = oracles.plain_normalizer(LAYOUT, world.mean.dtype), world.mean.dtype.type
    guided = oracles.guide(world.denoise, policy, normalizer, dtype(coefficient), 1, rule)
    if rule == "jacobian":
        steering = guidance.Steering(
            policy, normalizer, dtype(coefficient), lambda sigma: jnp.full_like(sigma, coefficient),
            num_steps=1, guided_steps=(True,),
        )  # fmt: skip
        guided = rules.jacobian(world.denoise, steering, num_iterations)
    return lambda x, sigma: guided.denoised(x, jnp.asarray(sigma, x.dtype))


def windows(dtype=np.float64):
    return jnp.asarray(2.0 * np.random.default_rng(2).normal(size=(16, *SHAPE)), dtype)


def posterior(world, x, sigma):
    """(mean [B, DIM], covariance [DIM, DIM]) of clean windows, in float64 numpy."""
    m, S = np.asarray(world.mean, np.float64), np.asarray(world.covariance, np.float64)
    J = S @ np.linalg.inv(S + sigma**2 * np.eye(DIM))
    return m + (np.asarray(x, np.float64).reshape(-1, DIM) - m) @ J.T, sigma**2 * J


def test_pigdm_is_its_closed_form():
    with jax.enable_x64(True):
        world, x = oracles.correlated_world(jnp.float64, SHAPE), windows()
        run = quickly.jit(denoised(world, "pigdm", constant_policy()))
        found = [np.asarray(run(x, sigma)).reshape(-1, DIM) for sigma in SIGMAS]
    for sigma, window in zip(SIGMAS, found, strict=True):
        D, covariance = posterior(world, x, sigma)
        h = np.tile(1.0 / STDS**2, 2)
        g, v = h * (np.tile(CENTRE, 2) - D[:, ACTIONS]), sigma**2 / (1.0 + sigma**2)
        shift = (COEFFICIENT * g / (1.0 + v * COEFFICIENT * h)) @ covariance[ACTIONS]
        np.testing.assert_allclose(window, D + shift, atol=1e-10)
        assert np.abs(shift[:, 0]).max() > 0.01 * sigma**2 / (1.0 + sigma**2), "actions move observations"


def test_pigdm_goes_back_through_the_denoiser_of_which_the_jacobian_need_not_be_symmetric():
    """D = M x: the shift is s^2 M^T in all columns of what the policy wants of the actions of M x."""
    matrix = np.random.default_rng(3).normal(size=(LAYOUT.dim, LAYOUT.dim))
    x, sigma, h = np.asarray(windows(np.float32), np.float64), 0.5, 1.0 / STDS**2
    with jax.enable_x64(True):
        normalizer = oracles.plain_normalizer(LAYOUT, jnp.float64)
        transposed, policy = jnp.asarray(matrix.T), constant_policy()
        guided = oracles.guide(
            lambda x, sigma: x @ transposed, policy, normalizer, jnp.float64(COEFFICIENT), 1, "pigdm"
        )
        found = quickly.jit(guided.denoised)(x, np.float64(sigma))
    D = x @ matrix.T
    wanted = COEFFICIENT * h * (CENTRE - D[..., 2:4]) / (1.0 + sigma**2 / (1.0 + sigma**2) * COEFFICIENT * h)
    np.testing.assert_allclose(found, D + sigma**2 * wanted @ matrix[2:4], atol=1e-10)


def test_jacobian_is_the_exact_posterior_mean_of_the_tilted_world():
    with jax.enable_x64(True):
        world, x = oracles.correlated_world(jnp.float64, SHAPE), windows()
        tilted = exact(world, COEFFICIENT)
        policy = constant_policy()
        run = {n: quickly.jit(denoised(world, "jacobian", policy, num_iterations=n)) for n in (0, 3, 8)}
        for sigma in SIGMAS:
            expected = posterior(tilted, x, sigma)[0].reshape(x.shape)
            error = {n: np.abs(run[n](x, sigma) - expected).max() for n in run}
            assert error[8] < 1e-9
            # The registered three, in a space of four actions: most of the way from "pigdm", which is the start.
            assert error[3] < 0.25 * error[0]


def test_jacobian_samples_are_the_tilted_gaussian():
    """All columns of all rows; from a noise so high that the mean of what is noised does not matter."""
    with jax.enable_x64(True):
        world = oracles.correlated_world(jnp.float64, SHAPE)
        run = denoised(world, "jacobian", constant_policy(), num_iterations=8)
        mean, covariance = oracles.affine_moments("heun", guidance.Guided(run), oracles.karras(128, 2_000.0), SHAPE)
        target = exact(world, COEFFICIENT)
    np.testing.assert_allclose(mean, target.mean, atol=0.01)
    np.testing.assert_allclose(covariance, target.covariance, rtol=0.01, atol=0.01)
    assert np.abs(world.covariance - target.covariance)[:2].max() > 0.2, "observations are tilted with the actions"


def test_jacobian_is_exact_for_sharp_policies_in_float32():
    """lambda / sp^2 up to 1e10: no digit may be lost to differences of numbers of that size."""
    world, x, coefficient = oracles.correlated_world(jnp.float32, SHAPE), windows(np.float32), 1_000.0

    @quickly.jit
    def run(x, sigma, stds):
        return denoised(world, "jacobian", constant_policy(stds), coefficient, num_iterations=8)(x, sigma)

    for stds in (0.1 * STDS, 1e-3 * STDS):
        tilted = exact(world, coefficient, stds)
        for sigma in SIGMAS:
            expected = posterior(tilted, x, sigma)[0].reshape(x.shape)
            np.testing.assert_allclose(run(x, sigma, stds.astype(np.float32)), expected, atol=1e-4)


@pytest.mark.parametrize("rule", ["pigdm", "jacobian"])
def test_a_policy_without_curvature_moves_windows_by_their_covariance(rule):
    """log pi = w . a tilts N(D, C) by C_a lambda w, exactly."""
    w = np.array([3.0, -1.0])
    with jax.enable_x64(True):
        world, x = oracles.correlated_world(jnp.float64, SHAPE), windows()
        found = quickly.jit(denoised(world, rule, lambda obs, action: action @ jnp.asarray(w)))(x, 0.5)
    D, covariance = posterior(world, x, 0.5)
    shift = COEFFICIENT * covariance[:, ACTIONS] @ np.tile(w, 2)
    np.testing.assert_allclose(np.asarray(found).reshape(-1, DIM) - D, np.broadcast_to(shift, D.shape), atol=1e-5)


@pytest.mark.parametrize("rule", ["pigdm", "jacobian"])
def test_rules_with_the_jacobian_are_proximal_in_a_unit_world(rule):
    with jax.enable_x64(True):
        world, x = oracles.unit_world(SHAPE, jnp.float64), windows()
        run, expected = (quickly.jit(denoised(world, name, constant_policy())) for name in (rule, "proximal"))
        for sigma in SIGMAS:
            np.testing.assert_allclose(run(x, sigma), expected(x, sigma), atol=1e-12)


def test_conjugate_gradients_solve_a_batch_of_systems():
    """In as many steps as a window has actions, from any start; each window is a system of its own."""
    generator, shape = np.random.default_rng(0), (5, 3, 2)
    root = generator.normal(size=(5, 6, 6))
    matrix = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(6)
    right, start = generator.normal(size=(5, 6)), generator.normal(size=(5, 6))
    start[1] = np.linalg.solve(matrix[1], right[1])  # nothing is left to do
    start[2], right[2] = 0.0, 0.0
    with jax.enable_x64(True):

        def product(y):
            return jnp.einsum("bij,bj->bi", jnp.asarray(matrix), y.reshape(5, 6)).reshape(shape)

        residual = right - np.einsum("bij,bj->bi", matrix, start)
        found = rules.conjugate_gradients(product, *(jnp.asarray(a).reshape(shape) for a in (start, residual)), 6)
    expected = np.linalg.solve(matrix, right[..., None])[..., 0]
    np.testing.assert_allclose(np.asarray(found).reshape(5, 6), expected, atol=1e-8)


def test_conjugate_gradients_end_where_the_matrix_is_not_positive():
    """diag(1, 2, -0.3): the first direction, (1, 1, 1), bends upwards, the second does not. Nothing moves after it."""
    diagonal, right = jnp.array([1.0, 2.0, -0.3]).reshape(1, 1, 3), jnp.ones((1, 1, 3))
    run = quickly.jit(rules.conjugate_gradients, static_argnums=(0, 3))
    for num_iterations in (1, 2, 8):
        found = run(lambda y: y * diagonal, jnp.zeros((1, 1, 3)), right, num_iterations)
        # One step: r.r / r.Ar = 3 / 2.7 along r.
        np.testing.assert_allclose(found, right / 0.9, rtol=1e-5)
