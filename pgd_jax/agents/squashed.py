"""A Gaussian policy squashed by tanh, as in SAC: u ~ N(mean(s), std(s)^2), a = tanh(u).

    log pi(a | s) = log N(u; mean(s), std(s)^2) - sum log(1 - a^2)

Haarnoja et al. 2018 (arXiv 1812.05905), appendix on enforcing action bounds. The network returns mean and log std of u:
`mlp.unsquashed_gaussian_policy`.
"""

import jax
import jax.numpy as jnp

from pgd_jax.agents import losses
from pgd_jax.core.types import Params
from pgd_jax.data import normalizer as normalizers
from pgd_jax.networks.base import Network

# Beyond this |a|, log_prob replaces arctanh by its tangent: datasets hold actions of exactly -1 and 1, where u is
# infinite. Generated windows never exceed it.
EDGE = normalizers.ACTION_LIMIT


def sample(
    network: Network, params: Params, obs: jax.Array, key: jax.Array, sample_shape: tuple[int, ...] = ()
) -> tuple[jax.Array, jax.Array]:
    """obs [..., O] -> (action [*sample_shape, ..., A] in [-1, 1], log pi(a | s) [*sample_shape, ...]).

    Differentiable in `params`. The log density is computed from u, before tanh is rounded, so it is finite even where
    the action is exactly 1.
    """
    mean, log_std = network.apply(params, obs)
    mean, log_std = (jnp.broadcast_to(x, (*sample_shape, *x.shape)) for x in (mean, log_std))
    u = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
    return jnp.tanh(u), losses.gaussian_log_prob(u, mean, log_std) - normalizers.log_slope(u).sum(axis=-1)


def act(network: Network, params: Params, obs: jax.Array) -> jax.Array:
    """tanh(mean(s)) [..., A]."""
    return jnp.tanh(network.apply(params, obs)[0])


def preimage_log_prob(network: Network, params: Params, obs: jax.Array, u: jax.Array) -> jax.Array:
    """log N(u; mean(s), std(s)^2) [...] for obs [..., O] and u [..., A]."""
    return losses.gaussian_log_prob(u, *network.apply(params, obs))


def log_prob(network: Network, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
    """log pi(a | s) [...] for obs [..., O] and any action [..., A]. Its gradient is finite and points to the policy.

    It is exact up to |a| = EDGE. Beyond, u(a) follows the tangent of arctanh. The result is still a density over all
    actions, and it falls with the distance from the mean.
    """
    mean, log_std = network.apply(params, obs)
    inside = jnp.clip(action, -EDGE, EDGE)
    slope = 1.0 / (1.0 - jnp.square(inside))  # du/da
    u = jnp.arctanh(inside) + (action - inside) * slope
    return losses.gaussian_log_prob(u, mean, log_std) + jnp.log(slope).sum(axis=-1)
