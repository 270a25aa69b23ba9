"""Policy guidance: a policy's log density folded into a Denoise, so that any sampler is steered.

The target is p_lambda(tau) ~ p_off(tau) prod_t pi(a_t | s_t)^lambda, the behaviour-regularised target distribution of
PGD (arXiv 2404.06356). A share kappa of the behaviour policy's density may be divided out,
prod_t (pi / beta^kappa)^lambda, as the exact on-policy tilt does for kappa = 1 (STITCH-OPE, 2025).

Derivatives are taken with respect to the network-space (pre-tanh, standardised) action columns only; nothing flows into
the policy's states. The rules are in rules.py. lambda may depend on the noise level, lambda(s) = lambda w(s) within an
interval of levels and 0 outside it (Kynkaanniemi et al. 2024, arXiv 2404.07724).

The policy's network need not be evaluated in every guided step: from one to the next the states of the denoised window
hardly move, so that log pi, once known to second order in the action, stays known (exactly so for a Gaussian policy
whose state stands still).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from pgd_jax.data import codec as codecs
from pgd_jax.diffusion import samplers
from pgd_jax.registry import Registry
from pgd_jax.types import Codec, Denoise, LogProb

EVERY_SIGMA = 1e6  # no noise level is higher
UNGUIDED, EVALUATED, KEPT = 0, 1, 2  # modes of a step: the policy is evaluated, or what is known of it is kept


@struct.dataclass
class Hyper:
    """The floats of guidance besides lambda; lanes may differ in them."""

    sigma_min: jax.Array | float = 0.0  # guides from this noise level ...
    sigma_max: jax.Array | float = EVERY_SIGMA  # ... to this one, and nowhere else
    behaviour: jax.Array | float = 0.0  # kappa, the share of the behaviour policy's density that is divided out


class Guided(NamedTuple):
    """What a sampler needs: `sample(key, guided.denoise, sigmas, shape, guided.options(shape, ...))`.

    Rules that move the denoised window by its own derivatives do so in `correct`, which knows the step, so that steps
    that are not guided cost nothing. The paper's rule moves the sample between steps by `shift`, which no denoiser can
    express without knowing the next noise level. Rules that need the denoiser's Jacobian are all in `denoise`.
    """

    denoise: Denoise
    correct: samplers.Correct = samplers.uncorrected
    held: Callable[[tuple[int, ...]], Any] = lambda shape: ()  # what `correct` keeps from step to step, at first
    shift: samplers.Shift = samplers.identity
    twist: samplers.Twist = samplers.untwisted

    def options(self, shape: tuple[int, ...], **others: Any) -> samplers.Options:
        """For windows of `shape` [B, T, D]; `others` are the members of Options that are not guidance."""
        return samplers.Options(
            correct=self.correct, held=self.held(shape), shift=self.shift, twist=self.twist, **others
        )

    def denoised(self, x: jax.Array, sigma: jax.Array, step: int = 0) -> jax.Array:
        """D_lambda(x; sigma), as a sampler sees it in this step if it is its first."""
        return self.correct(self.denoise(x, sigma), sigma, jnp.int32(step), self.held(x.shape))[0]


class Steering(NamedTuple):
    """What a rule may use."""

    log_prob: LogProb
    codec: Codec
    coefficient: jax.Array  # lambda f32[]
    strength: Callable[[jax.Array], jax.Array]  # sigma f32[] or f32[B] -> lambda(sigma), same shape
    is_inside: Callable[[jax.Array], jax.Array]  # sigma -> whether it is guided there, whatever lambda is
    is_turn: Callable[[jax.Array], jax.Array]  # step i32[] -> whether the policy is evaluated in it
    num_steps: int  # the sampler's N
    modes: tuple[int, ...]  # of each step: UNGUIDED, EVALUATED or KEPT


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
    codec: Codec,
    coefficient: jax.Array,
    num_steps: int,
    rule: str = "proximal",
    schedule: str = "constant",
    hyper: Hyper = Hyper(),
    policy_every: int = 1,
    modes: tuple[int, ...] | None = None,
) -> Guided:
    """Folds the policy's score into `denoise` with strength `coefficient` (lambda, f32[]).

    lambda = 0 gives unguided samples bit for bit; only between separately compiled programs may XLA's rounding differ.
    `num_steps` is the sampler's N. The rules "score" and "proximal" evaluate the policy in the first guided step and in
    every `policy_every`-th, counted from the last. `modes` (`modes_of`; None: EVALUATED in all) only save work.
    """
    weight = SCHEDULES.get(schedule)

    def is_inside(sigma: jax.Array) -> jax.Array:
        return (hyper.sigma_min <= sigma) & (sigma <= hyper.sigma_max)

    def strength(sigma: jax.Array) -> jax.Array:
        return jnp.where(is_inside(sigma), coefficient * weight(sigma), 0.0)

    modes = modes or (EVALUATED,) * num_steps
    turn = functools.partial(is_turn, num_steps=num_steps, policy_every=policy_every)
    steering = Steering(log_prob, codec, coefficient, strength, is_inside, turn, num_steps, modes)
    return GUIDANCE.get(rule).build(denoise, steering)


def is_turn(step: jax.Array | np.ndarray, num_steps: int, policy_every: int) -> jax.Array | np.ndarray:
    """Whether the policy is evaluated in this step i32[...], by its distance from the last."""
    return (num_steps - 1 - step) % policy_every == 0


def modes_of(is_guided: np.ndarray, policy_every: int) -> tuple[int, ...]:
    """What has to be done in each of N steps so that each lane is guided where `is_guided` bool[L, N] says.

    Static, as a choice that differs between lanes would have to take both branches: the most that any lane needs.
    """
    num_steps = is_guided.shape[1]
    is_first = is_guided & (np.cumsum(is_guided, axis=1) == 1)
    turns = is_turn(np.arange(num_steps), num_steps, policy_every)
    needed = np.where(is_first | is_guided & turns, EVALUATED, np.where(is_guided, KEPT, UNGUIDED))
    return tuple(EVALUATED if EVALUATED in column else max(column) for column in needed.T.tolist())


def uniform(obs: jax.Array, action: jax.Array) -> jax.Array:
    """log density of the policy that has no opinion: guiding by it is not guiding."""
    del obs
    return jnp.zeros(action.shape[:-1], action.dtype)


def without_behaviour(log_prob: LogProb, behaviour: LogProb, share: jax.Array) -> LogProb:
    """log pi - share log beta: guiding by it leaves out a share of what the data's own policy prefers."""
    return lambda obs, action: log_prob(obs, action) - share * behaviour(obs, action)


def gradient(log_prob: LogProb, codec: Codec, x: jax.Array) -> jax.Array:
    """g f32[B, T, A]: gradient of log pi(a | s) at the window x f32[B, T, D] w.r.t. its action columns."""
    obs, u = x[..., codec.layout.obs], x[..., codec.layout.action]
    return jax.grad(lambda u: jnp.sum(log_prob(obs, codecs.decode_action(codec, u))))(u)


class Quadratic(NamedTuple):
    """log pi(. | s) near an action to second order, environment space: all of it for a Gaussian policy."""

    action: jax.Array  # f32[B, T, A] where it was taken
    value: jax.Array  # f32[B, T] log pi there
    gradient: jax.Array  # f32[B, T, A]
    curvature: jax.Array  # f32[B, T, A] >= 0, minus the diagonal of the Hessian


def quadratic(log_prob: LogProb, codec: Codec, x: jax.Array) -> Quadratic:
    """Of log pi at the window x f32[B, T, D].

    One Hessian-vector product an action dimension; a policy network is evaluated once.
    """
    obs, action = x[..., codec.layout.obs], codecs.decode_action(codec, x[..., codec.layout.action])

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
    return Quadratic(action, value, gradient, jnp.maximum(-diagonal, 0.0))


def tilt(near: Quadratic, codec: Codec, x: jax.Array) -> Tilt:
    """log pi, its gradient and Gauss-Newton curvature at the window x f32[B, T, D], whose states are those of `near`.

    The policy's Hessian is taken in its own coordinates (exact for a Gaussian) and carried through tanh to first order,
    so it stays positive semi-definite.
    """
    u = x[..., codec.layout.action]
    action, slope = jax.jvp(lambda u: codecs.decode_action(codec, u), (u,), (jnp.ones_like(u),))
    away = action - near.action
    value = jnp.sum(near.value, axis=-1) + jnp.sum(away * (near.gradient - 0.5 * near.curvature * away), axis=(-2, -1))
    return Tilt(value, slope * (near.gradient - near.curvature * away), slope**2 * near.curvature)


def move(codec: Codec, x0: jax.Array, shift: jax.Array) -> jax.Array:
    """x0 f32[B, T, D] with its action columns moved by `shift` f32[B, T, A], but not out of the data's own range.

    Encoded actions lie within +-arctanh(0.999), hence so does every true posterior mean: a rule that leaves the range
    has left what it is an approximation of, and could run away. What is not moved is not changed by a bit.
    """
    action = codec.layout.action
    if codec.squash:
        a = x0[..., action]
        low, high = (jnp.broadcast_to(bound, a.shape) for bound in codecs.action_range(codec))
        shift = jnp.clip(shift, jnp.minimum(low - a, 0.0), jnp.maximum(high - a, 0.0))
    return x0.at[..., action].add(shift)
