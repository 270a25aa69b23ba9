"""AWAC, advantage-weighted actor-critic (Nair et al. 2020, arXiv 2006.09359): cloning, weighted by the advantage.

    pi, Q_1, Q_2 <- initial networks;  Q'_1, Q'_2 <- copies of Q_1, Q_2
    for each update, on one batch (s, a, r, s', terminal):
        a' ~ pi(s')
        y <- r + gamma (1 - terminal) min_i Q'_i(s', a')
        Q_i <- Adam on (Q_i(s, a) - y)^2, i = 1, 2
        b ~ pi(s)
        w <- min(exp((min_i Q_i(s, a) - min_i Q_i(s, b)) / lambda), 100)
        pi <- Adam on -w log pi(a | s)
        Q'_i <- (1 - tau) Q'_i + tau Q_i

Algorithm 1 of the paper. The critic bootstraps from the policy, unlike IQL's. The actor is trained by weighted
regression on the data's actions. One sample b estimates the policy's value. The minimum of two critics and the limit of
the weights are common practice. pi is the Gaussian of gaussian.py. Observations are standardised.
"""

import functools
from typing import NamedTuple

import jax
import optax
from flax import struct

from pgd_jax.agents import adam, critic as critics, gaussian, losses
from pgd_jax.agents.base import AGENTS, Agent, AgentFamily, AgentPlan, Logs
from pgd_jax.core import ranges
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.types import Params, Transition
from pgd_jax.networks import mlp
from pgd_jax.networks.base import Network


@struct.dataclass
class Hyper:
    """Values behind the published D4RL scores for locomotion. maze2d has lambda 0.1 (preset "awac_d4rl")."""

    actor_lr: Float = setting(3e-4, "Adam's learning rate for the actor", ranges.POSITIVE)
    critic_lr: Float = setting(3e-4, "Adam's learning rate for the critics", ranges.POSITIVE)
    adam_eps: Float = setting(1e-8, "Adam's epsilon", ranges.POSITIVE)
    discount: Float = setting(0.99, "gamma, the discount factor", ranges.SHARE)
    polyak: Float = setting(
        0.005, "tau, share of the new parameters in an update of the target networks", ranges.SHARE_ABOVE_0
    )
    temperature: Float = setting(1.0 / 3.0, "lambda, temperature of the advantage weights", ranges.POSITIVE)
    max_weight: Float = setting(100.0, "upper limit of the advantage weights", ranges.POSITIVE)


@struct.dataclass
class State:
    actor: adam.Trained
    critic: adam.Trained  # all critics, leading axis num_critics
    target_critic: Params


class Networks(NamedTuple):
    actor: Network  # obs [..., O] -> (mean [..., A], log_std [A])
    critic: Network  # (obs [..., O], action [..., A]) -> [num_critics, ...]


def init(networks: Networks, key: jax.Array, hyper: Hyper) -> State:
    del hyper
    key_actor, key_critic = jax.random.split(key)
    critic = networks.critic.init(key_critic)
    return State(adam.init(networks.actor.init(key_actor)), adam.init(critic), target_critic=critic)


def _update_critic(
    networks: Networks, key: jax.Array, state: State, batch: Transition, hyper: Hyper
) -> tuple[adam.Trained, Logs]:
    next_action = gaussian.sample(networks.actor, state.actor.params, batch.next_obs, key)
    next_value = networks.critic.apply(state.target_critic, batch.next_obs, next_action).min(axis=0)
    target = losses.td_target(batch.reward, batch.terminal, next_value, hyper.discount)
    return critics.step(networks.critic, state.critic, batch, target, hyper.critic_lr, hyper.adam_eps)


def _update_actor(
    networks: Networks, key: jax.Array, actor: adam.Trained, critic: Params, batch: Transition, hyper: Hyper
) -> tuple[adam.Trained, Logs]:
    sampled = gaussian.sample(networks.actor, actor.params, batch.obs, key)
    q, baseline = (networks.critic.apply(critic, batch.obs, a).min(axis=0) for a in (batch.action, sampled))
    weight = losses.advantage_weight(q - baseline, 1.0 / hyper.temperature, hyper.max_weight)
    return gaussian.regress(networks.actor, actor, batch, weight, hyper.actor_lr, hyper.adam_eps)


def update(networks: Networks, key: jax.Array, state: State, batches: Transition, hyper: Hyper) -> tuple[State, Logs]:
    """One update of each network from batches [1, B, ...]."""
    key_critic, key_actor = jax.random.split(key)
    batch = jax.tree.map(lambda x: x[0], batches)
    critic, critic_logs = _update_critic(networks, key_critic, state, batch, hyper)
    actor, actor_logs = _update_actor(networks, key_actor, state.actor, critic.params, batch, hyper)
    target = optax.incremental_update(critic.params, state.target_critic, hyper.polyak)
    return State(actor, critic, target), actor_logs | critic_logs


def build(obs_dim: int, action_dim: int, plan: AgentPlan) -> Agent:
    networks = Networks(
        actor=mlp.gaussian_policy(obs_dim, action_dim, plan.hidden_dim, plan.num_hidden),
        critic=critics.build(obs_dim, action_dim, plan).ensemble,
    )
    return Agent(
        init=functools.partial(init, networks),
        update=functools.partial(update, networks),
        act=lambda state, obs: gaussian.act(networks.actor, state.actor.params, obs),
        log_prob=lambda state, obs, action: gaussian.log_prob(networks.actor, state.actor.params, obs, action),
        batches_per_update=1,
    )


AGENTS.add("awac", AgentFamily(Hyper, build))
