"""'Same' kernel-3 convolutions over time, [B, T, C] -> [B, T, F], as few matrix products.

A kernel is [3, C, F]: the factors of the row before, the row itself and the row after.
"""

import jax
import jax.numpy as jnp

from pgd_jax.networks import cpu
from pgd_jax.networks.product import product


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [B, T, C] convolved with kernel [3, C, F] -> [B, T, F], with zeros beyond the ends.

    On CPU, wide kernels use tiles of four rows (Winograd), equal to the direct sum within rounding. Otherwise it is one
    matrix product: on accelerators, where arithmetic is not the limit, and in bfloat16, whose rounding errors the tiles
    would multiply. XLA's own convolution is not used: inside `lax.scan` its CPU gradient falls back to a naive kernel
    (measured: 19x slower).
    """
    if x.dtype != jnp.float32 or not cpu.is_wide(*kernel.shape[1:]):
        return direct(x, kernel)
    return cpu.choose(x, kernel, cpu=cpu.convolve_by_tiles, default=direct)


@jax.jit
def direct(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """One product of the kernel with shifted copies of x side by side: 3 C F multiplications per row."""
    before, after = _shifted(x, 1), _shifted(x, -1)
    return product(jnp.concatenate([before, x, after], axis=-1), kernel.reshape(-1, kernel.shape[-1]))


@jax.jit
def convolve_repeated(below: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves the rows of below [B, T/2, C], each taken twice, with kernel [3, C, F] -> [B, T, F].

    It needs half of the products. Row 2t is made of below[t - 1], below[t], below[t]; row 2t + 1 of below[t], below[t],
    below[t + 1].
    """
    before, here, after = jnp.split(product(below, jnp.concatenate([*kernel], axis=-1)), 3, axis=-1)
    even, odd = _shifted(before, 1) + here + after, before + here + _shifted(after, -1)
    batch, half_length, features = here.shape
    return jnp.stack([even, odd], axis=2).reshape(batch, 2 * half_length, features)


def _shifted(x: jax.Array, by: int) -> jax.Array:
    """Rows moved one later (by=1) or one earlier (by=-1), with a row of zeros in the gap."""
    return jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0))) if by == 1 else jnp.pad(x[:, 1:], ((0, 0), (0, 1), (0, 0)))
