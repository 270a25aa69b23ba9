"""TD3+BC (Fujimoto & Gu 2021): TD3 whose actor is also drawn to the data.

    pi, Q_1, Q_2 <- initial networks;  pi', Q'_1, Q'_2 <- copies of them
    for each update:
        for each of two batches (s, a, r, s', terminal):
            a' <- clip(pi'(s') + clip(noise, -c, c), -1, 1)
            y  <- r + gamma (1 - terminal) min_i Q'_i(s', a')
            Q_i <- Adam on (Q_i(s, a) - y)^2, i = 1, 2
        lambda <- alpha / mean |Q_1(s, pi(s))|                              on the last batch
        pi <- Adam on (pi(s) - a)^2 - lambda Q_1(s, pi(s))                  on the last batch
        pi', Q'_i <- (1 - tau) pi', Q'_i + tau pi, Q_i

As in TD3 (Fujimoto et al. 2018, Algorithm 1, d = 2) the targets move once per actor update. One `update` is therefore
two of the steps that papers count.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from pgd_jax.agents import adam, critic as critics, losses
from pgd_jax.agents.base import AGENTS, Agent, AgentFamily, AgentPlan, Logs
from pgd_jax.core import ranges
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.types import Params, Transition
from pgd_jax.networks import mlp
from pgd_jax.networks.base import Network

CRITIC_UPDATES_PER_ACTOR_UPDATE = 2
NUM_CRITICS = 2


@struct.dataclass
class Hyper:
    """Published values; Adam's eps as Policy-Guided Diffusion has it (PyTorch's is 1e-8)."""

    actor_lr: Float = setting(3e-4, "Adam's rate of the actor", ranges.POSITIVE)
    critic_lr: Float = setting(3e-4, "Adam's rate of the critics", ranges.POSITIVE)
    adam_eps: Float = setting(1e-5, "Adam's epsilon", ranges.POSITIVE)
    discount: Float = setting(0.99, "gamma", ranges.SHARE)
    polyak: Float = setting(0.005, "tau, the share of the new parameters in the targets", ranges.SHARE_ABOVE_0)
    alpha: Float = setting(2.5, "weight of the critic against cloning (equation 5)", ranges.NOT_NEGATIVE)
    target_noise: Float = setting(
        0.2, "standard deviation of the target policy's noise, environment space", ranges.NOT_NEGATIVE
    )
    target_noise_clip: Float = setting(0.5, "limit of that noise", ranges.NOT_NEGATIVE)


@struct.dataclass
class State:
    actor: adam.Trained
    critic: adam.Trained  # both critics, leading axis NUM_CRITICS
    target_actor: Params
    target_critic: Params


class Networks(NamedTuple):
    actor: Network  # obs [..., O] -> action [..., A]
    critic: Network  # (obs [..., O], action [..., A]) -> [NUM_CRITICS, ...]
    one_critic: Network  # the same for a single member


def init(networks: Networks, key: jax.Array, hyper: Hyper) -> State:
    del hyper
    key_actor, key_critic = jax.random.split(key)
    actor, critic = networks.actor.init(key_actor), networks.critic.init(key_critic)
    return State(adam.init(actor), adam.init(critic), target_actor=actor, target_critic=critic)


def _td_targets(networks: Networks, key: jax.Array, state: State, batches: Transition, hyper: Hyper) -> jax.Array:
    """y [K, B] of every batch in one pass, which the targets' standing still within an update allows."""
    noise = losses.smoothing_noise(key, batches.action.shape, hyper.target_noise, hyper.target_noise_clip)
    next_action = jnp.clip(networks.actor.apply(state.target_actor, batches.next_obs) + noise, -1.0, 1.0)
    next_q = networks.critic.apply(state.target_critic, batches.next_obs, next_action).min(axis=0)
    return losses.td_target(batches.reward, batches.terminal, next_q, hyper.discount)


def _update_critic(
    networks: Networks, hyper: Hyper, critic: adam.Trained, batch_and_target: tuple[Transition, jax.Array]
) -> tuple[adam.Trained, Logs]:
    batch, target = batch_and_target
    return critics.step(networks.critic, critic, batch, target, hyper.critic_lr, hyper.adam_eps)


def _update_actor(
    networks: Networks, hyper: Hyper, actor: adam.Trained, critic: Params, batch: Transition
) -> tuple[adam.Trained, Logs]:
    first_critic = jax.tree.map(lambda p: p[0], critic)

    def loss(params: Params) -> tuple[jax.Array, jax.Array]:
        action = networks.actor.apply(params, batch.obs)
        q = networks.one_critic.apply(first_critic, batch.obs, action)
        distance = jnp.square(action - batch.action).mean()
        return losses.behaviour_regularised_loss(q, action, batch.action, hyper.alpha), distance

    (actor_loss, distance), grads = jax.value_and_grad(loss, has_aux=True)(actor.params)
    return adam.step(actor, grads, hyper.actor_lr, hyper.adam_eps), {"actor_loss": actor_loss, "bc_loss": distance}


def update(networks: Networks, key: jax.Array, state: State, batches: Transition, hyper: Hyper) -> tuple[State, Logs]:
    """Two critic updates and one of the actor from batches [2, B, ...]; critic logs are means over the two."""
    targets = _td_targets(networks, key, state, batches, hyper)
    update_critic = functools.partial(_update_critic, networks, hyper)
    critic, critic_logs = jax.lax.scan(update_critic, state.critic, (batches, targets))
    last_batch = jax.tree.map(lambda x: x[-1], batches)
    actor, actor_logs = _update_actor(networks, hyper, state.actor, critic.params, last_batch)
    state = State(
        actor,
        critic,
        target_actor=optax.incremental_update(actor.params, state.target_actor, hyper.polyak),
        target_critic=optax.incremental_update(critic.params, state.target_critic, hyper.polyak),
    )
    return state, actor_logs | jax.tree.map(jnp.mean, critic_logs)


def act(networks: Networks, state: State, obs: jax.Array) -> jax.Array:
    return networks.actor.apply(state.actor.params, obs)


def log_prob(networks: Networks, state: State, obs: jax.Array, action: jax.Array) -> jax.Array:
    """A deterministic policy has no density: a unit Gaussian around pi(s) stands in, as in Policy-Guided Diffusion."""
    mean = networks.actor.apply(state.actor.params, obs)
    return losses.gaussian_log_prob(action, mean, jnp.zeros_like(mean))


def build(obs_dim: int, action_dim: int, plan: AgentPlan) -> Agent:
    sizes = dict(hidden_dim=plan.hidden_dim, num_hidden=plan.num_hidden)
    one_critic = mlp.scalar(obs_dim + action_dim, **sizes)
    networks = Networks(
        actor=mlp.tanh_policy(obs_dim, action_dim, **sizes),
        critic=mlp.ensemble(one_critic, NUM_CRITICS),
        one_critic=one_critic,
    )
    return Agent(
        init=functools.partial(init, networks),
        update=functools.partial(update, networks),
        act=functools.partial(act, networks),
        log_prob=functools.partial(log_prob, networks),
        batches_per_update=CRITIC_UPDATES_PER_ACTOR_UPDATE,
    )


AGENTS.add("td3_bc", AgentFamily(Hyper, build))
