"""The product of a dense layer, with derivatives in the order of operands that processors like best."""

import functools
from typing import Any

import flax.linen as nn
import jax

NARROW = 32  # features; with fewer a product takes its time by the order of its sides, not by its arithmetic


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., C] times kernel [C, F]: [..., F].

    JAX's own gradient with respect to the kernel is made as [F, C] and transposed, and all that reads it, an
    optimiser's moments above all, goes through memory in strides. Here it is made as [C, F]. Forward-mode alone is
    not defined; over a gradient, as in a Hessian's product with a vector, it is.
    """
    return x @ kernel


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ kernel, (x, kernel)


def _backward(residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    channels, features = kernel.shape
    rows, cotangents = x.reshape(-1, channels), cotangent.reshape(-1, features)
    if features >= NARROW:
        return _over(cotangent, kernel, cotangent.ndim - 1, 1), _over(rows, cotangents, 0, 0)
    # On CPU a product with few columns, or few summands over a transposed side, takes up to ten times as long as its
    # transpose, to which XLA would bring it back without a barrier. One feature is no product to XLA.
    fixed = jax.lax.optimization_barrier
    transposed = kernel.T if features == 1 else fixed(kernel.T)
    return cotangent @ transposed, fixed(_over(cotangents, rows, 0, 0)).T


def _over(left: jax.Array, right: jax.Array, left_axis: int, right_axis: int) -> jax.Array:
    """A product over one axis of each. Said so: a transposed operand under two vmaps would become a copy."""
    return jax.lax.dot_general(left, right, (((left_axis,), (right_axis,)), ((), ())))


product.defvjp(_forward, _backward)


def _dot_general(x: jax.Array, kernel: jax.Array, dimension_numbers: Any, precision: Any = None) -> jax.Array:
    """`product` in the place of lax.dot_general, as nn.Dense calls it."""
    if dimension_numbers != (((x.ndim - 1,), (0,)), ((), ())) or precision is not None:
        raise NotImplementedError(f"Dense by `product` over {dimension_numbers} at precision {precision}")
    return product(x, kernel)


Dense = functools.partial(nn.Dense, dot_general=_dot_general)
