"""Parameters and the Adam moments that train them. Every float is an argument, so that lanes may differ in it."""

import jax
import jax.numpy as jnp
import optax
from flax import struct

from pgd_jax.core.hyper import Float
from pgd_jax.core.types import Params


@struct.dataclass
class Trained:
    """A network's parameters and their Adam moments."""

    params: Params
    moments: optax.ScaleByAdamState


def init(params: Params) -> Trained:
    return Trained(params, optax.scale_by_adam().init(params))


def step(trained: Trained, grads: Params, learning_rate: Float, eps: Float) -> Trained:
    """One Adam step with gradients `grads` (Kingma & Ba 2015, Algorithm 1; beta1 0.9, beta2 0.999)."""
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to the power of its int32 count
        directions, moments = optax.scale_by_adam(eps=eps).update(grads, trained.moments)
    params = jax.tree.map(lambda p, d: p - learning_rate * d, trained.params, directions)
    return Trained(params, moments)


def cosine_decay(count: jax.Array, num_updates: Float) -> jax.Array:
    """Factor [] on a learning rate after `count` updates: half a cosine from 1 to 0 over `num_updates`, then 0.

    Loshchilov & Hutter 2017, equation 5, without restarts.
    """
    progress = jnp.minimum(count.astype(jnp.float32) / num_updates, 1.0)
    return 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
