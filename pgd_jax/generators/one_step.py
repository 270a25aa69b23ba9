"""The one-step world model: an ensemble's prediction of the next observation, the reward and the end of the episode.

It sees the observation in network space and the action standardised, and says s' - s (network space) and r, both
standardised by the training transitions: in the units of a task, how strongly the log-likelihood pulls at each column
would hang on those units.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from pgd_jax.core.config import SPREAD
from pgd_jax.core.types import Normalizer, Params
from pgd_jax.networks import cpu, ensemble


@struct.dataclass
class Scale:
    """Statistics of the training transitions."""

    action_mean: jax.Array  # f32[A] environment space
    action_std: jax.Array
    target_mean: jax.Array  # f32[O + 1] of s' - s in network space, and of r
    target_std: jax.Array


@struct.dataclass
class Model:
    """What rollouts need: arrays that all lanes read."""

    params: Params  # of the elites, `networks.ensemble`
    scale: Scale
    starts: jax.Array  # f32[N, O] network space: where rollouts begin


class Guess(NamedTuple):
    """What one member says of each row, target units."""

    mean: jax.Array  # f32[B, O + 1]
    std: jax.Array
    logit: jax.Array  # f32[B] of the end of the episode


def inputs(scale: Scale, obs: jax.Array, action: jax.Array) -> jax.Array:
    """obs f32[B, O] network space, action f32[B, A] environment space -> f32[B, O + A]."""
    return jnp.concatenate([obs, (action - scale.action_mean[None]) / scale.action_std[None]], axis=-1)


def targets(scale: Scale, obs: jax.Array, next_obs: jax.Array, reward: jax.Array) -> jax.Array:
    """obs and next_obs f32[B, O] network space, reward f32[B] -> f32[B, O + 1]."""
    found = jnp.concatenate([next_obs - obs, reward[:, None]], axis=-1)
    return (found - scale.target_mean[None]) / scale.target_std[None]


def outcome(scale: Scale, obs: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The inverse of `targets`: (next_obs f32[B, O] network space, reward f32[B])."""
    found = target * scale.target_std[None] + scale.target_mean[None]
    return obs + found[:, :-1], found[:, -1]


def deal(key: jax.Array, num_rows: int, num_members: int) -> jax.Array:
    """i32[E, S]: the rows that each member predicts, S = ceil(B / E).

    Every row has one member, and each with the same chance. Dealt like cards, as then a member computes its own rows
    alone; places left over (numbers B and above) are nobody's.
    """
    share = -(-num_rows // num_members)
    return jax.random.permutation(key, num_members * share).reshape(num_members, share)


def predict_dealt(params: Params, x: jax.Array, dealt: jax.Array) -> Guess:
    """Of each row of x f32[B, in] what its own member says."""
    num_rows = x.shape[0]
    found = _all(params, x[jnp.minimum(dealt, num_rows - 1)])
    place = jnp.argsort(dealt.reshape(-1))[:num_rows]
    mean, log_var, logit = (leaf.reshape(dealt.size, *leaf.shape[2:])[place] for leaf in found)
    return Guess(mean, jnp.exp(0.5 * log_var), logit)


def predict_all(params: Params, x: jax.Array, dealt: jax.Array) -> tuple[Guess, ensemble.Prediction]:
    """As `predict_dealt`, and what all members say of each row."""
    num_rows, (num_members, share) = x.shape[0], dealt.shape
    found = _all(params, jnp.broadcast_to(x[None], (num_members, *x.shape)))
    member = jnp.argsort(dealt.reshape(-1))[:num_rows] // share
    mean, log_var, logit = (leaf[member, jnp.arange(num_rows)] for leaf in found)
    return Guess(mean, jnp.exp(0.5 * log_var), logit), found


def _all(params: Params, x: jax.Array) -> ensemble.Prediction:
    # On CPU lane by lane, as the denoiser is: equal lanes are equal to the bit, whatever other lanes there are.
    return ensemble.split(params, cpu.by_lanes(ensemble.raw)(params, x))


def uncertainty(kind: str, found: ensemble.Prediction, scale: Scale, normalizer: Normalizer) -> jax.Array:
    """u(s, a) f32[B], in the units of the environment's observations and reward.

    "spread": max_i |sigma_i(s, a)|, MOPO's own (Yu et al. 2020, arXiv 2005.13239, section 4.3).
    "disagreement": max_i |mu_i(s, a) - mean_j mu_j(s, a)| of the next observation, without the noise that all members
    expect (Lu et al. 2022, arXiv 2110.04135, section 3, compare such measures).
    """
    unit = scale.target_std * jnp.append(normalizer.std[normalizer.layout.obs], 1.0)
    if kind == SPREAD:
        each = jnp.exp(0.5 * found.log_var) * unit[None, None]
    else:
        each = ((found.mean - jnp.mean(found.mean, axis=0, keepdims=True)) * unit[None, None])[..., :-1]
    return jnp.max(jnp.sqrt(jnp.sum(each**2, axis=-1)), axis=0)
