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

It needs an environment to act in, so it is no entry of AGENTS. Observations are in environment space, not standardised.
pi is a Gaussian taken through tanh; its log-likelihood is of the action after tanh.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

from pgd_jax.agents import adam, critic as critics, losses
from pgd_jax.agents.base import AgentPlan, Logs
from pgd_jax.core import ranges
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.types import Params, Transition
from pgd_jax.networks import mlp
from pgd_jax.networks.base import Network

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0  # the released code's


@struct.dataclass
class Hyper:
    """Published values (table 1)."""

    actor_lr: Float = setting(3e-4, "Adam's rate of the actor", ranges.POSITIVE)
    critic_lr: Float = setting(3e-4, "Adam's rate of the critics", ranges.POSITIVE)
    temperature_lr: Float = setting(3e-4, "Adam's rate of the entropy's weight", ranges.POSITIVE)
    adam_eps: Float = setting(1e-8, "Adam's epsilon", ranges.POSITIVE)
    discount: Float = setting(0.99, "gamma", ranges.SHARE)
    polyak: Float = setting(0.005, "tau, the share of the new parameters in the targets", ranges.SHARE_ABOVE_0)
    entropy_per_action_dim: Float = setting(-1.0, "target entropy, nats")


@struct.dataclass
class State:
    actor: adam.Trained
    critic: adam.Trained  # all critics, leading axis num_critics
    target_critic: Params
    log_temperature: adam.Trained  # of f32[]: log alpha


class Networks(NamedTuple):
    actor: Network  # obs [..., O] -> mean and unclipped log_std of the Gaussian before tanh, [..., 2 A]
    critic: Network  # (obs [..., O], action [..., A]) -> [num_critics, ...]


class Sac(NamedTuple):
    """The algorithm as pure functions."""

    init: Callable[[jax.Array], State]  # key -> state
    update: Callable[[jax.Array, State, Transition, Hyper], tuple[State, Logs]]  # (key, state, batch [B, ...], hyper)
    # (key, actor's parameters, obs [..., O]) -> (action [..., A] in [-1, 1], its log-likelihood [...])
    sample: Callable[[jax.Array, Params, jax.Array], tuple[jax.Array, jax.Array]]
    act: Callable[[Params, jax.Array], jax.Array]  # (actor's parameters, obs [..., O]) -> action [..., A], greedy


def soft_value(q: jax.Array, log_prob: jax.Array, temperature: jax.Array) -> jax.Array:
    """min_i Q_i(s, a) - alpha log pi(a | s): q [E, B] and log_prob [B] of a ~ pi(s), alpha [] -> [B] (equation 3)."""
    chex.assert_equal_shape([q[0], log_prob])
    return q.min(axis=0) - temperature * log_prob


def temperature_loss(log_temperature: jax.Array, log_prob: jax.Array, target_entropy: jax.Array) -> jax.Array:
    """Mean of -alpha (log pi(a | s) + target entropy) (equation 18): log_prob [B] is held constant.

    It raises alpha where the policy's entropy, -log pi, is below the target.
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


def _mean_and_log_std(networks: Networks, params: Params, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean, log_std = jnp.split(networks.actor.apply(params, obs), 2, axis=-1)
    return mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)


def sample(networks: Networks, key: jax.Array, params: Params, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """obs [..., O] -> (action [..., A] in [-1, 1], log-likelihood [...]); differentiable in `params`.

    The likelihood is that of the action before tanh rounds it: finite, also at exactly -1 and 1.
    """
    import distrax  # takes as long as JAX itself, and only what is sampled needs it

    mean, log_std = _mean_and_log_std(networks, params, obs)
    before = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
    action, stretch = distrax.Block(distrax.Tanh(), 1).forward_and_log_det(before)
    return action, losses.gaussian_log_prob(before, mean, log_std) - stretch


def act(networks: Networks, params: Params, obs: jax.Array) -> jax.Array:
    """tanh of the Gaussian's mean."""
    return jnp.tanh(_mean_and_log_std(networks, params, obs)[0])


def _update_critic(
    networks: Networks, key: jax.Array, state: State, batch: Transition, hyper: Hyper
) -> tuple[adam.Trained, Logs]:
    next_action, next_log_prob = sample(networks, key, state.actor.params, batch.next_obs)
    next_q = networks.critic.apply(state.target_critic, batch.next_obs, next_action)
    next_value = soft_value(next_q, next_log_prob, jnp.exp(state.log_temperature.params))
    target = losses.td_target(batch.reward, batch.terminal, next_value, hyper.discount)
    return critics.step(networks.critic, state.critic, batch, target, hyper.critic_lr, hyper.adam_eps)


def _update_actor(
    networks: Networks, key: jax.Array, state: State, obs: jax.Array, hyper: Hyper
) -> tuple[adam.Trained, jax.Array, Logs]:
    """`state` has the new critic; also gives log pi(b | s) [B]."""

    def loss(params: Params) -> tuple[jax.Array, jax.Array]:
        action, log_prob = sample(networks, key, params, obs)
        q = networks.critic.apply(state.critic.params, obs, action)
        return -soft_value(q, log_prob, jnp.exp(state.log_temperature.params)).mean(), log_prob

    (actor_loss, log_prob), grads = jax.value_and_grad(loss, has_aux=True)(state.actor.params)
    actor = adam.step(state.actor, grads, hyper.actor_lr, hyper.adam_eps)
    return actor, log_prob, {"actor_loss": actor_loss, "entropy": -log_prob.mean()}


def update(networks: Networks, key: jax.Array, state: State, batch: Transition, hyper: Hyper) -> tuple[State, Logs]:
    """One update of each network and of the temperature from a batch [B, ...]."""
    key_critic, key_actor = jax.random.split(key)
    critic, critic_logs = _update_critic(networks, key_critic, state, batch, hyper)
    state = dataclasses.replace(state, critic=critic)
    actor, log_prob, actor_logs = _update_actor(networks, key_actor, state, batch.obs, hyper)
    target_entropy = hyper.entropy_per_action_dim * batch.action.shape[-1]
    grad = jax.grad(temperature_loss)(state.log_temperature.params, log_prob, target_entropy)
    log_temperature = adam.step(state.log_temperature, grad, hyper.temperature_lr, hyper.adam_eps)
    target = optax.incremental_update(critic.params, state.target_critic, hyper.polyak)
    logs = critic_logs | actor_logs | {"temperature": jnp.exp(state.log_temperature.params)}
    return State(actor, critic, target, log_temperature), logs


def build(obs_dim: int, action_dim: int, plan: AgentPlan) -> Sac:
    networks = Networks(
        actor=mlp.mlp(obs_dim, 2 * action_dim, plan.hidden_dim, plan.num_hidden),
        critic=critics.build(obs_dim, action_dim, plan).ensemble,
    )
    return Sac(
        init=functools.partial(init, networks),
        update=functools.partial(update, networks),
        sample=functools.partial(sample, networks),
        act=functools.partial(act, networks),
    )
