"""The critics' update that all agents share."""

import jax

from pgd_jax.agents import adam, losses
from pgd_jax.agents.base import Logs
from pgd_jax.core.hyper import Float
from pgd_jax.core.types import Params, Transition
from pgd_jax.networks.base import Network


def step(
    network: Network,
    critic: adam.Trained,
    batch: Transition,
    target: jax.Array,
    learning_rate: Float,
    adam_eps: Float,
) -> tuple[adam.Trained, Logs]:
    """One step of all members towards `target` [B] on batch [B, ...]; `network` maps (obs, action) to q [E, B]."""

    def loss(params: Params) -> tuple[jax.Array, jax.Array]:
        q = network.apply(params, batch.obs, batch.action)
        return losses.ensemble_td_loss(q, target), q.mean()

    (critic_loss, q_mean), grads = jax.value_and_grad(loss, has_aux=True)(critic.params)
    return adam.step(critic, grads, learning_rate, adam_eps), {"critic_loss": critic_loss, "q_mean": q_mean}
