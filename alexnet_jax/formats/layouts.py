"""Kernels and flattened maps in the order of channels-first frameworks, and back.

Caffe, PyTorch and ONNX hold a convolution's kernel as (outputs, inputs, rows, columns)
and flatten maps as (channel, row, column). Here a kernel is (rows, columns, inputs,
outputs), and maps are flattened tower by tower as (row, column, channel). Both ways
only move values: a round trip is bit-exact.
"""

import itertools

import numpy as np

from alexnet_jax import model


def to_channels_first(kernel: np.ndarray) -> np.ndarray:
    """f32[rows, columns, in, out] to f32[out, in, rows, columns]."""
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))


def from_channels_first(kernel: np.ndarray) -> np.ndarray:
    """f32[out, in, rows, columns] to f32[rows, columns, in, out]."""
    return np.ascontiguousarray(kernel.transpose(2, 3, 1, 0))


def swap_red_and_blue(kernel: np.ndarray) -> np.ndarray:
    """The first layer's f32[rows, columns, 3, out], RGB for BGR or back."""
    return np.ascontiguousarray(kernel[:, :, ::-1])


def flattened_maps(network: model.Network) -> tuple[str, model.Shape]:
    """The layer that flattens maps, and their shape (rows, columns, channels)."""
    shapes = model.layer_shapes(network)
    for before, shape in itertools.pairwise(shapes):
        if len(before.output) == 3 and len(shape.linear) == 1:
            return shape.name, before.output
    raise ValueError('the network has no dense layer after a convolution')


def rows_to_channels_first(
    kernel: np.ndarray, maps: model.Shape, towers: int
) -> np.ndarray:
    """Orders the rows of a flattening layer's kernel by (channel, row, column).

    Args:
      kernel: f32[in, out]; `in` is the whole of the maps, or one tower's part where
        the layer reads its own tower alone.
      maps: their (rows, columns, channels), of all towers.
      towers: of the network.
    """
    rows, columns, channels = maps
    parts = len(kernel) * towers // (rows * columns * channels)  # towers it reads
    kernel = kernel.reshape(parts, rows, columns, channels // towers, -1)
    return np.ascontiguousarray(
        kernel.transpose(0, 3, 1, 2, 4).reshape(-1, kernel.shape[-1])
    )


def rows_to_maps(kernel: np.ndarray, maps: model.Shape, towers: int) -> np.ndarray:
    """A kernel that flattens whole maps, as f32[rows, columns, channels, out]."""
    rows, columns, channels = maps
    first = rows_to_channels_first(kernel, maps, towers)
    return np.ascontiguousarray(
        first.reshape(channels, rows, columns, -1).transpose(1, 2, 0, 3)
    )


def rows_from_maps(kernel: np.ndarray, towers: int) -> np.ndarray:
    """The inverse of `rows_to_maps`."""
    first = kernel.transpose(2, 0, 1, 3).reshape(-1, kernel.shape[-1])
    return rows_from_channels_first(first, kernel.shape[:3], towers)


def rows_from_channels_first(
    kernel: np.ndarray, maps: model.Shape, towers: int
) -> np.ndarray:
    """The inverse of `rows_to_channels_first`."""
    rows, columns, channels = maps
    parts = len(kernel) * towers // (rows * columns * channels)
    kernel = kernel.reshape(parts, channels // towers, rows, columns, -1)
    return np.ascontiguousarray(
        kernel.transpose(0, 2, 3, 1, 4).reshape(-1, kernel.shape[-1])
    )
