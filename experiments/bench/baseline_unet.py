"""The temporal U-Net of networks/unet.py in flax's own layers, for one trajectory [T, D]; the caller vmaps it."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from pgd_jax.core.types import Params


class Block(nn.Module):
    """(h [T, C], embedding [E]) -> [T, features]: two convolutions, scaled and shifted by the embedding between them, a
    1x1 residual."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, h: jax.Array, embedding: jax.Array) -> jax.Array:
        conv = functools.partial(nn.Conv, self.features, kernel_size=(3,), dtype=self.dtype)
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        norm = nn.LayerNorm(use_scale=False, use_bias=False, dtype=self.dtype)
        residual = dense(self.features, name="residual")(h)
        scale, shift = jnp.split(dense(2 * self.features, name="embed")(embedding), 2)
        h = nn.relu(norm(conv(name="conv_0")(h))) * (1.0 + scale) + shift
        h = nn.relu(norm(conv(name="conv_1")(h)))
        return h + residual


class UNet(nn.Module):
    """(x [T, D], c_noise []) -> [T, D]; PGD (arXiv 2404.06356, appendix). Level i has width * 2^i channels."""

    out_dim: int
    width: int
    num_blocks: int
    dtype: jnp.dtype = jnp.float32  # of the computation; weights are float32

    @nn.compact
    def __call__(self, x: jax.Array, c_noise: jax.Array) -> jax.Array:
        embedding = nn.Dense(4 * self.width, dtype=self.dtype, name="embed")(fourier(c_noise, self.width))
        embedding = nn.relu(embedding)
        h = nn.Conv(self.width, kernel_size=(3,), dtype=self.dtype, name="conv")(x)
        skips = []
        for level in range(self.num_blocks):
            if level:
                h = nn.max_pool(h, window_shape=(2,), strides=(2,))
            h = Block(self.width * 2**level, self.dtype, name=f"down_{level}")(h, embedding)
            skips.append(h)
        for level in reversed(range(self.num_blocks - 1)):
            h = jnp.concatenate([jnp.repeat(h, 2, axis=0), skips[level]], axis=-1)
            h = Block(self.width * 2**level, self.dtype, name=f"up_{level}")(h, embedding)
        return nn.Dense(self.out_dim, kernel_init=nn.initializers.zeros, name="out")(h.astype(jnp.float32))


def fourier(c_noise: jax.Array, dim: int) -> jax.Array:
    """[] -> [dim]: sines and cosines at frequencies from 1 to 64 in equal ratios (Tancik et al. 2020, section 4)."""
    angles = c_noise * jnp.exp(jnp.linspace(0.0, math.log(64.0), dim // 2))
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])


def from_library(params: Params, num_blocks: int) -> Params:
    """The weights of networks/unet.py under this module's names.

    Its Conv3 is a Dense on [before, x, after]: a kernel [3C, C'] whose thirds are the taps of a kernel [3, C, C'].
    """
    downs, ups = range(num_blocks), reversed(range(num_blocks - 1))
    blocks = [f"down_{level}" for level in downs] + [f"up_{level}" for level in ups]
    names = {"Dense_0": "embed", "Conv3_0": "conv", "Dense_1": "out"}
    names |= {f"Block_{i}": name for i, name in enumerate(blocks)}
    inside = {"Conv3_0": "conv_0", "Conv3_1": "conv_1", "Dense_0": "embed", "Dense_1": "residual"}
    converted = {}
    for (first, *rest), leaf in traverse_util.flatten_dict(params).items():
        path = [names[first]]
        if first.startswith("Block"):
            path.append(inside[rest.pop(0)])
        if rest[-1] == "kernel" and path[-1].startswith("conv"):
            leaf = leaf.reshape(3, -1, leaf.shape[-1])
        converted[(*path, rest[-1])] = leaf
    return traverse_util.unflatten_dict(converted)
