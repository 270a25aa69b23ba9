"""The matrix product of a dense layer, with the CPU kernel where it is faster."""

import functools
from typing import Any

import flax.linen as nn
import jax

from pgd_jax.networks import cpu


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., C] times kernel [C, F] -> [..., F]."""
    return cpu.kernel_order_product(x, kernel) if cpu.enabled() else x @ kernel


def _dot_general(x: jax.Array, kernel: jax.Array, dimension_numbers: Any, precision: Any = None) -> jax.Array:
    """`product` with the signature of lax.dot_general, for nn.Dense."""
    if dimension_numbers != (((x.ndim - 1,), (0,)), ((), ())) or precision is not None:
        raise NotImplementedError(f"Dense by `product` over {dimension_numbers} at precision {precision}")
    return product(x, kernel)


Dense = functools.partial(nn.Dense, dot_general=_dot_general)
