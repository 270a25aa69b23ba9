"""The framework's only exit: a network is a pair of pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from pgd_jax.core.types import Params


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
