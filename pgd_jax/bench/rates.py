"""What the parts are held against: this machine's own matrix products and copies."""

import jax
import jax.numpy as jnp

from pgd_jax.bench.parts import Part, Piece
from pgd_jax.bench.setting import Setting


def products(setting: Setting) -> list[Part]:
    """Square matrix products at JAX's default precision, which the networks use too, in float32 and bfloat16."""
    multiply = jax.jit(jnp.matmul)

    def product(size: int, dtype: str) -> Part:
        matrix = jnp.full((size, size), 1.0 / size, dtype)
        name, flops_ = f"product {size}, {dtype}", 2.0 * size**3
        return Part(name, "products", 1.0, flops_, multiply, (matrix, matrix), dtype=dtype)

    return [product(size, dtype) for dtype in ("float32", "bfloat16") for size in setting.matmul_sizes]


def copy(setting: Setting) -> Part:
    """Reads and writes an array that no cache holds, in place: new memory is slow, as it must be had first."""
    array = jnp.zeros(setting.copy_bytes // 4)
    add = jax.jit(lambda x: x + 1.0)
    many = jax.jit(lambda x: jax.lax.fori_loop(0, setting.num_copies, lambda _, x: x + 1.0, x))
    amount, flops_ = setting.num_copies * 2.0 * array.nbytes / 1e9, float(setting.num_copies * array.size)
    return Part("copy", "GB", amount, flops_, many, (array,), (Piece(add, (array,), setting.num_copies),))
