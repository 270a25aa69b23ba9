"""'Same' kernel-3 convolutions over time, [B, T, C] -> [B, T, F], in as few operations as matrix products allow.

A kernel is [3, C, F]: what the row before, the row itself and the row after are multiplied with.
"""

import jax
import jax.numpy as jnp

from pgd_jax.networks import cpu
from pgd_jax.networks.product import product


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [B, T, C] with kernel [3, C, F]; zeros stand beyond the ends.

    On CPU wide kernels go by tiles of four rows, equal to the direct sum within rounding. Elsewhere it is one matrix
    product, whose rate is not the limit there, and in bfloat16, whose rounding the tiles' differences would multiply.
    Not by XLA's convolution, whose CPU gradient inside `lax.scan` falls back to a naive kernel (19x slower measured).
    """
    if x.dtype != jnp.float32 or not cpu.is_wide(*kernel.shape[1:]):
        return direct(x, kernel)
    return cpu.choose(x, kernel, cpu=cpu.convolve_by_tiles, default=direct)


@jax.jit
def direct(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Shifted copies side by side, times the kernel: 3 C F products a row."""
    before, after = _shifted(x, 1), _shifted(x, -1)
    return product(jnp.concatenate([before, x, after], axis=-1), kernel.reshape(-1, kernel.shape[-1]))


@jax.jit
def convolve_repeated(below: jax.Array, kernel: jax.Array) -> jax.Array:
    """below [B, T/2, C], every row of it twice, with kernel [3, C, F]: [B, T, F] by half the products, none repeated.

    Row 2t has below[t - 1], below[t], below[t] around it, row 2t + 1 has below[t], below[t], below[t + 1].
    """
    before, here, after = jnp.split(product(below, jnp.concatenate([*kernel], axis=-1)), 3, axis=-1)
    even, odd = _shifted(before, 1) + here + after, before + here + _shifted(after, -1)
    batch, half_length, features = here.shape
    return jnp.stack([even, odd], axis=2).reshape(batch, 2 * half_length, features)


def _shifted(x: jax.Array, by: int) -> jax.Array:
    """Rows moved one on (by=1) or one back (by=-1), a row of zeros in their place."""
    return jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0))) if by == 1 else jnp.pad(x[:, 1:], ((0, 0), (0, 1), (0, 0)))
