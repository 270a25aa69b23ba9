"""The rules of guidance. With D(x; s) the clean window, v(s) = s^2 / (s^2 + 1) its variance for unit-variance data,
J = dD/dx, and g = grad log pi and h = -diag Hess log pi >= 0 at the actions of D(x; s):

    score       D_a + v lambda g                        the tilt of N(D, v) to first order
    proximal    D_a + v lambda g / (1 + v lambda h)     exact for a Gaussian policy; stable for any lambda
    pigdm       D + s^2 J^T [lambda g / (1 + v lambda h)]                 Song et al. 2023 (PiGDM), eq. 7
    jacobian    D + C_a (I + lambda h C_aa)^-1 lambda g,  C = s^2 J^T     the posterior's own covariance: exact for
                                                        Gaussian data and policy (Boys et al. 2023, arXiv 2310.06721)
    paper       x_a <- x_a + lambda_n g / |g| before step n of N          PGD (arXiv 2404.06356), g at D(x; s);
                lambda_n = lambda [(1 - n/N) + 0.3 sin(pi (n+1)/N)], 0 at the last step, |g| over the window's rows
    paper_noised, paper_raw, paper_noised_raw                             the same at x itself; without |g|

For a Gaussian policy N(mu, sp^2) in network space h = 1/sp^2, and "proximal" is
(D_a/v + lambda mu/sp^2) / (1/v + lambda/sp^2). The covariance of clean windows given x is s^2 J (Efron 2011): "pigdm"
and "jacobian" let a nudged action move the whole window, at the price of products with J; the first is the second with
C_aa taken to be v.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgd_jax.core.types import Denoise
from pgd_jax.diffusion import edm
from pgd_jax.diffusion.guidance import GUIDANCE, Guided, Rule, Steering, Tilt, gradient, move, tilt

PAPER_COSINE = 0.3  # c_cos of the published schedule
SMALLEST_NORM = 1e-8
CONJUGATE_GRADIENTS = 3  # of "jacobian"; they start from the answer of "pigdm"
FLATTEST = 1e-6  # v lambda h of an action in which the policy is flat: of no weight, but not 0

# (strength f32[] or f32[B, 1, 1], tilt, variance likewise) -> f32[B, T, A] how far the actions move
Displacement = Callable[[jax.Array, Tilt, jax.Array], jax.Array]


def score_displacement(strength: jax.Array, found: Tilt, variance: jax.Array) -> jax.Array:
    return strength * variance * found.gradient


def proximal_displacement(strength: jax.Array, found: Tilt, variance: jax.Array) -> jax.Array:
    weight = strength * variance
    return weight * found.gradient / (1.0 + weight * found.curvature)


def tilted(denoise: Denoise, steering: Steering, displacement: Displacement) -> Guided:
    """A rule that moves the denoised actions by their own derivatives: no denoiser call more than unguided."""
    log_prob, normalizer = steering.log_prob, steering.normalizer

    def moved(x0: jax.Array, sigma: jax.Array, found: Tilt) -> jax.Array:
        return move(normalizer, x0, displacement(steering.strength(sigma), found, edm.posterior_variance(sigma)))

    def twist(x0: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = tilt(log_prob, normalizer, x0)
        return moved(x0, sigma, found), log_mean_tilt(steering.coefficient, found, edm.posterior_variance(sigma))

    def steer(x0: jax.Array, sigma: jax.Array) -> jax.Array:
        return moved(x0, sigma, tilt(log_prob, normalizer, x0))

    def correct(x0: jax.Array, sigma: jax.Array, step: jax.Array) -> jax.Array:
        if all(steering.guided_steps):
            return steer(x0, sigma)
        # The same choice in every lane, so that it stays one under vmap.
        return jax.lax.cond(jnp.array(steering.guided_steps)[step], steer, lambda x0, _: x0, x0, sigma)

    return Guided(denoise, correct, twist=twist)


def log_mean_tilt(coefficient: jax.Array, found: Tilt, variance: jax.Array) -> jax.Array:
    """log E pi^lambda f32[B] over actions N(D_a, v), pi taken to be Gaussian: a twisting function.

    log pi(D_a + e) = log pi(D_a) + g e - h e^2 / 2, and E exp(lambda g e - lambda h e^2 / 2) =
    exp(v lambda^2 g^2 / (2 (1 + v lambda h))) / sqrt(1 + v lambda h). At v = 0 it is pi^lambda.
    """
    flat = 1.0 + coefficient * variance * found.curvature
    gain = 0.5 * variance * (coefficient * found.gradient) ** 2 / flat - 0.5 * jnp.log(flat)
    return coefficient * found.value + jnp.sum(gain, axis=(-2, -1))


def jacobian(denoise: Denoise, steering: Steering, num_iterations: int) -> Guided:
    """The window moves by its posterior covariance. At noise levels of single windows f32[B] too.

    With b = lambda g and K = lambda h, (I + K C_aa) z = b. Put as z = d u with d = sqrt(K / (1 + v K)) it is symmetric,
    (1 / (1 + v K) + d C_aa d) u = b / sqrt(K (1 + v K)), the identity where C_aa = v, and takes no difference of large
    numbers however sharp the policy. Conjugate gradients for each window, from the right-hand side: that is "pigdm".
    """
    action = steering.normalizer.layout.action

    def guided(x: jax.Array, sigma: jax.Array) -> jax.Array:
        x0, pullback = jax.vjp(lambda x: denoise(x, sigma), x)
        s = jnp.broadcast_to(sigma, (x.shape[0],))[:, None, None]
        found, strength = tilt(steering.log_prob, steering.normalizer, x0), steering.strength(s)
        variance = edm.posterior_variance(s)
        flat = jnp.maximum(variance * strength * found.curvature, FLATTEST)  # v K
        scale = jnp.sqrt(flat / (variance * (1.0 + flat)))  # d

        def covariance(z: jax.Array) -> jax.Array:
            return s**2 * pullback(jnp.zeros_like(x0).at[..., action].set(z))[0]

        def product(u: jax.Array) -> jax.Array:
            return u / (1.0 + flat) + scale * covariance(scale * u)[..., action]

        u = strength * found.gradient / (scale * (1.0 + flat))
        if num_iterations:
            u = conjugate_gradients(product, u, u - product(u), num_iterations)
        shift = covariance(scale * u)
        moved = move(steering.normalizer, x0, shift[..., action])
        return (x0 + shift).at[..., action].set(moved[..., action])

    return Guided(guided)


def conjugate_gradients(
    product: Callable[[jax.Array], jax.Array], y: jax.Array, residual: jax.Array, num_iterations: int
) -> jax.Array:
    """y f32[B, T, A] after so many steps from `y` with its `residual`, each window a system of its own.

    A direction in which the product is not positive, as a network's Jacobian may make it, ends a window's search: the
    next direction is 0, and so is every one after it.
    """

    def dot(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.sum(a * b, axis=(-2, -1), keepdims=True)

    def body(carry: tuple[jax.Array, ...], _: None) -> tuple[tuple[jax.Array, ...], None]:
        y, residual, direction, squared = carry
        image = product(direction)
        bend = dot(direction, image)
        step = jnp.where(bend > 0.0, squared / jnp.where(bend > 0.0, bend, 1.0), 0.0)
        y, residual = y + step * direction, residual - step * image
        following = dot(residual, residual)
        turn = jnp.where(squared > 0.0, following / jnp.where(squared > 0.0, squared, 1.0), 0.0)
        return (y, residual, jnp.where(bend > 0.0, residual + turn * direction, 0.0), following), None

    carry: tuple[jax.Array, ...] = (y, residual, residual, dot(residual, residual))
    return jax.lax.scan(body, carry, None, length=num_iterations)[0][0]


def paper(denoise: Denoise, steering: Steering, is_denoised: bool, is_normalised: bool) -> Guided:
    """The published rule. It depends on the number of steps, since every step adds its shift.

    A zero gradient stays zero; the released code divides by the norm before it adds its epsilon (NaN).
    """
    num_steps, action = steering.num_steps, steering.normalizer.layout.action

    def shift(x: jax.Array, sigma: jax.Array, step: jax.Array) -> jax.Array:
        g = gradient(steering.log_prob, steering.normalizer, denoise(x, sigma) if is_denoised else x)
        if is_normalised:
            norm = jnp.sqrt(jnp.sum(g**2, axis=(-2, -1), keepdims=True))
            g = g / jnp.maximum(norm, SMALLEST_NORM)
        n = step.astype(x.dtype)
        schedule = (1.0 - n / num_steps) + PAPER_COSINE * jnp.sin(jnp.pi * (n + 1.0) / num_steps)
        strength = steering.strength(sigma) * jnp.where(step == num_steps - 1, 0.0, schedule)
        return x.at[..., action].add(strength * g)

    return Guided(denoise, shift=shift, is_at_noised=not is_denoised)


GUIDANCE.add("score", Rule(functools.partial(tilted, displacement=score_displacement), is_twisting=True))
GUIDANCE.add("proximal", Rule(functools.partial(tilted, displacement=proximal_displacement), is_twisting=True))
GUIDANCE.add("pigdm", Rule(functools.partial(jacobian, num_iterations=0), per_call=1))
GUIDANCE.add(
    "jacobian",
    Rule(functools.partial(jacobian, num_iterations=CONJUGATE_GRADIENTS), per_call=2 + CONJUGATE_GRADIENTS),
)
GUIDANCE.add("paper", Rule(functools.partial(paper, is_denoised=True, is_normalised=True), per_step=1))
GUIDANCE.add("paper_noised", Rule(functools.partial(paper, is_denoised=False, is_normalised=True)))
GUIDANCE.add("paper_raw", Rule(functools.partial(paper, is_denoised=True, is_normalised=False), per_step=1))
GUIDANCE.add("paper_noised_raw", Rule(functools.partial(paper, is_denoised=False, is_normalised=False)))
