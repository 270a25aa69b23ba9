"""A network as a pair of pure functions. Only this file and the networks beside it know flax.linen."""

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
    """Wraps a linen module. Shapes of `example` inputs set the shapes of the parameters.

    The module is traced once for all calls with equal shapes.
    """

    def init(key: jax.Array) -> Params:
        return module.init(key, *example)["params"]

    def apply(params: Params, *inputs: jax.Array) -> Any:
        return module.apply({"params": params}, *inputs)

    return Network(init, jax.jit(apply))
