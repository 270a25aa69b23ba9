"""A user's policy density, checked and brought to network space."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp

from pgd_jax.core.errors import UserError, first_line
from pgd_jax.core.types import LogProb, Squashed
from pgd_jax.data import normalizer as normalizers


def in_network_space(log_prob: LogProb, normalizer: Any) -> LogProb:
    """A user's `log_prob` as guidance takes it. Raises UserError where it is no function that guidance can use."""
    layout = normalizer.layout
    count = len(inspect.signature(log_prob).parameters) if callable(log_prob) else 0
    if count < 2:
        raise UserError(
            f"log_prob must be a function of (obs [..., {layout.obs_dim}], action [..., {layout.action_dim}])"
        )
    shapes = [jax.ShapeDtypeStruct((2, 3, dim), jnp.float32) for dim in (layout.obs_dim, layout.action_dim)]
    try:
        found = jax.eval_shape(log_prob, *shapes)
    except Exception as error:  # of the user's own code, or JAX's at a value that it does not know
        raise UserError(
            f"log_prob cannot be traced by JAX at obs {shapes[0].shape}, action {shapes[1].shape}: "
            f"{first_line(error)}. It must be made of jax.numpy operations, and take any leading axes"
        ) from error
    if getattr(found, "shape", None) != (2, 3):
        raise UserError(
            f"log_prob of obs {shapes[0].shape} and action {shapes[1].shape} has shape "
            f"{getattr(found, 'shape', found)}; expected (2, 3): one number for each row"
        )
    _check_finite(log_prob, normalizer)

    def steer(log_prob: LogProb) -> LogProb:
        return lambda obs, action: log_prob(normalizers.decode_obs(normalizer, obs), action)

    if isinstance(log_prob, Squashed):
        return Squashed(steer(log_prob.action), steer(log_prob.preimage))
    return steer(log_prob)


def _check_finite(log_prob: LogProb, normalizer: Any) -> None:
    """At states and actions like the dataset's."""
    x = jax.random.normal(jax.random.key(0), (64, 1, normalizer.layout.dim))
    rows = normalizers.decode(normalizer, x)
    obs, action = rows[..., normalizer.layout.obs], rows[..., normalizer.layout.action]
    value, gradient = jax.vmap(jax.value_and_grad(lambda a, s: log_prob(s, a).sum()))(action, obs)
    for what, array in (("value", value), ("gradient", gradient)):
        if not bool(jnp.isfinite(array).all()):
            raise UserError(f"log_prob has a {what} that is not finite at states and actions like the dataset's")
