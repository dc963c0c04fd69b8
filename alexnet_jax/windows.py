"""Windows that slide over maps: how many there are, and the pixels that they cover."""

import math

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Padding = tuple[tuple[int, int], tuple[int, int]]  # (above, below), (left, right)


def pooled_extent(extent: int, size: int, stride: int) -> int:
    """Rows (or columns) after pooling: 1 + ceil((extent - size) / stride).

    cuda-convnet's rule: a last window that hangs over the edge is clipped, not dropped.
    """
    return 1 + math.ceil((extent - size) / stride)


def overhang(shape: tuple[int, ...], size: int, stride: int) -> Padding:
    """How far the last windows hang over the bottom and the right of [B, H, W, C]."""
    rows, columns = (
        (0, (pooled_extent(extent, size, stride) - 1) * stride + size - extent)
        for extent in shape[1:3]
    )
    return rows, columns


def views(x: Array, size: int, stride: int) -> list[Array]:
    """The views of x that have the first, second, … pixel of every window.

    Args:
      x: f32[B, H, W, C].
      size: of a window, pixels.
      stride: from window to window, pixels.

    Returns:
      size² arrays f32[B, H', W', C], in row-major order; -inf lies beyond the edge.
    """
    (_, below), (_, right) = overhang(x.shape, size, stride)
    x = jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)), constant_values=-np.inf)
    rows, columns = (extent - size + 1 for extent in x.shape[1:3])
    return [
        x[:, i : i + rows : stride, j : j + columns : stride]
        for i in range(size)
        for j in range(size)
    ]
