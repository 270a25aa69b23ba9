"""Policy guidance: a Denoise (and, for the paper's rule, a Shift) wrapped round a policy's log density.

The target is p_lambda(tau) ~ p_off(tau) prod_t pi(a_t | s_t)^lambda, the behaviour-regularised target distribution of
arXiv 2404.06356. The gradient is taken with respect to the network-space (pre-tanh, standardised) action columns only;
nothing flows into states or the network.

Given x at noise s, the clean window has mean D(x; s) and, for unit-variance data, variance v(s) = s^2 / (s^2 + 1). With
g = grad log pi and h = -diag Hess log pi >= 0 at the actions of D(x; s):

    score       D_a + v lambda g                        the tilt to first order
    proximal    D_a + v lambda g / (1 + v lambda h)     the exact tilt of a Gaussian; stable for any lambda
    paper       x_a <- x_a + lambda_n g before step n   the published rule, n of N steps:
                lambda_n = lambda [(1 - n/N) + 0.3 sin(pi (n+1)/N)], 0 at the last step, g normalised per window

For a Gaussian policy N(mu, sp^2) in network space h = 1/sp^2, and "proximal" is
(D_a/v + lambda mu/sp^2) / (1/v + lambda/sp^2).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgd_jax.data import codec as codecs
from pgd_jax.diffusion import edm, samplers
from pgd_jax.registry import Registry
from pgd_jax.types import Codec, Denoise, LogProb

PAPER_COSINE = 0.3  # c_cos of the published schedule


class Guided(NamedTuple):
    """What a sampler needs: `sample(key, guided.denoise, sigmas, shape, churn, guided.shift)`.

    The paper's rule moves the sample between steps, which no denoiser can express without knowing the next noise level;
    hence the second member. Every other rule leaves it the identity.
    """

    denoise: Denoise
    shift: samplers.Shift


class Tilt(NamedTuple):
    """Derivatives of log pi at the action columns of a window, each f32[B, T, A] in network space."""

    gradient: jax.Array  # g
    curvature: jax.Array  # h >= 0, Gauss-Newton through the tanh


Rule = Callable[[Denoise, LogProb, Codec, jax.Array, int], Guided]
GUIDANCE: Registry[Rule] = Registry("guidance rule")


def guide(
    denoise: Denoise, log_prob: LogProb, codec: Codec, coefficient: jax.Array, num_steps: int, rule: str = "proximal"
) -> Guided:
    """Folds the policy's score into `denoise` with strength `coefficient` (lambda, f32[]).

    lambda = 0 gives unguided samples bit for bit; only between separately compiled programs may XLA's rounding differ.
    `num_steps` is the sampler's N, which only "paper" depends on.
    """
    return GUIDANCE.get(rule)(denoise, log_prob, codec, coefficient, num_steps)


def gradient(log_prob: LogProb, codec: Codec, x: jax.Array) -> jax.Array:
    """g f32[B, T, A]: gradient of log pi(a | s) at the window x f32[B, T, D] w.r.t. its action columns."""
    obs, u = x[..., codec.layout.obs], x[..., codec.layout.action]
    return jax.grad(lambda u: jnp.sum(log_prob(obs, codecs.decode_action(codec, u))))(u)


def tilt(log_prob: LogProb, codec: Codec, x: jax.Array) -> Tilt:
    """Gradient and Gauss-Newton curvature of log pi at the window x f32[B, T, D].

    The policy's Hessian is taken in its own coordinates (exact for a Gaussian) and carried through tanh to first order,
    so it stays positive semi-definite. One Hessian-vector product an action dimension; a policy network is evaluated
    once.
    """
    obs, u = x[..., codec.layout.obs], x[..., codec.layout.action]
    action, slope = jax.jvp(lambda u: codecs.decode_action(codec, u), (u,), (jnp.ones_like(u),))
    score = jax.grad(lambda action: jnp.sum(log_prob(obs, action)))

    def hessian_column(direction: jax.Array) -> jax.Array:
        tangent = jnp.broadcast_to(direction, action.shape)
        return jax.jvp(score, (action,), (tangent,))[1] * tangent

    basis = jnp.eye(action.shape[-1], dtype=action.dtype)
    diagonal = jnp.sum(jax.vmap(hessian_column)(basis), axis=0)
    return Tilt(slope * score(action), slope**2 * jnp.maximum(-diagonal, 0.0))


def score_rule(denoise: Denoise, log_prob: LogProb, codec: Codec, coefficient: jax.Array, num_steps: int) -> Guided:
    """The tilt to first order in lambda; bounded at high noise, free of extra denoiser calls."""
    del num_steps

    def guided(x: jax.Array, sigma: jax.Array) -> jax.Array:
        x0 = denoise(x, sigma)
        weight = coefficient * edm.posterior_variance(sigma)
        return x0.at[..., codec.layout.action].add(weight * gradient(log_prob, codec, x0))

    return Guided(guided, samplers.identity_shift)


def proximal_rule(denoise: Denoise, log_prob: LogProb, codec: Codec, coefficient: jax.Array, num_steps: int) -> Guided:
    """The exact tilt where the policy is Gaussian in network space; one implicit (proximal) step elsewhere."""
    del num_steps

    def guided(x: jax.Array, sigma: jax.Array) -> jax.Array:
        x0 = denoise(x, sigma)
        weight = coefficient * edm.posterior_variance(sigma)
        g, h = tilt(log_prob, codec, x0)
        return x0.at[..., codec.layout.action].add(weight * g / (1.0 + weight * h))

    return Guided(guided, samplers.identity_shift)


def paper_rule(denoise: Denoise, log_prob: LogProb, codec: Codec, coefficient: jax.Array, num_steps: int) -> Guided:
    """The published rule at the denoised point: one extra denoiser call a step; depends on the number of steps."""

    def shift(x: jax.Array, sigma: jax.Array, step: jax.Array) -> jax.Array:
        g = gradient(log_prob, codec, denoise(x, sigma))
        norm = jnp.sqrt(jnp.sum(g**2, axis=(-2, -1), keepdims=True))
        # A zero gradient stays zero; the released code divides by the norm before it adds its epsilon (NaN).
        unit = g / jnp.maximum(norm, 1e-8)
        n = step.astype(jnp.float32)
        schedule = (1.0 - n / num_steps) + PAPER_COSINE * jnp.sin(jnp.pi * (n + 1.0) / num_steps)
        strength = coefficient * jnp.where(step == num_steps - 1, 0.0, schedule)
        return x.at[..., codec.layout.action].add(strength * unit)

    return Guided(denoise, shift)


GUIDANCE.add("score", score_rule)
GUIDANCE.add("proximal", proximal_rule)
GUIDANCE.add("paper", paper_rule)
