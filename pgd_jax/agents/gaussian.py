"""A Gaussian policy in environment space. Its mean passes through tanh; its spread does not depend on the state.

It is not squashed: its density is finite at actions of exactly -1 and 1. Its samples are clipped to [-1, 1]. The
network is `mlp.gaussian_policy`.
"""

import jax
import jax.numpy as jnp

from pgd_jax.agents import adam, losses
from pgd_jax.agents.base import Logs
from pgd_jax.core.hyper import Float
from pgd_jax.core.types import Params, Transition
from pgd_jax.networks.base import Network

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


def _mean_and_log_std(network: Network, params: Params, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean, log_std = network.apply(params, obs)
    return mean, jnp.broadcast_to(jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX), mean.shape)


def act(network: Network, params: Params, obs: jax.Array) -> jax.Array:
    """The mean of pi(s) [..., A] for obs [..., O]."""
    return network.apply(params, obs)[0]


def log_prob(network: Network, params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
    """log pi(a | s) [...] of obs [..., O] and action [..., A]."""
    return losses.gaussian_log_prob(action, *_mean_and_log_std(network, params, obs))


def sample(network: Network, params: Params, obs: jax.Array, key: jax.Array) -> jax.Array:
    """a ~ pi(s) [..., A] for obs [..., O], clipped to [-1, 1]."""
    mean, log_std = _mean_and_log_std(network, params, obs)
    return jnp.clip(mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape), -1.0, 1.0)


def regress(
    network: Network,
    actor: adam.Trained,
    batch: Transition,
    weight: jax.Array,
    learning_rate: Float | jax.Array,
    adam_eps: Float,
) -> tuple[adam.Trained, Logs]:
    """One step of advantage-weighted regression, down -w log pi(a | s), with batch [B, ...] and constant w [B]."""

    def loss(params: Params) -> jax.Array:
        return -(weight * log_prob(network, params, batch.obs, batch.action)).mean()

    actor_loss, grads = jax.value_and_grad(loss)(actor.params)
    actor = adam.step(actor, grads, learning_rate, adam_eps)
    return actor, {"actor_loss": actor_loss, "advantage_weight": weight.mean()}
