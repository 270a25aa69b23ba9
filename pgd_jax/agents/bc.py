"""BC, behaviour cloning: a policy that imitates the data, deterministic ("bc") or Gaussian ("bc_gaussian").

    pi <- initial network
    for each update, on one batch (s, a):
        pi <- Adam on |pi(s) - a|^2 / A            "bc"
        pi <- Adam on -log pi(a | s)               "bc_gaussian"

This is the baseline for the other agents. With `hyper.best_share` below 1 it clones only the best trajectories: %BC
(Chen et al. 2021, arXiv 2106.01345). The paper's shares of 0.1, 0.25, 0.4 and 1 may be lanes. The Gaussian is that of
gaussian.py. Observations are standardised.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from pgd_jax.agents import adam, gaussian, losses
from pgd_jax.agents.base import AGENTS, Agent, AgentFamily, AgentPlan, Logs
from pgd_jax.core import ranges
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.types import Params, Transition
from pgd_jax.networks import mlp
from pgd_jax.networks.base import Network


@struct.dataclass
class Hyper:
    actor_lr: Float = setting(3e-4, "Adam's learning rate for the actor", ranges.POSITIVE)
    adam_eps: Float = setting(1e-8, "Adam's epsilon", ranges.POSITIVE)
    discount: Float = setting(0.99, "gamma, the discount factor of the reported discounted return", ranges.SHARE)


class Policy(NamedTuple):
    """A policy that can be cloned."""

    network: Network
    loss: Callable[[Params, Transition], jax.Array]  # (params, batch [B, ...]) -> []
    act: Callable[[Params, jax.Array], jax.Array]  # (params, obs [..., O]) -> action [..., A]
    log_prob: Callable[[Params, jax.Array, jax.Array], jax.Array]  # (params, obs, action) -> [...]


def deterministic(obs_dim: int, action_dim: int, plan: AgentPlan) -> Policy:
    network = mlp.tanh_policy(obs_dim, action_dim, plan.hidden_dim, plan.num_hidden)

    def loss(params: Params, batch: Transition) -> jax.Array:
        return jnp.square(network.apply(params, batch.obs) - batch.action).mean()

    def log_prob(params: Params, obs: jax.Array, action: jax.Array) -> jax.Array:
        return losses.unit_gaussian_log_prob(action, network.apply(params, obs))

    return Policy(network, loss, network.apply, log_prob)


def stochastic(obs_dim: int, action_dim: int, plan: AgentPlan) -> Policy:
    network = mlp.gaussian_policy(obs_dim, action_dim, plan.hidden_dim, plan.num_hidden)
    log_prob = functools.partial(gaussian.log_prob, network)

    def loss(params: Params, batch: Transition) -> jax.Array:
        return -log_prob(params, batch.obs, batch.action).mean()

    return Policy(network, loss, functools.partial(gaussian.act, network), log_prob)


def update(
    policy: Policy, key: jax.Array, state: adam.Trained, batches: Transition, hyper: Hyper
) -> tuple[adam.Trained, Logs]:
    """One update from batches [1, B, ...]. The update is deterministic: the key is not used."""
    del key
    batch = jax.tree.map(lambda x: x[0], batches)
    loss, grads = jax.value_and_grad(policy.loss)(state.params, batch)
    return adam.step(state, grads, hyper.actor_lr, hyper.adam_eps), {"actor_loss": loss}


def build(make: Callable[[int, int, AgentPlan], Policy], obs_dim: int, action_dim: int, plan: AgentPlan) -> Agent:
    policy = make(obs_dim, action_dim, plan)
    return Agent(
        init=lambda key, hyper: adam.init(policy.network.init(key)),
        update=functools.partial(update, policy),
        act=lambda state, obs: policy.act(state.params, obs),
        log_prob=lambda state, obs, action: policy.log_prob(state.params, obs, action),
        batches_per_update=1,
    )


AGENTS.add("bc", AgentFamily(Hyper, functools.partial(build, deterministic)))
AGENTS.add("bc_gaussian", AgentFamily(Hyper, functools.partial(build, stochastic)))
