"""TD3+BC (Fujimoto & Gu 2021, arXiv 2106.06860) with flax's TrainState and optax's Adam, as it is usually written.

Observations are in network space, actions in environment space. `update_critic` is an update without the actor's turn,
`update_both` one with it; the caller alternates.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.training import train_state

from pgd_jax.core.types import Params, Transition

ADAM = optax.adam(3e-4, eps=1e-5)
DISCOUNT, POLYAK, ALPHA = 0.99, 0.005, 2.5
TARGET_NOISE, TARGET_NOISE_CLIP = 0.2, 0.5


def dense(in_dim: int, out_dim: int) -> nn.Dense:
    """PyTorch's nn.Linear, hence the released code's initialisation: U(-1/sqrt(in), 1/sqrt(in)), kernel and bias."""

    def uniform(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -(in_dim**-0.5), in_dim**-0.5)

    return nn.Dense(out_dim, kernel_init=uniform, bias_init=uniform)


class Actor(nn.Module):
    """obs [..., O] -> action [..., A] in (-1, 1)."""

    action_dim: int
    hidden_dim: int
    num_hidden: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        h = obs
        for _ in range(self.num_hidden):
            h = nn.relu(dense(h.shape[-1], self.hidden_dim)(h))
        return nn.tanh(dense(h.shape[-1], self.action_dim)(h))


class Critic(nn.Module):
    """(obs [..., O], action [..., A]) -> Q [...]."""

    hidden_dim: int
    num_hidden: int

    @nn.compact
    def __call__(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        h = jnp.concatenate([obs, action], axis=-1)
        for _ in range(self.num_hidden):
            h = nn.relu(dense(h.shape[-1], self.hidden_dim)(h))
        return dense(h.shape[-1], 1)(h).squeeze(-1)


class TwinCritic(nn.Module):
    """(obs [..., O], action [..., A]) -> (Q_1 [...], Q_2 [...])."""

    hidden_dim: int
    num_hidden: int

    def setup(self) -> None:
        self.q1 = Critic(self.hidden_dim, self.num_hidden)
        self.q2 = Critic(self.hidden_dim, self.num_hidden)

    def __call__(self, obs: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.q1(obs, action), self.q2(obs, action)

    def first(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        return self.q1(obs, action)


class TrainState(train_state.TrainState):
    target: Params = None

    def step_down(self, grads: Params) -> "TrainState":
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to its int32 count
            return self.apply_gradients(grads=grads)

    def move_target(self) -> "TrainState":
        return self.replace(target=optax.incremental_update(self.params, self.target, POLYAK))


@struct.dataclass
class Agent:
    actor: TrainState
    critic: TrainState


@functools.cache
def networks(action_dim: int, hidden_dim: int, num_hidden: int) -> tuple[Actor, TwinCritic]:
    """One pair for all seeds: the functions of a TrainState are compared by identity, and new ones compiled anew."""
    return Actor(action_dim, hidden_dim, num_hidden), TwinCritic(hidden_dim, num_hidden)


def wrap(module: nn.Module, params: Params) -> TrainState:
    """A network with these weights at the start of its training."""
    state = TrainState.create(apply_fn=module.apply, params=params, tx=ADAM, target=params)
    return state.replace(step=jnp.int32(0))  # a Python int would have the second update compiled again


def init(key: jax.Array, obs_dim: int, action_dim: int, hidden_dim: int, num_hidden: int) -> Agent:
    key_actor, key_critic = jax.random.split(key)
    obs, action = jnp.zeros(obs_dim), jnp.zeros(action_dim)
    actor, critic = networks(action_dim, hidden_dim, num_hidden)
    return Agent(
        wrap(actor, actor.init(key_actor, obs)["params"]),
        wrap(critic, critic.init(key_critic, obs, action)["params"]),
    )


def smoothing_noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Target policy smoothing: clip(N(0, 0.2^2), -0.5, 0.5) (Fujimoto et al. 2018, Algorithm 1)."""
    return jnp.clip(TARGET_NOISE * jax.random.normal(key, shape), -TARGET_NOISE_CLIP, TARGET_NOISE_CLIP)


def update_critic(agent: Agent, batch: Transition, noise: jax.Array) -> tuple[Agent, jax.Array]:
    """One step of both critics on batch [B, ...] with target noise [B, A] (Fujimoto et al. 2018, Algorithm 1)."""
    actor, critic = agent.actor, agent.critic
    next_action = jnp.clip(actor.apply_fn({"params": actor.target}, batch.next_obs) + noise, -1.0, 1.0)
    next_q1, next_q2 = critic.apply_fn({"params": critic.target}, batch.next_obs, next_action)
    y = batch.reward + DISCOUNT * (1.0 - batch.terminal) * jnp.minimum(next_q1, next_q2)

    def loss(params: Params) -> jax.Array:
        q1, q2 = critic.apply_fn({"params": params}, batch.obs, batch.action)
        return jnp.mean((q1 - y) ** 2) + jnp.mean((q2 - y) ** 2)

    value, grads = jax.value_and_grad(loss)(critic.params)
    return agent.replace(critic=critic.step_down(grads)), value


def update_actor(agent: Agent, batch: Transition) -> tuple[Agent, jax.Array]:
    """One step of the actor on batch [B, ...] (Fujimoto & Gu 2021, section 5), then the targets follow."""
    actor, critic = agent.actor, agent.critic

    def loss(params: Params) -> jax.Array:
        action = actor.apply_fn({"params": params}, batch.obs)
        q = critic.apply_fn({"params": critic.params}, batch.obs, action, method="first")
        weight = jax.lax.stop_gradient(ALPHA / jnp.maximum(jnp.mean(jnp.abs(q)), 1e-6))
        return jnp.mean((action - batch.action) ** 2) - weight * jnp.mean(q)

    value, grads = jax.value_and_grad(loss)(actor.params)
    return Agent(actor.step_down(grads).move_target(), critic.move_target()), value


def update_both(agent: Agent, batch: Transition, noise: jax.Array) -> tuple[Agent, jax.Array, jax.Array]:
    """A critic update, then the actor's on the same batch: every second update (policy_freq 2)."""
    agent, critic_loss = update_critic(agent, batch, noise)
    agent, actor_loss = update_actor(agent, batch)
    return agent, critic_loss, actor_loss
