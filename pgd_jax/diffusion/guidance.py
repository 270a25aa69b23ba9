"""Policy guidance: a policy's log density folded into a Denoise, so that any sampler is steered.

The target is p_lambda(tau) ~ p_off(tau) prod_t pi(a_t | s_t)^lambda, the behaviour-regularised target distribution of
PGD (arXiv 2404.06356). A share kappa of the behaviour policy's density may be divided out,
prod_t (pi / beta^kappa)^lambda, as the exact on-policy tilt does for kappa = 1 (STITCH-OPE, 2025).

Derivatives are taken with respect to the network-space (pre-tanh, standardised) action columns only; nothing flows into
the policy's states. The rules are in rules.py. lambda may depend on the noise level, lambda(s) = lambda w(s) within an
interval of levels and 0 outside it (Kynkaanniemi et al. 2024, arXiv 2404.07724).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from pgd_jax.core import ranges
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.registry import Registry
from pgd_jax.core.types import Denoise, LogProb, Normalizer, Squashed
from pgd_jax.data import normalizer as normalizers
from pgd_jax.diffusion import samplers

COEFFICIENT = 10.0  # lambda: the most at which dynamics error stays below 1.5 times that of unguided data
EVERY_SIGMA = 1e6  # no noise level is higher


@struct.dataclass
class Interval:
    """Where guidance acts, and on what; floats, so that lanes may differ. Chosen by experiments/guidance_study."""

    sigma_min: Float = setting(0.0, "guidance acts from this noise level ...", ranges.NOT_NEGATIVE)
    sigma_max: Float = setting(2.0, "... to this one, and nowhere else (PGD: at every level)", ranges.POSITIVE)
    behaviour: Float = setting(
        0.0, "kappa: share of the behaviour policy's density that is divided out", ranges.NOT_NEGATIVE
    )


class Steering(NamedTuple):
    """What a rule may use."""

    log_prob: LogProb
    normalizer: Normalizer
    coefficient: jax.Array  # lambda f32[]
    strength: Callable[[jax.Array], jax.Array]  # sigma f32[] or f32[B] -> lambda(sigma), same shape
    num_steps: int  # the sampler's N
    guided_steps: tuple[bool, ...]  # of the N: in which of them any lane is guided


class Guided(NamedTuple):
    """What a sampler needs: `sample(key, guided.denoise, sigmas, shape, guided.options(...))`.

    Rules that move the denoised window by its own derivatives do so in `correct`, which knows the step, so that steps
    that are not guided cost nothing. The paper's rule moves the sample between steps by `shift`, which no denoiser can
    express without knowing the next noise level. Rules that need the denoiser's Jacobian are all in `denoise`.
    """

    denoise: Denoise
    correct: samplers.Correct = samplers.identity
    shift: samplers.Shift = samplers.identity
    twist: samplers.Twist = samplers.untwisted
    is_at_noised: bool = False  # whether `shift` evaluates the policy at the noised window, not at the denoised one
    steering: Steering | None = None  # what it was built from, which `guide` adds; None: nothing steers

    def options(self, **others: Any) -> samplers.Options:
        """`others` are the members of Options that are not guidance."""
        return samplers.Options(correct=self.correct, shift=self.shift, twist=self.twist, **others)

    def denoised(self, x: jax.Array, sigma: jax.Array, step: int = 0) -> jax.Array:
        """D_lambda(x; sigma), as a sampler sees it in this step."""
        return self.correct(self.denoise(x, sigma), sigma, jnp.int32(step))


class Rule(NamedTuple):
    """A registered rule and what it costs beyond an unguided sampling's denoiser calls."""

    build: Callable[[Denoise, Steering], Guided]
    per_step: int = 0  # more calls in each step
    per_call: int = 0  # more calls' worth of work with each call: a product with the Jacobian counts as one
    is_twisting: bool = False  # whether the twisted sampler can correct it

    def calls(self, sampler: samplers.Sampler, num_steps: int) -> int:
        """Denoiser calls of a guided sampling of N steps."""
        return sampler.calls(num_steps) * (1 + self.per_call) + num_steps * self.per_step


class Tilt(NamedTuple):
    """log pi and its derivatives at the action columns of a window."""

    value: jax.Array  # f32[B], the sum over the window's rows
    gradient: jax.Array  # g f32[B, T, A], network space
    curvature: jax.Array  # h >= 0, likewise: minus the diagonal of the Hessian, Gauss-Newton through the tanh


GUIDANCE: Registry[Rule] = Registry("guidance rule")

# sigma -> w(sigma) in [0, 1]
SCHEDULES: Registry[Callable[[jax.Array], jax.Array]] = Registry("guidance schedule")
SCHEDULES.add("constant", jnp.ones_like)
SCHEDULES.add("rising", lambda sigma: 1.0 / (1.0 + sigma**2))  # as the noise falls
SCHEDULES.add("falling", lambda sigma: sigma**2 / (1.0 + sigma**2))


def guide(
    denoise: Denoise,
    log_prob: LogProb,
    normalizer: Normalizer,
    coefficient: jax.Array,
    num_steps: int,
    rule: str = "proximal",
    schedule: str = "constant",
    interval: Interval = Interval(),
    guided_steps: tuple[bool, ...] | None = None,
) -> Guided:
    """Folds the policy's score into `denoise` with strength `coefficient` (lambda, f32[]).

    lambda = 0 gives unguided samples bit for bit; only between separately compiled programs may XLA's rounding differ.
    `num_steps` is the sampler's N. `guided_steps` (None: all) only save work: elsewhere the policy is not evaluated.
    """
    weight = SCHEDULES.get(schedule)

    def strength(sigma: jax.Array) -> jax.Array:
        is_inside = (interval.sigma_min <= sigma) & (sigma <= interval.sigma_max)
        return jnp.where(is_inside, coefficient * weight(sigma), 0.0)

    steering = Steering(log_prob, normalizer, coefficient, strength, num_steps, guided_steps or (True,) * num_steps)
    return GUIDANCE.get(rule).build(denoise, steering)._replace(steering=steering)


def uniform(obs: jax.Array, action: jax.Array) -> jax.Array:
    """log density of the policy that has no opinion: guiding by it is not guiding."""
    del obs
    return jnp.zeros(action.shape[:-1], action.dtype)


def without_behaviour(log_prob: LogProb, behaviour: LogProb, share: Float) -> LogProb:
    """log pi - share log beta: guiding by it leaves out a share of what the data's own policy prefers."""

    def of_action(obs: jax.Array, action: jax.Array) -> jax.Array:
        return log_prob(obs, action) - share * behaviour(obs, action)

    if not isinstance(log_prob, Squashed):
        return of_action
    preimage = log_prob.preimage

    def of_preimage(obs: jax.Array, u: jax.Array) -> jax.Array:
        of_behaviour = behaviour(obs, jnp.tanh(u)) + normalizers.log_slope(u).sum(axis=-1)  # its density of u
        return preimage(obs, u) - share * of_behaviour

    return Squashed(of_action, of_preimage)


def in_own_coordinates(log_prob: LogProb, normalizer: Normalizer) -> tuple[LogProb, Callable[[jax.Array], jax.Array]]:
    """(the density, its argument by the network-space action [..., A]): the action itself, or u of a = tanh(u)."""
    if isinstance(log_prob, Squashed) and normalizer.squash:
        return log_prob.preimage, functools.partial(normalizers.decode_preimage, normalizer)
    return log_prob, functools.partial(normalizers.decode_action, normalizer)


def gradient(log_prob: LogProb, normalizer: Normalizer, x: jax.Array) -> jax.Array:
    """g f32[B, T, A]: gradient of log pi(a | s) at the window x f32[B, T, D] w.r.t. its action columns."""
    obs, u = x[..., normalizer.layout.obs], x[..., normalizer.layout.action]
    log_prob, decode = in_own_coordinates(log_prob, normalizer)
    return jax.grad(lambda u: jnp.sum(log_prob(obs, decode(u))))(u)


def tilt(log_prob: LogProb, normalizer: Normalizer, x: jax.Array) -> Tilt:
    """log pi, its gradient and Gauss-Newton curvature at the window x f32[B, T, D].

    The policy's Hessian is taken in its own coordinates (exact for a Gaussian, of actions or of their preimages) and
    carried to network space to first order, so it stays positive semi-definite. One Hessian-vector product an action
    dimension; a policy network is evaluated once.
    """
    obs, u = x[..., normalizer.layout.obs], x[..., normalizer.layout.action]
    log_prob, decode = in_own_coordinates(log_prob, normalizer)
    action, slope = jax.jvp(decode, (u,), (jnp.ones_like(u),))

    def total(action: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_density = log_prob(obs, action)
        return jnp.sum(log_density), log_density

    score = jax.grad(total, has_aux=True)

    def hessian_column(direction: jax.Array) -> jax.Array:
        tangent = jnp.broadcast_to(direction, action.shape)
        return jax.jvp(lambda action: score(action)[0], (action,), (tangent,))[1] * tangent

    basis = jnp.eye(action.shape[-1], dtype=action.dtype)
    diagonal = jnp.sum(jax.vmap(hessian_column)(basis), axis=0)
    gradient, value = score(action)
    return Tilt(jnp.sum(value, axis=-1), slope * gradient, slope**2 * jnp.maximum(-diagonal, 0.0))


def move(normalizer: Normalizer, x0: jax.Array, shift: jax.Array) -> jax.Array:
    """x0 f32[B, T, D] with its action columns moved by `shift` f32[B, T, A], but not out of the data's own range.

    Encoded actions lie within +-arctanh(0.999), hence so does every true posterior mean: a rule that leaves the range
    has left what it is an approximation of, and could run away. What is not moved is not changed by a bit.
    """
    action = normalizer.layout.action
    if normalizer.squash:
        a = x0[..., action]
        low, high = (jnp.broadcast_to(bound, a.shape) for bound in normalizers.action_range(normalizer))
        shift = jnp.clip(shift, jnp.minimum(low - a, 0.0), jnp.maximum(high - a, 0.0))
    return x0.at[..., action].add(shift)
