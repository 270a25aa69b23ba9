"""Operations and bytes of networks/unet.py by hand, from the shapes of its layers.

FLOPs are those of matrix products, two for each multiply-add; sums (tiles, normalisation) are left out. Bytes are what
each step of the written algorithm reads and writes where no cache holds anything and elementwise work is fused into the
next sum or product; padding and cut kernels are left out. Everything is float32 here.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pgd_jax.networks import convolution

# Of one tile: rows that its sums read before the products and after, those of the kernel, and how many there are.
NUM_PRODUCTS = len(convolution.OF_INPUT)
READS_OF_INPUT, READS_OF_KERNEL, READS_OF_PRODUCTS = (
    sum(weight != 0 for weights in matrix for weight in weights)
    for matrix in (convolution.OF_INPUT, convolution.OF_KERNEL, convolution.OF_OUTPUT)
)


class Layer(NamedTuple):
    """rows of `channels`, and of `below` channels at half as many rows, to rows of `features`; taps is 3 or 1."""

    taps: int
    rows: int
    channels: int
    below: int
    features: int


class Shape(NamedTuple):
    """Of a U-Net on windows of so many rows."""

    window_length: int
    dim: int
    width: int
    num_blocks: int


def blocks(shape: Shape) -> Iterator[tuple[int, int, int, int]]:
    """(rows, channels, channels from below, features) of each Block, downwards and up again."""
    for level in range(shape.num_blocks):
        yield shape.window_length >> level, shape.width << max(level - 1, 0), 0, shape.width << level
    for level in reversed(range(shape.num_blocks - 1)):
        features = shape.width << level
        yield shape.window_length >> level, features, 2 * features, features


def layers(shape: Shape) -> Iterator[Layer]:
    yield Layer(3, shape.window_length, shape.dim, 0, shape.width)
    for rows, channels, below, features in blocks(shape):
        yield Layer(3, rows, channels, below, features)
        yield Layer(3, rows, features, 0, features)
        yield Layer(1, rows, channels, below, features)
    yield Layer(1, shape.window_length, shape.width, 0, shape.dim)


def flops(shape: Shape, is_tiled: bool) -> int:
    """Of one window, without what follows from its noise level."""
    return sum(_flops(layer, is_tiled) for layer in layers(shape))


def _flops(layer: Layer, is_tiled: bool) -> int:
    products = layer.taps * layer.rows
    if _is_tiled(layer, is_tiled):
        products = NUM_PRODUCTS * _tiles(layer.rows)
    of_repeated = layer.taps * (layer.rows // 2)
    return 2 * layer.features * (products * layer.channels + of_repeated * layer.below)


def _is_tiled(layer: Layer, is_tiled: bool) -> bool:
    return is_tiled and layer.taps == 3 and convolution.is_wide(layer.channels, layer.features)


def _tiles(rows: int) -> int:
    return -(-rows // convolution.TILE)


def embedding_flops(shape: Shape) -> int:
    """Of one noise level: its embedding, and that embedding in every block."""
    hidden = 4 * shape.width
    return 2 * hidden * (shape.width + sum(features for *_, features in blocks(shape)))


def num_bytes(shape: Shape, num_windows: int, is_tiled: bool) -> int:
    """Of one forward pass with a noise level for each window."""
    rows = weights = 0
    for layer in layers(shape):
        rows += _linear_numbers(layer, is_tiled)
        weights += _weights(layer, is_tiled)
    for length, channels, below, features in blocks(shape):
        # Two normalisations: sums and squares, then (the first one's is done by the next tile) apply, add the residual.
        rows += length * features * (2 + 3)
        rows += 4 * shape.width + features  # the noise embedding
        weights += 4 * shape.width * features
        if channels < features and not below:  # pooled: two rows read, one written
            rows += 3 * length * channels
    return 4 * (num_windows * rows + weights)


def _linear_numbers(layer: Layer, is_tiled: bool) -> int:
    """Numbers of a window that a layer reads and writes."""
    taps, rows, channels, below, features = layer
    if _is_tiled(layer, is_tiled):
        read = (READS_OF_INPUT + NUM_PRODUCTS) * channels + READS_OF_PRODUCTS * features
        written = NUM_PRODUCTS * (channels + features) + convolution.TILE * features
        numbers = _tiles(rows) * (read + written)
    else:
        # Two shifted copies read and write x each, their union reads and writes three, which the product reads.
        numbers = rows * ((13 if taps == 3 else 1) * channels + features)
    if below:  # products at half the rows, each read once more as it is repeated
        numbers += (rows // 2) * (below + 2 * taps * features)
    return numbers


def _weights(layer: Layer, is_tiled: bool) -> int:
    size = layer.channels * layer.features
    of_x = (READS_OF_KERNEL + 2 * NUM_PRODUCTS) * size if _is_tiled(layer, is_tiled) else layer.taps * size
    return of_x + layer.taps * layer.below * layer.features
