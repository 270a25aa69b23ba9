"""ReBRAC (Tarasov et al. 2023, arXiv 2305.09836): TD3+BC with a penalty in the critic too, and deeper networks.

    pi, Q_1, Q_2 <- initial networks;  pi', Q'_1, Q'_2 <- copies of them
    for each update:
        for each of two batches (s, a, r, s', b, terminal), b the data's action in s':
            a' <- clip(pi'(s') + clip(noise, -c, c), -1, 1)
            y  <- r + gamma (1 - terminal) (min_i Q'_i(s', a') - beta_c |a' - b|^2)
            Q_i <- Adam on (Q_i(s, a) - y)^2, i = 1, 2
        q  <- min_i Q_i(s, pi(s))                                           on the last batch
        pi <- Adam on beta_a |pi(s) - a|^2 - q / mean |q|                   on the last batch
        pi', Q'_i <- (1 - tau) pi', Q'_i + tau pi, Q_i

The two penalties have separate weights. Their squared distances are sums over the action dimensions. The mean |q| is
held constant. Two things differ from TD3+BC: the actor uses the minimum of the critics, and the weight multiplies the
cloning term. td3.py has the parts that TD3 shares. One `update` is two of the steps that papers count.

Networks are 3 x 256; critics have LayerNorm after each hidden layer. Observations are raw, not standardised, and
rewards are the data's own. The last row of an episode that a time limit cut has no known b and is left out
(`data.episodes.transitions`). beta_a and beta_c depend on the dataset: preset "rebrac_d4rl".
"""

import functools

import jax
import jax.numpy as jnp
from flax import struct

from pgd_jax.agents import adam, losses, td3
from pgd_jax.agents.base import AGENTS, Agent, AgentFamily, AgentPlan, Logs
from pgd_jax.agents.td3 import Networks, State
from pgd_jax.core import ranges
from pgd_jax.core.config import LAYER_NORM
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.types import Params, Transition
from pgd_jax.networks import mlp

PLAN = AgentPlan(hidden_dim=256, num_hidden=3, critic_norm=LAYER_NORM)
ACTOR_START, CRITIC_START = mlp.Start(bias=0.1, last=1e-3), mlp.Start(bias=0.1, last=3e-3)


@struct.dataclass
class Hyper(td3.Hyper):
    """Published values for locomotion. The betas are those of hopper-medium."""

    actor_lr: Float = setting(1e-3, "Adam's learning rate for the actor", ranges.POSITIVE)
    critic_lr: Float = setting(1e-3, "Adam's learning rate for the critics", ranges.POSITIVE)
    actor_bc: Float = setting(0.01, "beta_a, weight of the cloning term in the actor's loss", ranges.NOT_NEGATIVE)
    critic_bc: Float = setting(0.01, "beta_c, weight of the cloning term in the critics' target", ranges.NOT_NEGATIVE)


def td_targets(networks: Networks, key: jax.Array, state: State, batches: Transition, hyper: Hyper) -> jax.Array:
    """The TD targets y [K, B] of batches [K, B, ...]. `hyper` may be that of any agent with this critic."""
    assert batches.next_action is not None
    next_action = td3.next_actions(networks, key, state, batches, hyper)
    distance = jnp.square(next_action - batches.next_action).sum(axis=-1)
    next_value = td3.next_values(networks, state, batches, next_action) - hyper.critic_bc * distance
    return losses.td_target(batches.reward, batches.terminal, next_value, hyper.discount)


def update_actor(
    networks: Networks,
    hyper: Hyper,
    actor: adam.Trained,
    critic: Params,
    batch: Transition,
    weight: Float | jax.Array,
    q_weight: Float = 1.0,
) -> tuple[adam.Trained, Logs]:
    """One update of the actor on batch [B, ...]. `hyper` may be that of any agent with this actor.

    `weight`, [] or [B], is the weight of the cloning term; `q_weight` is the weight of the critics.
    """

    def loss(params: Params) -> tuple[jax.Array, jax.Array]:
        action = networks.actor.apply(params, batch.obs)
        q = networks.critic.apply(critic, batch.obs, action).min(axis=0)
        distance = jnp.square(action - batch.action).mean()
        return losses.robust_behaviour_regularised_loss(q, action, batch.action, weight, q_weight), distance

    (actor_loss, distance), grads = jax.value_and_grad(loss, has_aux=True)(actor.params)
    return adam.step(actor, grads, hyper.actor_lr, hyper.adam_eps), {"actor_loss": actor_loss, "bc_loss": distance}


def update(networks: Networks, key: jax.Array, state: State, batches: Transition, hyper: Hyper) -> tuple[State, Logs]:
    """Two critic updates and one actor update from batches [2, B, ...]. Critic logs are means over the two."""
    targets = td_targets(networks, key, state, batches, hyper)
    critic, critic_logs = td3.update_critic(networks, state.critic, batches, targets, hyper)
    actor, actor_logs = update_actor(
        networks, hyper, state.actor, critic.params, td3.last(batches), weight=hyper.actor_bc
    )
    return td3.moved(state, actor, critic, hyper), actor_logs | critic_logs


def build(obs_dim: int, action_dim: int, plan: AgentPlan) -> Agent:
    networks = td3.networks(obs_dim, action_dim, plan, ACTOR_START, CRITIC_START)
    return Agent(
        init=functools.partial(td3.init, networks),
        update=functools.partial(update, networks),
        act=functools.partial(td3.act, networks),
        log_prob=functools.partial(td3.log_prob, networks),
        batches_per_update=td3.CRITIC_UPDATES_PER_ACTOR_UPDATE,
        needs_next_action=True,
    )


AGENTS.add("rebrac", AgentFamily(Hyper, build, PLAN, sees_raw_obs=True))
