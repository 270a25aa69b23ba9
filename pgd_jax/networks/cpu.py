"""Kernels for the speed or the rounding of CPUs only, behind one switch.

    kernel_order_product    x @ kernel, where the gradient of the kernel is computed in the kernel's own memory order
    convolve_by_tiles       a kernel-3 convolution with half the multiplications (Winograd)
    by_lanes                a network evaluated lane by lane, so that equal lanes have equal bits

Programs for accelerators use none of them: they have `x @ kernel` and the direct convolution (`choose`). On CPU the
environment variable PGD_JAX_CPU_KERNELS=0 switches all of them off; it is read when this module is imported. Values
agree within rounding. So do derivatives of any order, in forward and reverse mode.
"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import ad, batching, mlir

SWITCH = "PGD_JAX_CPU_KERNELS"
IS_ON = os.environ.get(SWITCH, "1") != "0"


def enabled() -> bool:
    """Whether programs for CPUs use these kernels. It is read when a function is traced."""
    return IS_ON


def choose(*args: Any, cpu: Callable[..., Any], default: Callable[..., Any]) -> Any:
    """`cpu(*args)` in programs for CPUs if the switch is on, else `default(*args)`."""
    return jax.lax.platform_dependent(*args, cpu=cpu, default=default) if enabled() else default(*args)


# ---- products ----


def kernel_order_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., C] times kernel [C, F] -> [..., F].

    JAX computes the gradient of the kernel as [F, C] and transposes it. Whatever reads it then goes through memory in
    strides, above all the optimiser's moments. Here it is computed as [C, F]. Only the transpose of a linear function
    can set that order, so this is a primitive: `jax.custom_vjp` has no forward mode, and
    `jax.custom_derivatives.linear_call` cannot be vmapped.
    """
    if _is_checked(x) or _is_checked(kernel):
        return x @ kernel
    return _product_p.bind(x, kernel, num_batch=0)


def _is_checked(x: jax.Array) -> bool:
    """Whether x is in a shard_map that checks along which axes arrays vary. JAX can only check its own primitives."""
    return bool(getattr(getattr(jax.typeof(x), "manual_axis_type", None), "varying", ()))


def _numbers(x_ndim: int, num_batch: int) -> Any:
    """Dimension numbers of x [*batch, *rows, C] times kernel [*batch, C, F] -> [*batch, *rows, F]."""
    batch = tuple(range(num_batch))
    return ((x_ndim - 1,), (num_batch,)), (batch, batch)


def _multiply(x: jax.Array, kernel: jax.Array, *, num_batch: int) -> jax.Array:
    return jax.lax.dot_general(x, kernel, _numbers(x.ndim, num_batch))


def _abstract(x: Any, kernel: Any, *, num_batch: int) -> Any:
    numbers = dict(dimension_numbers=_numbers(x.ndim, num_batch), precision=None)
    return jax.lax.dot_general_p.abstract_eval(x, kernel, **numbers, preferred_element_type=None, out_sharding=None)[0]


def _to_x(cotangent: jax.Array, x: Any, kernel: jax.Array, *, num_batch: int) -> jax.Array:
    """Gradient of x [*batch, *rows, C]: cotangent [*batch, *rows, F] times the transposed kernel."""
    del x
    batch = tuple(range(num_batch))
    contracted = ((cotangent.ndim - 1,), (num_batch + 1,))
    return jax.lax.dot_general(cotangent, kernel, (contracted, (batch, batch)))


def _to_kernel(cotangent: jax.Array, x: jax.Array, kernel: Any, *, num_batch: int) -> jax.Array:
    """Gradient of the kernel [*batch, C, F]: the transposed x times cotangent [*batch, *rows, F]."""
    del kernel
    lead = x.shape[:num_batch]
    rows, cotangents = (array.reshape(*lead, -1, array.shape[-1]) for array in (x, cotangent))
    over_rows = functools.partial(_over_rows, num_batch=num_batch)
    return choose(rows, cotangents, cpu=over_rows, default=lambda x, y: jnp.swapaxes(over_rows(y, x), -1, -2))


def _over_rows(left: jax.Array, right: jax.Array, num_batch: int) -> jax.Array:
    batch = tuple(range(num_batch))
    return jax.lax.dot_general(left, right, (((num_batch,), (num_batch,)), (batch, batch)))


def _batched(args: Sequence[jax.Array], axes: Sequence[Any], *, num_batch: int) -> tuple[jax.Array, int]:
    (x, kernel), (x_axis, kernel_axis) = args, axes
    if kernel_axis is None:  # more rows
        return _product_p.bind(jnp.moveaxis(x, x_axis, num_batch), kernel, num_batch=num_batch), num_batch
    if x_axis is not None:
        x, kernel = jnp.moveaxis(x, x_axis, 0), jnp.moveaxis(kernel, kernel_axis, 0)
        return _product_p.bind(x, kernel, num_batch=num_batch + 1), 0
    kernel = jnp.moveaxis(kernel, kernel_axis, -2)  # [*batch, C, N, F]: more features
    *lead, num_kernels, features = kernel.shape
    out = _product_p.bind(x, kernel.reshape(*lead, num_kernels * features), num_batch=num_batch)
    return out.reshape(*out.shape[:-1], num_kernels, features), out.ndim - 1


_product_p = core.Primitive("kernel_order_dot_general")
_product_p.def_impl(_multiply)
_product_p.def_abstract_eval(_abstract)
mlir.register_lowering(_product_p, mlir.lower_fun(_multiply, multiple_results=False))
batching.primitive_batchers[_product_p] = _batched
ad.defbilinear(_product_p, _to_x, _to_kernel)


# ---- convolutions ----

# Winograd's F(4, 3): four outputs of a kernel of three by six products in place of twelve. The matrices are those of
# Lavin & Gray 2016 (arXiv 1509.09308), for F(4x4, 3x3) in two dimensions; the points are 0, 1, -1, 2, -2 and infinity.
TILE = 4
MIN_CHANNELS = 32  # below this, the additions cost what the products save, and each tile takes time to compile
OF_INPUT = (  # B^T, for the tile's rows and one row on each side
    (4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1),
)  # fmt: skip
OF_KERNEL = (  # G
    (1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1),
)  # fmt: skip
OF_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))  # A^T


def is_wide(channels: int, features: int) -> bool:
    """Whether tiles are faster than the direct sum for so many input channels and output features."""
    return min(channels, features) >= MIN_CHANNELS


@jax.jit
def convolve_by_tiles(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """'Same' convolution of x [B, T, C] with kernel [3, C, F] -> [B, T, F], by Winograd's F(4, 3).

    It takes 3/2 C F multiplications per row.
    """
    batch, length, channels = x.shape
    num_tiles = -(-length // TILE)
    # One row before, and enough rows after to begin one more tile: the last real tile reads that tile's first row.
    padded = jnp.pad(x, ((0, 0), (1, (num_tiles + 1) * TILE - length - 1), (0, 0)))
    tiles = padded.reshape(batch, num_tiles + 1, TILE, channels)
    rows = [tiles[:, :-1, i] for i in range(TILE)] + [tiles[:, 1:, i] for i in range(2)]
    products = [
        kernel_order_product(_sum(of_x, rows), _sum(of_k, kernel))
        for of_x, of_k in zip(OF_INPUT, OF_KERNEL, strict=True)
    ]
    out = jnp.stack([_sum(weights, products) for weights in OF_OUTPUT], axis=2)
    return out.reshape(batch, num_tiles * TILE, -1)[:, :length]


def _sum(weights: Sequence[float], terms: Sequence[jax.Array] | jax.Array) -> jax.Array:
    """The weighted sum of the terms, without those of weight zero."""
    weighted = [weight * term for weight, term in zip(weights, terms, strict=True) if weight]
    return sum(weighted[1:], start=weighted[0])


# ---- lanes ----


def by_lanes(apply: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Wraps `apply`: on CPU, a vmap over lanes computes its value for one lane after another.

    On CPU a matrix product rounds the last rows of a batch differently from the first. So equal lanes would not have
    equal bits if all lanes were one batch. Derivatives are computed for all lanes together.
    """
    one_by_one = jax.custom_batching.sequential_vmap(apply)

    @jax.custom_jvp
    def value(*args: Any) -> jax.Array:
        return choose(*args, cpu=one_by_one, default=apply)

    def derivative(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        # Only inputs with a tangent take part. Under guidance, a denoiser's weights have none.
        values, structure = jax.tree.flatten(primals)
        along = jax.tree.leaves(tangents)
        moved = [i for i, t in enumerate(along) if not isinstance(t, jax.custom_derivatives.SymbolicZero)]

        def of_moved(*parts: jax.Array) -> jax.Array:
            leaves = [dict(zip(moved, parts)).get(i, v) for i, v in enumerate(values)]
            return apply(*jax.tree.unflatten(structure, leaves))

        return jax.jvp(of_moved, [values[i] for i in moved], [along[i] for i in moved])

    value.defjvp(derivative, symbolic_zeros=True)
    return value
