"""Multi-layer perceptrons as Networks, with the output heads that agents need."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from pgd_jax.core.config import LAYER_NORM, NO_NORM
from pgd_jax.core.types import Params
from pgd_jax.networks import base
from pgd_jax.networks.base import Network
from pgd_jax.networks.product import Dense


def _fan_in_uniform(fan_in: int) -> Callable[..., jax.Array]:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for kernels and biases, as in PyTorch's nn.Linear.

    So this is the initialisation of the released TD3+BC, and of CORL's TD3+BC and IQL. The released IQL has orthogonal
    kernels. They are not used here: on CPU, XLA (jaxlib 0.10.2) hangs in their QR decompositions when `init` is vmapped
    over lanes.
    """
    bound = fan_in**-0.5

    def initializer(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initializer


def _symmetric_uniform(bound: float) -> Callable[..., jax.Array]:
    def initializer(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initializer


class Start(NamedTuple):
    """The initialisation of layers. None stands for `_fan_in_uniform`."""

    bias: float | None = None  # constant bias of hidden layers
    last: float | None = None  # kernel and bias of the last layer are uniform in [-last, last]


FAN_IN = Start()


class Mlp(nn.Module):
    """[..., in] -> [..., out_dim] through `num_hidden` ReLU layers of `hidden_dim`, each followed by the norm."""

    hidden_dim: int
    num_hidden: int
    out_dim: int
    norm: str = NO_NORM
    start: Start = FAN_IN

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.num_hidden):
            fan_in = _fan_in_uniform(x.shape[-1])
            bias = fan_in if self.start.bias is None else nn.initializers.constant(self.start.bias)
            x = nn.relu(Dense(self.hidden_dim, kernel_init=fan_in, bias_init=bias)(x))
            if self.norm == LAYER_NORM:
                x = nn.LayerNorm(use_fast_variance=False)(x)  # E x^2 - (E x)^2 loses digits in float32
        last = _fan_in_uniform(x.shape[-1]) if self.start.last is None else _symmetric_uniform(self.start.last)
        return Dense(self.out_dim, kernel_init=last, bias_init=last)(x)


def mlp(
    in_dim: int, out_dim: int, hidden_dim: int, num_hidden: int, norm: str = NO_NORM, start: Start = FAN_IN
) -> Network:
    """`apply(params, x [..., in_dim]) -> [..., out_dim]`, linear at the end."""
    return base.from_linen(Mlp(hidden_dim, num_hidden, out_dim, norm, start), jnp.zeros((1, in_dim)))


def scalar(in_dim: int, hidden_dim: int, num_hidden: int, norm: str = NO_NORM, start: Start = FAN_IN) -> Network:
    """`apply(params, *inputs) -> [...]`, such as V(s) or Q(s, a). The last axes of the inputs sum to `in_dim`."""
    trunk = mlp(in_dim, 1, hidden_dim, num_hidden, norm, start)

    def apply(params: Params, *inputs: jax.Array) -> jax.Array:
        return trunk.apply(params, jnp.concatenate(inputs, axis=-1)).squeeze(axis=-1)

    return Network(trunk.init, apply)


def tanh_policy(obs_dim: int, action_dim: int, hidden_dim: int, num_hidden: int, start: Start = FAN_IN) -> Network:
    """`apply(params, obs [..., O]) -> action [..., A]` in (-1, 1)."""
    trunk = mlp(obs_dim, action_dim, hidden_dim, num_hidden, start=start)

    def apply(params: Params, obs: jax.Array) -> jax.Array:
        return jnp.tanh(trunk.apply(params, obs))

    return Network(trunk.init, apply)


def gaussian_policy(obs_dim: int, action_dim: int, hidden_dim: int, num_hidden: int) -> Network:
    """`apply(params, obs [..., O]) -> (mean [..., A] in (-1, 1), log_std [A])`; log_std starts at 0."""
    mean = tanh_policy(obs_dim, action_dim, hidden_dim, num_hidden)

    def init(key: jax.Array) -> Params:
        return {"mean": mean.init(key), "log_std": jnp.zeros(action_dim)}

    def apply(params: Params, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        return mean.apply(params["mean"], obs), params["log_std"]

    return Network(init, apply)


def unit_gaussian_policy(obs_dim: int, action_dim: int, hidden_dim: int, num_hidden: int) -> Network:
    """As `gaussian_policy`, with log_std fixed to 0: for a deterministic policy. Its likelihood is squared error."""
    mean = tanh_policy(obs_dim, action_dim, hidden_dim, num_hidden)

    def apply(params: Params, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        return mean.apply(params, obs), jnp.zeros(action_dim)

    return Network(mean.init, apply)


def unsquashed_gaussian_policy(
    obs_dim: int,
    action_dim: int,
    hidden_dim: int,
    num_hidden: int,
    log_std_min: float,
    log_std_max: float,
    start: Start = FAN_IN,
) -> Network:
    """`apply(params, obs [..., O]) -> (mean [..., A], log_std [..., A])`. Both depend on the state.

    The mean has no bounds. log_std is clipped to [log_std_min, log_std_max]; beyond a limit it has no gradient.
    """
    trunk = mlp(obs_dim, 2 * action_dim, hidden_dim, num_hidden, start=start)

    def apply(params: Params, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean, log_std = jnp.split(trunk.apply(params, obs), 2, axis=-1)
        return mean, jnp.clip(log_std, log_std_min, log_std_max)

    return Network(trunk.init, apply)


def conditional_gaussian_policy(
    obs_dim: int, action_dim: int, hidden_dim: int, num_hidden: int, log_std_min: float, log_std_max: float
) -> Network:
    """As `unsquashed_gaussian_policy`, with the mean [..., A] in (-1, 1)."""
    policy = unsquashed_gaussian_policy(obs_dim, action_dim, hidden_dim, num_hidden, log_std_min, log_std_max)

    def apply(params: Params, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean, log_std = policy.apply(params, obs)
        return jnp.tanh(mean), log_std

    return Network(policy.init, apply)


def ensemble(member: Network, num_members: int) -> Network:
    """`apply(params, *inputs) -> [num_members, ...]`: independently initialised members on the same inputs.

    One batched product computes a layer of all members. The parameters are those of a member with a leading axis:
    `member.apply(jax.tree.map(lambda p: p[0], params), ...)` evaluates the first member.
    """

    def init(key: jax.Array) -> Params:
        return jax.vmap(member.init)(jax.random.split(key, num_members))

    def apply(params: Params, *inputs: jax.Array) -> jax.Array:
        return jax.vmap(lambda p: member.apply(p, *inputs))(params)

    return Network(init, apply)
