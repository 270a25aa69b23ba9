"""TD3+BC (Fujimoto & Gu 2021): TD3 with a cloning term in the actor's loss.

    pi, Q_1, Q_2 <- initial networks;  pi', Q'_1, Q'_2 <- copies of them
    for each update:
        for each of two batches (s, a, r, s', terminal):
            a' <- clip(pi'(s') + clip(noise, -c, c), -1, 1)
            y  <- r + gamma (1 - terminal) min_i Q'_i(s', a')
            Q_i <- Adam on (Q_i(s, a) - y)^2, i = 1, 2
        lambda <- alpha / mean |Q_1(s, pi(s))|                              on the last batch
        pi <- Adam on (pi(s) - a)^2 - lambda Q_1(s, pi(s))                  on the last batch
        pi', Q'_i <- (1 - tau) pi', Q'_i + tau pi, Q_i

td3.py has the parts that TD3 shares. One `update` is two of the steps that papers count. Observations are standardised,
as in the paper (section 5).
"""

import functools

import jax
import jax.numpy as jnp
from flax import struct

from pgd_jax.agents import adam, losses, td3
from pgd_jax.agents.base import AGENTS, Agent, AgentFamily, AgentPlan, Logs
from pgd_jax.agents.td3 import Networks, State
from pgd_jax.core import ranges
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.types import Params, Transition


@struct.dataclass
class Hyper(td3.Hyper):
    """Published values. Adam's eps is that of Policy-Guided Diffusion (PyTorch's is 1e-8)."""

    adam_eps: Float = setting(1e-5, "Adam's epsilon", ranges.POSITIVE)
    alpha: Float = setting(
        2.5, "alpha, weight of the critic relative to the cloning term (equation 5)", ranges.NOT_NEGATIVE
    )


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
    """Two critic updates and one actor update from batches [2, B, ...]. Critic logs are means over the two."""
    next_action = td3.next_actions(networks, key, state, batches, hyper)
    next_value = td3.next_values(networks, state, batches, next_action)
    targets = losses.td_target(batches.reward, batches.terminal, next_value, hyper.discount)
    critic, critic_logs = td3.update_critic(networks, state.critic, batches, targets, hyper)
    actor, actor_logs = _update_actor(networks, hyper, state.actor, critic.params, td3.last(batches))
    return td3.moved(state, actor, critic, hyper), actor_logs | critic_logs


def build(obs_dim: int, action_dim: int, plan: AgentPlan) -> Agent:
    networks = td3.networks(obs_dim, action_dim, plan)
    return Agent(
        init=functools.partial(td3.init, networks),
        update=functools.partial(update, networks),
        act=functools.partial(td3.act, networks),
        log_prob=functools.partial(td3.log_prob, networks),
        batches_per_update=td3.CRITIC_UPDATES_PER_ACTOR_UPDATE,
    )


AGENTS.add("td3_bc", AgentFamily(Hyper, build))
