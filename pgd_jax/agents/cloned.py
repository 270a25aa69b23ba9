"""The density beta(a | s) of a cloned behaviour policy: a Gaussian with a network's mean and log standard deviation."""

import jax

from pgd_jax.agents import losses
from pgd_jax.core.types import Params
from pgd_jax.networks.base import Network


def log_prob(network: Network, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
    """log beta(a | s) [...] of obs [..., O] in network space and action [..., A] in environment space.

    A LogProb once `network` and `params` are bound. The Gaussian is not squashed: finite at actions of exactly +-1.
    """
    mean, log_std = network.apply(params, obs)
    return losses.gaussian_log_prob(action, mean, log_std)
