"""An ensemble of Gaussian networks. One batched product computes a layer of all members.

The network is that of PETS (Chua et al. 2018, arXiv 1805.12114, section 4 and appendix A.1). Activations and
initialisation are those of MBPO (Janner et al. 2019, arXiv 1906.08253), as in offline model-based methods.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.core.types import Params
from pgd_jax.networks import product

MAX_LOG_VAR, MIN_LOG_VAR = 0.5, -10.0  # initial values of the learned bounds
TRUNCATED_AT = 2.0  # initial weights are truncated at this many standard deviations


class Prediction(NamedTuple):
    """The prediction of each member: a diagonal Gaussian, and the logit of an event."""

    mean: jax.Array  # f32[E, B, out]
    log_var: jax.Array  # f32[E, B, out], between the learned bounds
    logit: jax.Array  # f32[E, B]


def init(
    key: jax.Array, in_dim: int, out_dim: int, hidden_dim: int, num_hidden: int, num_members: int
) -> dict[str, Any]:
    """{"layers": for each layer a kernel [E, in, out] and a bias [E, out], "max_log_var", "min_log_var": f32[E, out]}.

    Weights are normal with standard deviation 1 / (2 sqrt(in)), truncated at two standard deviations. Biases are 0.
    """
    sizes = [in_dim, *[hidden_dim] * num_hidden, 2 * out_dim + 1]
    layers = []
    for number, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        shape = (num_members, fan_in, fan_out)
        kernel = jax.random.truncated_normal(jax.random.fold_in(key, number), -TRUNCATED_AT, TRUNCATED_AT, shape)
        layers.append({"kernel": 0.5 / np.sqrt(fan_in) * kernel, "bias": jnp.zeros((num_members, fan_out))})
    starts = {"max_log_var": MAX_LOG_VAR, "min_log_var": MIN_LOG_VAR}
    bounds = {name: jnp.full((num_members, out_dim), value) for name, value in starts.items()}
    return {"layers": tuple(layers), **bounds}


def raw(params: Params, x: jax.Array) -> jax.Array:
    """x f32[E, B, in], inputs of each member -> f32[E, B, 2 out + 1]: mean, log variance without bounds, logit."""
    *hidden, last = params["layers"]
    for layer in hidden:
        x = jax.nn.silu(_dense(layer, x))
    return _dense(last, x)


def _dense(layer: Params, x: jax.Array) -> jax.Array:
    return jax.vmap(product.product)(x, layer["kernel"]) + layer["bias"][:, None, :]


def split(params: Params, out: jax.Array) -> Prediction:
    """Splits the output f32[E, B, 2 out + 1] of `raw`. Soft bounds limit the log variance (PETS, appendix A.1)."""
    low, high = (params[name][:, None, :] for name in ("min_log_var", "max_log_var"))
    out_dim = high.shape[-1]
    log_var = high - jax.nn.softplus(high - out[..., out_dim : 2 * out_dim])
    log_var = low + jax.nn.softplus(log_var - low)
    return Prediction(out[..., :out_dim], log_var, out[..., -1])


def apply(params: Params, x: jax.Array) -> Prediction:
    """The prediction for x f32[E, B, in], inputs of each member."""
    return split(params, raw(params, x))


def take(params: Params, members: jax.Array) -> Params:
    """The parameters of an ensemble of K members, from their indices i32[K]."""
    return jax.tree.map(lambda leaf: leaf[members], params)
