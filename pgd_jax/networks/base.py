"""The framework's only exit: a network is a pair of pure functions."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from pgd_jax.types import Params


class Network(NamedTuple):
    """`init(key) -> params`; `apply(params, *inputs) -> outputs`."""

    init: Callable[[jax.Array], Params]
    apply: Callable[..., Any]


def from_linen(module: nn.Module, *example: jax.Array) -> Network:
    """Wraps a linen module, traced once for all its calls of equal shapes; `example` inputs fix the parameters'."""

    def init(key: jax.Array) -> Params:
        return module.init(key, *example)["params"]

    def apply(params: Params, *inputs: jax.Array) -> Any:
        return module.apply({"params": params}, *inputs)

    return Network(init, jax.jit(apply))


def by_lanes(apply: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`apply` whose value, on CPU, goes through the lanes of a vmap one after the other.

    A matrix product on CPU rounds the last rows of a batch otherwise than the first: over all lanes at once, equal
    lanes would not be equal to the bit. Gradients, and other devices, take all lanes together.
    """
    one_by_one = jax.custom_batching.sequential_vmap(apply)

    @jax.custom_vjp
    def value(*args: Any) -> jax.Array:
        return jax.lax.platform_dependent(*args, cpu=one_by_one, default=apply)

    value.defvjp(functools.partial(jax.vjp, apply), lambda pullback, cotangent: pullback(cotangent))
    return value
