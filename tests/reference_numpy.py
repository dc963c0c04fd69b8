"""The operations as loops over their formulas, in float64, and what peers need.

Nothing here comes from `alexnet_jax`: the tests compare the package with it.
"""

from collections.abc import Callable, Mapping

import numpy as np

Array = np.ndarray


def convolution(x: Array, kernel: Array, *, stride: int, padding, towers: int) -> Array:
    """Σ over window and the tower's own channels; NHWC and HWIO."""
    x = np.pad(x.astype(np.float64), ((0, 0), *padding, (0, 0)))
    size, _, channels, features = kernel.shape
    rows, columns = ((extent - size) // stride + 1 for extent in x.shape[1:3])
    y = np.zeros((len(x), rows, columns, features))
    for b, r, c, f in np.ndindex(*y.shape):
        first = f // (features // towers) * channels
        window = x[b, r * stride :, c * stride :, first:][:size, :size, :channels]
        y[b, r, c, f] = np.sum(window * kernel[..., f])
    return y


def local(x: Array, kernel: Array, *, stride: int, padding, towers: int) -> Array:
    """As `convolution` with a kernel per position: [rows, columns, h, w, C, F]."""
    x = np.pad(x.astype(np.float64), ((0, 0), *padding, (0, 0)))
    rows, columns, height, width, channels, features = kernel.shape
    y = np.zeros((len(x), rows, columns, features))
    for b, r, c, f in np.ndindex(*y.shape):
        first = f // (features // towers) * channels
        window = x[b, r * stride :, c * stride :, first:][:height, :width, :channels]
        y[b, r, c, f] = np.sum(window * kernel[r, c, ..., f])
    return y


def lrn(
    x: Array, *, size: int, k: float, alpha: float, beta: float, towers: int
) -> Array:
    """§3.3, the sum clipped to the channel's own tower."""
    x = x.astype(np.float64)
    y = np.zeros_like(x)
    per_tower = x.shape[-1] // towers
    for i in range(x.shape[-1]):
        tower = range(i // per_tower * per_tower, (i // per_tower + 1) * per_tower)
        near = [j for j in tower if abs(i - j) <= size // 2]
        y[..., i] = x[..., i] / (k + alpha * np.sum(x[..., near] ** 2, -1)) ** beta
    return y


def spatial_norm(x: Array, *, size: int, k: float, alpha: float, beta: float) -> Array:
    """The released net's rnorm: the sum over pixels of the same map."""
    x = x.astype(np.float64)
    y = np.zeros_like(x)
    reach = size // 2
    for r, c in np.ndindex(*x.shape[1:3]):
        rows = slice(max(r - reach, 0), r + reach + 1)
        columns = slice(max(c - reach, 0), c + reach + 1)
        energy = np.sum(x[:, rows, columns] ** 2, (1, 2))
        y[:, r, c] = x[:, r, c] / (k + alpha * energy) ** beta
    return y


def pool(x: Array, size: int, stride: int, reduce: Callable[..., Array]) -> Array:
    """`reduce` (np.max, np.mean) of every window, what hangs over the edge left out.

    Windows start every `stride` pixels until one reaches the edge.
    """
    starts = [[0], [0]]
    for of_axis, extent in zip(starts, x.shape[1:3], strict=True):
        while of_axis[-1] + size < extent:
            of_axis.append(of_axis[-1] + stride)
    return np.stack(
        [
            np.stack(
                [
                    reduce(x[:, r : r + size, c : c + size], axis=(1, 2))
                    for c in starts[1]
                ],
                axis=1,
            )
            for r in starts[0]
        ],
        axis=1,
    )


def slope(f: Callable[[Array], Array], x: Array, along: Array) -> Array:
    """The derivative of f along a direction by central differences, float64."""
    x, step = x.astype(np.float64), 1e-6 * max(np.abs(x).max(), 1.0)
    return (f(x + step * along) - f(x - step * along)) / (2 * step)


def relative_error(got: Array, expected: Array) -> float:
    """The largest difference relative to the largest magnitude expected."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, (got.shape, expected.shape)
    assert np.isfinite(got).all()
    return float(np.max(np.abs(got - expected)) / np.max(np.abs(expected)))


def to_peer_layout(
    tree: Mapping[str, Mapping[str, Array]], maps: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    """Parameters as PyTorch and ONNX hold them: OIHW, [out, in] over (C, H, W).

    Views where that is possible: half a gigabyte is slow to turn.

    Args:
      tree: by layer, `kernel` and `bias`; see `model.AlexNet`.
      maps: (towers, rows, columns, channels of a tower) of the maps that a dense layer
        flattens, by its name. Our order is that one; theirs is tower, channel, row,
        column.
    """
    peers = {}
    for layer, weights in tree.items():
        kernel, bias = np.asarray(weights['kernel']), np.asarray(weights['bias'])
        if kernel.ndim == 6:
            rows, columns, height, width, channels, features = kernel.shape
            kernel = kernel.reshape(rows * columns, height * width, channels, features)
            kernel = kernel.transpose(0, 3, 2, 1).reshape(rows * columns, features, -1)
            bias = bias.transpose(2, 0, 1)
        elif kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)
        else:
            if layer in maps:
                kernel = kernel.reshape(*maps[layer], -1).transpose(0, 3, 1, 2, 4)
                kernel = kernel.reshape(-1, kernel.shape[-1])
            kernel = kernel.T
        peers[f'{layer}.weight'] = kernel
        peers[f'{layer}.bias'] = bias
    return peers
