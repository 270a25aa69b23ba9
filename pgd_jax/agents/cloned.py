"""The density beta(a | s) of a cloned behaviour policy: a Gaussian whose mean and log std are a network's outputs."""

import jax

from pgd_jax.agents import losses
from pgd_jax.core.types import Params
from pgd_jax.networks.base import Network


def log_prob(network: Network, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
    """log beta(a | s) [...] of obs [..., O] in network space and action [..., A] in environment space.

    With `network` and `params` bound, this is a LogProb. The Gaussian is not squashed, so the density is finite at
    actions of exactly +-1.
    """
    mean, log_std = network.apply(params, obs)
    return losses.gaussian_log_prob(action, mean, log_std)
