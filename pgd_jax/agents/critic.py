"""Critics and value networks, and their updates: what several agents share."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgd_jax.agents import adam, losses
from pgd_jax.agents.base import AgentPlan, Logs
from pgd_jax.core.hyper import Float
from pgd_jax.core.types import Params, Transition
from pgd_jax.networks import mlp
from pgd_jax.networks.base import Network

# (parameters, q [E, B] at the data's actions) -> (term added to the loss [], logs)
Penalty = Callable[[Params, jax.Array], tuple[jax.Array, Logs]]


class Critics(NamedTuple):
    ensemble: Network  # (obs [..., O], action [..., A]) -> [num_critics, ...]
    member: Network  # one critic, whose parameters have no leading axis


def build(obs_dim: int, action_dim: int, plan: AgentPlan, start: mlp.Start = mlp.FAN_IN) -> Critics:
    """Q(s, a): an ensemble with the number and sizes of the plan."""
    member = value(obs_dim + action_dim, plan, start)
    return Critics(mlp.ensemble(member, plan.num_critics), member)


def value(in_dim: int, plan: AgentPlan, start: mlp.Start = mlp.FAN_IN) -> Network:
    """V(s) or a single Q(s, a), with the plan's sizes for critics."""
    return mlp.scalar(
        in_dim,
        plan.critic_hidden_dim or plan.hidden_dim,
        plan.critic_num_hidden or plan.num_hidden,
        plan.critic_norm,
        start,
    )


def no_penalty(params: Params, q: jax.Array) -> tuple[jax.Array, Logs]:
    del params, q
    return jnp.zeros(()), {}


def step(
    network: Network,
    critic: adam.Trained,
    batch: Transition,
    target: jax.Array,
    learning_rate: Float,
    adam_eps: Float,
    penalty: Penalty = no_penalty,
) -> tuple[adam.Trained, Logs]:
    """One step of all members towards `target` [B] on batch [B, ...]. `network` maps (obs, action) to q [E, B].

    The logged critic_loss does not include the penalty.
    """

    def loss(params: Params) -> tuple[jax.Array, Logs]:
        q = network.apply(params, batch.obs, batch.action)
        critic_loss, (extra, logs) = losses.ensemble_td_loss(q, target), penalty(params, q)
        return critic_loss + extra, {"critic_loss": critic_loss, "q_mean": q.mean()} | logs

    grads, logs = jax.grad(loss, has_aux=True)(critic.params)
    return adam.step(critic, grads, learning_rate, adam_eps), logs


def step_value(
    network: Network,
    value: adam.Trained,
    obs: jax.Array,
    q: jax.Array,
    expectile: Float,
    learning_rate: Float,
    adam_eps: Float,
) -> tuple[adam.Trained, Logs]:
    """One step of V(s) towards the expectile of `q` [B], for obs [B, O] (IQL, equation 5)."""

    def loss(params: Params) -> jax.Array:
        return losses.expectile_loss(network.apply(params, obs), q, expectile)

    value_loss, grads = jax.value_and_grad(loss)(value.params)
    return adam.step(value, grads, learning_rate, adam_eps), {"value_loss": value_loss}
