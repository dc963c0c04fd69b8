"""The operations of the network: convolution, pooling, normalisation, dropout.

Every function takes NHWC activations whose channels lie tower after tower
(`[tower 0 | tower 1]`), and `towers` says how many towers *this device* holds: two on
a mesh with one tower device, one where each tower has a device of its own. Nothing
here communicates; `model.py` does.

Each operation is its plain formula. `@on_cpu(form)` names the form that takes its place
where XLA compiles for a CPU; `cpu.py` says why it is faster. Other platforms compile
the formula. `operation.formula` is the formula itself, which the tests compare with.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alexnet_jax import cpu, windows
from alexnet_jax.cpu import on_cpu

Array = jax.Array
Padding = windows.Padding


@on_cpu(cpu.relu)
def relu(x: Array) -> Array:
    """max(x, 0), whose gradient at 0 is 0 (§3.1)."""
    return jax.nn.relu(x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    'relu': relu,
    'tanh': jnp.tanh,
    'sigmoid': jax.nn.sigmoid,
    'linear': lambda x: x,
}


@on_cpu(cpu.conv2d)
def conv2d(
    x: Array, kernel: Array, *, stride: int, padding: Padding, towers: int = 1
) -> Array:
    """Convolves each tower's maps with that tower's kernels (§3.5).

    Args:
      x: f32[B, H, W, towers * C], activations.
      kernel: f32[h, w, C, F], HWIO; the first F / towers outputs are tower 0's.
      stride: the same in both directions, pixels.
      padding: zeros above and below, left and right.
      towers: how many groups of channels to keep apart.

    Returns:
      f32[B, H', W', F].
    """
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=towers,
    )


def local2d(
    x: Array, kernel: Array, *, stride: int, padding: Padding, towers: int = 1
) -> Array:
    """A convolution that has another kernel at every position of the output.

    cuda-convnet's locally connected layer.

    Args:
      x: f32[B, H, W, towers * C].
      kernel: f32[H', W', h, w, C, F]; the first F / towers outputs are tower 0's.
      stride: the same in both directions, pixels.
      padding: zeros above and below, left and right.
      towers: how many groups of channels to keep apart.

    Returns:
      f32[B, H', W', F].
    """
    rows, columns, height, width, channels, features = kernel.shape
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    windows = jnp.stack(
        [
            x[
                :,
                i : i + (rows - 1) * stride + 1 : stride,
                j : j + (columns - 1) * stride + 1 : stride,
            ]
            for i in range(height)
            for j in range(width)
        ],
        axis=3,
    ).reshape(x.shape[0], rows, columns, height * width, towers, channels)
    kernel = kernel.reshape(
        rows, columns, height * width, channels, towers, features // towers
    )
    y = jnp.einsum('brskgc,rskcgf->brsgf', windows, kernel)
    return y.reshape(*y.shape[:3], features)


@on_cpu(cpu.dense)
def dense(x: Array, kernel: Array, *, towers: int = 1) -> Array:
    """Multiplies each tower's features by that tower's matrix.

    Args:
      x: f32[B, towers * N].
      kernel: f32[N, F]; the first F / towers columns are tower 0's.
      towers: how many groups of features to keep apart.

    Returns:
      f32[B, F].
    """
    if towers == 1:
        # Written as one of many, XLA turns the matrix around while it compiles.
        return x @ kernel
    inputs, features = kernel.shape
    apart = x.reshape(-1, towers, inputs)
    matrices = kernel.reshape(inputs, towers, features // towers)
    return jnp.einsum('btn,ntf->btf', apart, matrices).reshape(-1, features)


@on_cpu(cpu.add_bias)
def add_bias(x: Array, bias: Array) -> Array:
    """Adds a bias to every example and, if it is a vector, at every position.

    Args:
      x: f32[B, H, W, F] or f32[B, F].
      bias: f32[F], or f32[H, W, F] with a bias of its own for every position.
    """
    return x + bias.astype(x.dtype)


def flatten(x: Array, *, towers: int = 1) -> Array:
    """Flattens maps tower by tower, each in the order (row, column, channel).

    Tower-major order makes the flat vector of a device with both towers the
    concatenation of the flat vectors of two devices with one each, so one kernel
    serves every mesh. f32[B, H, W, C] to f32[B, H * W * C]; a flat input is returned.
    """
    if x.ndim == 2:
        return x
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, towers, channels // towers)
    return x.transpose(0, 3, 1, 2, 4).reshape(batch, -1)


def local_response_norm(
    x: Array, *, size: int, k: float, alpha: float, beta: float, towers: int = 1
) -> Array:
    """Divides each activation by the energy of its neighbours across channels (§3.3).

        y_i = x_i / (k + alpha * sum_{j = i - size//2}^{i + size//2} x_j²) ^ beta

    The window is clipped at the edges of the tower and never crosses into the other.
    `alpha` multiplies each squared term, as in the paper's formula. Others divide it
    by the window first; to get this function's `alpha`:

    | system                                   | its alpha → alpha here | default k |
    |------------------------------------------|------------------------|-----------|
    | paper §3.3, `tf.nn.lrn`                  | alpha                  | 2; 1      |
    | released 2012 source, Caffe, ONNX, torch | alpha / size           | 2; 1      |

    So the paper's text reads 1e-4 and what it ran was 2e-5.

    Args:
      x: f32[B, H, W, towers * C], at the scale of 0–255 images (at unit scale the
        norm degenerates to the constant factor k ** -beta).
      size: channels in the window, odd.
      k: the constant under the sum.
      alpha: the factor of each squared term.
      beta: the power of the denominator.
      towers: how many groups of channels to keep apart.

    Returns:
      f32[B, H, W, towers * C].
    """
    window = functools.partial(_channel_sum, size=size, towers=towers)
    return response_norm(x, window, k, alpha, beta)


def spatial_response_norm(
    x: Array, *, size: int, k: float, alpha: float, beta: float
) -> Array:
    """Divides each activation by the energy around it in its own map.

        y = x / (k + alpha * sum of x² over size × size pixels) ^ beta

    Zeros lie beyond the edge. The paper never mentions it; the released net has it
    after conv2 (`type=rnorm`), where `scale` is divided by size² before use, so that
    its 0.001 is an `alpha` of 0.001 / 25 here.

    Args:
      x: f32[B, H, W, C].
      size: pixels along each side of the window, odd.
      k: the constant under the sum.
      alpha: the factor of each squared term.
      beta: the power of the denominator.
    """
    window = functools.partial(_pixel_sum, size=size)
    return response_norm(x, window, k, alpha, beta)


@on_cpu(cpu.response_norm)
def response_norm(
    x: Array, window_sum: Callable[[Array], Array], k: float, alpha: float, beta: float
) -> Array:
    """The formula that both norms share; computed in float32.

    Args:
      x: [B, H, W, C].
      window_sum: adds up each element and its neighbours. It must be symmetric: j is a
        neighbour of i where i is one of j. Hashable, so that it can be compiled.
      k: the constant under the sum.
      alpha: the factor of each squared term.
      beta: the power of the denominator.
    """
    wide = x.astype(jnp.float32)
    return (wide / (k + alpha * window_sum(wide**2)) ** beta).astype(x.dtype)


def _channel_sum(x: Array, size: int, towers: int) -> Array:
    """Sums over `size` neighbouring channels of each tower, fewer at its edges."""
    maps = x.reshape(*x.shape[:-1], towers, -1)
    before = [1] * (maps.ndim - 1)
    total = lax.reduce_window(
        maps,
        np.array(0, x.dtype),
        lax.add,
        window_dimensions=(*before, size),
        window_strides=(*before, 1),
        padding=(*[(0, 0)] * len(before), (size // 2, size // 2)),
    )
    return total.reshape(x.shape)


def _pixel_sum(x: Array, size: int) -> Array:
    """Sums over size × size neighbouring pixels, fewer at the edges."""
    # Along one side and then the other: 2 × size additions, not size².
    margin, none = (size // 2, size // 2), (0, 0)
    rows = _window_sum(x, (size, 1), 1, (margin, none))
    return _window_sum(rows, (1, size), 1, (none, margin))


def _window_sum(
    x: Array, extents: tuple[int, int], stride: int, padding: Padding
) -> Array:
    return lax.reduce_window(
        x,
        np.array(0, x.dtype),
        lax.add,
        window_dimensions=(1, *extents, 1),
        window_strides=(1, stride, stride, 1),
        padding=((0, 0), *padding, (0, 0)),
    )


def avg_pool(x: Array, size: int, stride: int) -> Array:
    """Averages each window; one that hangs over the edge, over what it covers.

    cuda-convnet's rule, and `max_pool`'s for the number of windows.

    Args:
      x: f32[B, H, W, C].
      size: window, pixels.
      stride: step, pixels.
    """
    beyond = windows.overhang(x.shape, size, stride)
    ones = jnp.ones((1, *x.shape[1:3], 1))
    covered = _window_sum(ones, (size, size), stride, beyond)
    total = _window_sum(x, (size, size), stride, beyond)
    return (total / covered).astype(x.dtype)


@on_cpu(cpu.max_pool)
def max_pool(x: Array, size: int, stride: int, ties: str = 'first') -> Array:
    """Takes the largest value of each window; windows overlap if size > stride (§3.4).

    The output has 1 + ceil((extent - size) / stride) rows and columns, cuda-convnet's
    rule: a last window that hangs over the edge is clipped, not dropped. In the paper's
    net every pool fits exactly, so that the choice shows only in other nets.

    Args:
      x: f32[B, H, W, C].
      size: window, pixels.
      stride: step, pixels.
      ties: where the gradient goes if several pixels have the largest value: `'first'`
        of them in row-major order (XLA, PyTorch), or `'all'` (cuda-convnet).
    """
    below, right = windows.overhang(x.shape, size, stride)
    y = lax.reduce_window(
        x,
        np.array(-np.inf, x.dtype),
        lax.max,
        window_dimensions=(1, size, size, 1),
        window_strides=(1, stride, stride, 1),
        padding=((0, 0), below, right, (0, 0)),
    )
    if ties == 'first':
        return y
    y = lax.stop_gradient(y)
    # Adds 0 for every pixel that has the largest value, each with a slope of 1.
    return y + sum(
        jnp.where(pixel == y, pixel - lax.stop_gradient(pixel), 0)
        for pixel in windows.views(x, size, stride)
    )


def dropout(x: Array, mask: Array | None, *, rate: float, scaling: str) -> Array:
    """Zeroes the units whose mask is 0 (§4.2); the caller draws the mask.

    Args:
      x: f32[B, N].
      mask: bool[B, N], True for the units kept; None when evaluating.
      rate: the probability with which a unit was dropped.
      scaling: `'test'` as in 2012, the mask alone in training and ×(1 − rate) in
        testing; `'train'`, today's inverted form, ÷(1 − rate) in training and
        nothing in testing.
    """
    keep = 1.0 - rate
    if mask is None:
        return x * keep if scaling == 'test' else x
    kept = jnp.where(mask, x, jnp.zeros((), x.dtype))
    return kept if scaling == 'test' else kept / keep


@on_cpu(cpu.sum_of_squares)
def sum_of_squares(x: Array) -> Array:
    """The squared norm of an array, f32[]."""
    return jnp.sum(jnp.square(x))
