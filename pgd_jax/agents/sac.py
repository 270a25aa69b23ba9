"""SAC, soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905): the online algorithm that collects datasets.

    pi, Q_1, Q_2 <- initial networks;  Q'_1, Q'_2 <- copies of Q_1, Q_2;  alpha <- 1
    for each update, on one batch (s, a, r, s', terminal):
        a' ~ pi(s')
        y <- r + gamma (1 - terminal) (min_i Q'_i(s', a') - alpha log pi(a' | s'))      equations 5 and 3
        Q_i <- Adam on (Q_i(s, a) - y)^2, i = 1, 2
        b ~ pi(s)
        pi <- Adam on alpha log pi(b | s) - min_i Q_i(s, b)                             equation 7
        alpha <- Adam on -alpha (log pi(b | s) + target entropy), in log alpha          equation 18
        Q'_i <- (1 - tau) Q'_i + tau Q_i

SAC needs an environment to act in, so AGENTS does not have it. AGENTS has the offline agents that differ from SAC in
their critics only (`offline`). Observations are in environment space, not standardised. pi is the squashed Gaussian of
squashed.py.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from pgd_jax.agents import adam, critic as critics, losses, squashed
from pgd_jax.agents.base import Agent, AgentPlan, Logs
from pgd_jax.core import ranges
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.types import Params, Transition
from pgd_jax.networks import mlp
from pgd_jax.networks.base import Network

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0  # the released code's


@struct.dataclass
class Hyper:
    """Published values (table 1)."""

    actor_lr: Float = setting(3e-4, "Adam's learning rate for the actor", ranges.POSITIVE)
    critic_lr: Float = setting(3e-4, "Adam's learning rate for the critics", ranges.POSITIVE)
    temperature_lr: Float = setting(3e-4, "Adam's learning rate for the entropy weight", ranges.POSITIVE)
    adam_eps: Float = setting(1e-8, "Adam's epsilon", ranges.POSITIVE)
    discount: Float = setting(0.99, "gamma, the discount factor", ranges.SHARE)
    polyak: Float = setting(
        0.005, "tau, share of the new parameters in an update of the target networks", ranges.SHARE_ABOVE_0
    )
    entropy_per_action_dim: Float = setting(-1.0, "target entropy for each action dimension, in nats")


@struct.dataclass
class State:
    actor: adam.Trained
    critic: adam.Trained  # all critics, leading axis num_critics
    target_critic: Params
    log_temperature: adam.Trained  # log alpha, f32[]


class Networks(NamedTuple):
    actor: Network  # obs [..., O] -> (mean [..., A], log_std [..., A]) of the Gaussian before tanh
    critic: Network  # (obs [..., O], action [..., A]) -> [num_critics, ...]


# (networks, key, state, batch [B, ...], hyper) -> (critics, logs)
UpdateCritic = Callable[[Networks, jax.Array, State, Transition, Any], tuple[adam.Trained, Logs]]


class Sac(NamedTuple):
    """The algorithm as pure functions."""

    init: Callable[[jax.Array], State]  # key -> state
    update: Callable[[jax.Array, State, Transition, Hyper], tuple[State, Logs]]  # (key, state, batch [B, ...], hyper)
    # (actor parameters, obs [..., O], key) -> (action [..., A] in [-1, 1], its log density [...])
    sample: Callable[[Params, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    act: Callable[[Params, jax.Array], jax.Array]  # (actor parameters, obs [..., O]) -> greedy action [..., A]


def soft_value(q: jax.Array, log_prob: jax.Array, temperature: jax.Array) -> jax.Array:
    """min_i Q_i(s, a) - alpha log pi(a | s) [B] (equation 3), from q [E, B] and log_prob [B] at a ~ pi(s), alpha []."""
    chex.assert_equal_shape([q[0], log_prob])
    return q.min(axis=0) - temperature * log_prob


def temperature_loss(log_temperature: jax.Array, log_prob: jax.Array, target_entropy: jax.Array) -> jax.Array:
    """Mean of -alpha (log pi(a | s) + target entropy), with log_prob [B] held constant (equation 18).

    Its descent raises alpha while the policy's entropy, -log pi, is below the target.
    """
    return -jnp.exp(log_temperature) * (jax.lax.stop_gradient(log_prob).mean() + target_entropy)


def init(networks: Networks, key: jax.Array) -> State:
    key_actor, key_critic = jax.random.split(key)
    critic = networks.critic.init(key_critic)
    return State(
        actor=adam.init(networks.actor.init(key_actor)),
        critic=adam.init(critic),
        target_critic=critic,
        log_temperature=adam.init(jnp.zeros((), jnp.float32)),
    )


def td_target(networks: Networks, key: jax.Array, state: State, batch: Transition, hyper: Hyper) -> jax.Array:
    """The TD target y [B]."""
    next_action, next_log_prob = squashed.sample(networks.actor, state.actor.params, batch.next_obs, key)
    next_q = networks.critic.apply(state.target_critic, batch.next_obs, next_action)
    next_value = soft_value(next_q, next_log_prob, jnp.exp(state.log_temperature.params))
    return losses.td_target(batch.reward, batch.terminal, next_value, hyper.discount)


def update_critic(
    networks: Networks, key: jax.Array, state: State, batch: Transition, hyper: Hyper
) -> tuple[adam.Trained, Logs]:
    target = td_target(networks, key, state, batch, hyper)
    return critics.step(networks.critic, state.critic, batch, target, hyper.critic_lr, hyper.adam_eps)


def _update_actor(
    networks: Networks, key: jax.Array, state: State, obs: jax.Array, hyper: Hyper
) -> tuple[adam.Trained, jax.Array, Logs]:
    """The new actor, log pi(b | s) [B] and logs. `state` has the new critic already."""

    def loss(params: Params) -> tuple[jax.Array, jax.Array]:
        action, log_prob = squashed.sample(networks.actor, params, obs, key)
        q = networks.critic.apply(state.critic.params, obs, action)
        return -soft_value(q, log_prob, jnp.exp(state.log_temperature.params)).mean(), log_prob

    (actor_loss, log_prob), grads = jax.value_and_grad(loss, has_aux=True)(state.actor.params)
    actor = adam.step(state.actor, grads, hyper.actor_lr, hyper.adam_eps)
    return actor, log_prob, {"actor_loss": actor_loss, "entropy": -log_prob.mean()}


def update(
    networks: Networks,
    key: jax.Array,
    state: State,
    batch: Transition,
    hyper: Hyper,
    update_critic: UpdateCritic = update_critic,
) -> tuple[State, Logs]:
    """One update of each network and of the temperature from a batch [B, ...]."""
    key_critic, key_actor = jax.random.split(key)
    critic, critic_logs = update_critic(networks, key_critic, state, batch, hyper)
    state = dataclasses.replace(state, critic=critic)
    actor, log_prob, actor_logs = _update_actor(networks, key_actor, state, batch.obs, hyper)
    target_entropy = hyper.entropy_per_action_dim * batch.action.shape[-1]
    grad = jax.grad(temperature_loss)(state.log_temperature.params, log_prob, target_entropy)
    log_temperature = adam.step(state.log_temperature, grad, hyper.temperature_lr, hyper.adam_eps)
    target = optax.incremental_update(critic.params, state.target_critic, hyper.polyak)
    logs = critic_logs | actor_logs | {"temperature": jnp.exp(state.log_temperature.params)}
    return State(actor, critic, target, log_temperature), logs


def build_networks(
    obs_dim: int,
    action_dim: int,
    plan: AgentPlan,
    log_std_min: float = LOG_STD_MIN,
    actor_start: mlp.Start = mlp.FAN_IN,
    critic_start: mlp.Start = mlp.FAN_IN,
) -> Networks:
    sizes = (obs_dim, action_dim, plan.hidden_dim, plan.num_hidden)
    actor = mlp.unsquashed_gaussian_policy(*sizes, log_std_min, LOG_STD_MAX, actor_start)
    return Networks(actor, critics.build(obs_dim, action_dim, plan, critic_start).ensemble)


def build(obs_dim: int, action_dim: int, plan: AgentPlan) -> Sac:
    networks = build_networks(obs_dim, action_dim, plan)
    return Sac(
        init=functools.partial(init, networks),
        update=functools.partial(update, networks),
        sample=functools.partial(squashed.sample, networks.actor),
        act=functools.partial(squashed.act, networks.actor),
    )


def offline(networks: Networks, update_critic: UpdateCritic = update_critic) -> Agent:
    """SAC as an offline agent, with its own critic update or another one."""

    def agent_update(key: jax.Array, state: State, batches: Transition, hyper: Hyper) -> tuple[State, Logs]:
        batch = jax.tree.map(lambda x: x[0], batches)
        return update(networks, key, state, batch, hyper, update_critic)

    return Agent(
        init=lambda key, hyper: init(networks, key),
        update=agent_update,
        act=lambda state, obs: squashed.act(networks.actor, state.actor.params, obs),
        log_prob=lambda state, obs, action: squashed.log_prob(networks.actor, state.actor.params, obs, action),
        batches_per_update=1,
        preimage_log_prob=lambda state, obs, u: squashed.preimage_log_prob(networks.actor, state.actor.params, obs, u),
    )
