"""The operations of the network: convolution, pooling, normalisation, dropout.

Every function takes NHWC activations whose channels are laid out tower after tower
(`[tower 0 | tower 1]`), and `towers` says how many towers *this device* holds: two on
a mesh with one tower device, one where each tower has a device of its own. Nothing
here communicates; that is `model.py`'s business.

Each operation is written in the form that was fastest when measured on a CPU
(CHANGELOG.md); `tests/test_layers.py` compares each with the plain formula.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

Array = jax.Array
Padding = tuple[tuple[int, int], tuple[int, int]]

ACTIVATIONS = {
    'relu': jax.nn.relu,
    'tanh': jnp.tanh,
    'linear': lambda x: x,
}


def conv2d(
    x: Array, kernel: Array, *, stride: int, padding: Padding, towers: int = 1
) -> Array:
    """Convolves each tower's maps with that tower's kernels.

    Args:
      x: f32[B, H, W, towers * C], activations.
      kernel: f32[h, w, C, F], HWIO; the first F / towers outputs are tower 0's.
      stride: the same in both directions, pixels.
      padding: zeros above and below, left and right.
      towers: how many groups of channels to keep apart.

    Returns:
      f32[B, H', W', F].
    """
    if towers > 1:
        # Groups as slices of ordinary convolutions: on a CPU, XLA's gradient of a
        # convolution with feature_group_count=2 is several times slower than this.
        return jnp.concatenate(
            [
                conv2d(x_tower, kernel_tower, stride=stride, padding=padding)
                for x_tower, kernel_tower in zip(
                    jnp.split(x, towers, axis=-1),
                    jnp.split(kernel, towers, axis=-1),
                    strict=True,
                )
            ],
            axis=-1,
        )
    if x.shape[-1] <= 4:
        return _image_conv_as_matmul(x, kernel, stride, padding)
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )


def _image_conv_as_matmul(
    x: Array, kernel: Array, stride: int, padding: Padding
) -> Array:
    """A convolution of an image as one matrix product.

    conv1 has three input channels, too few for a convolution's inner loop, and its
    weight gradient runs at a tenth of the rate of a matrix product. Folding each
    stride × stride block of pixels into the channels turns an 11 × 11 stride-4 kernel
    over 3 channels into a 3 × 3 stride-1 kernel over 48, whose nine shifted views are
    the columns of a matrix. The kernel is padded with zeros to 12 × 12: 19 % more
    work for a far better rate.
    """
    batch, height, width, channels = x.shape
    size, features = kernel.shape[0], kernel.shape[-1]
    taps = math.ceil(size / stride)
    outputs = [
        (extent + sum(pad) - size) // stride + 1
        for extent, pad in zip((height, width), padding, strict=True)
    ]
    blocks = [out + taps - 1 for out in outputs]
    # A negative amount crops: pixels that no window reaches.
    x = lax.pad(
        x,
        jnp.zeros((), x.dtype),
        (
            (0, 0, 0),
            *(
                (before, count * stride - extent - before, 0)
                for (before, _), count, extent in zip(
                    padding, blocks, (height, width), strict=True
                )
            ),
            (0, 0, 0),
        ),
    )
    x = x.reshape(batch, blocks[0], stride, blocks[1], stride, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, *blocks, -1)
    fill = taps * stride - size
    kernel = jnp.pad(kernel, ((0, fill), (0, fill), (0, 0), (0, 0)))
    kernel = kernel.reshape(taps, stride, taps, stride, channels, features)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(-1, features)
    patches = jnp.concatenate(
        [
            x[:, i : i + outputs[0], j : j + outputs[1]]
            for i in range(taps)
            for j in range(taps)
        ],
        axis=-1,
    )
    return patches @ kernel


def local2d(
    x: Array, kernel: Array, *, stride: int, padding: Padding, towers: int = 1
) -> Array:
    """A convolution whose kernel is another one at every position of the output.

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
    ).reshape(len(x), rows, columns, height * width, towers, channels)
    kernel = kernel.reshape(
        rows, columns, height * width, channels, towers, features // towers
    )
    y = jnp.einsum('brskgc,rskcgf->brsgf', windows, kernel)
    return y.reshape(*y.shape[:3], features)


def dense(x: Array, kernel: Array, *, towers: int = 1) -> Array:
    """Multiplies each tower's features by that tower's matrix.

    Args:
      x: f32[B, towers * N].
      kernel: f32[N, F]; the first F / towers columns are tower 0's.
      towers: how many groups of features to keep apart.

    Returns:
      f32[B, F].
    """
    return jnp.concatenate(
        [
            x_tower @ kernel_tower
            for x_tower, kernel_tower in zip(
                jnp.split(x, towers, axis=-1),
                jnp.split(kernel, towers, axis=-1),
                strict=True,
            )
        ],
        axis=-1,
    )


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
    channels = x.shape[-1] // towers
    # The window sum as a product with a 0/1 band matrix: a matrix product beats
    # reduce_window over the channel axis by far on every platform measured.
    squares = jnp.square(x.astype(jnp.float32)).reshape(*x.shape[:-1], towers, channels)
    energy = squares @ jnp.asarray(_band_matrix(channels, size))
    denominator = k + alpha * energy.reshape(x.shape)
    return (x * _negative_power(denominator, beta)).astype(x.dtype)


@functools.cache
def _band_matrix(channels: int, size: int) -> np.ndarray:
    index = np.arange(channels)
    distance = np.abs(index[:, None] - index[None, :])
    return (distance <= size // 2).astype(np.float32)


def _negative_power(x: Array, beta: float) -> Array:
    """x ** -beta for x > 0; the paper's beta = 3/4 without a logarithm."""
    if beta == 0.75:
        root = lax.rsqrt(x)
        return root * jnp.sqrt(root)
    return jnp.exp(-beta * jnp.log(x))


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
    squares = jnp.square(x.astype(jnp.float32))
    margin = (size // 2, size // 2)
    energy = _window_sum(squares, size, 1, (margin, margin))
    return (x * _negative_power(k + alpha * energy, beta)).astype(x.dtype)


def avg_pool(x: Array, size: int, stride: int) -> Array:
    """Averages each window; one that hangs over the edge, over what it covers.

    cuda-convnet's rule, and `max_pool`'s for the number of windows.

    Args:
      x: f32[B, H, W, C].
      size: window, pixels.
      stride: step, pixels.
    """
    overhang = _overhang(x.shape, size, stride)
    covered = _window_sum(jnp.ones((1, *x.shape[1:3], 1)), size, stride, overhang)
    return (_window_sum(x, size, stride, overhang) / covered).astype(x.dtype)


def _window_sum(x: Array, size: int, stride: int, padding: Padding) -> Array:
    return lax.reduce_window(
        x,
        np.array(0, x.dtype),
        lax.add,
        window_dimensions=(1, size, size, 1),
        window_strides=(1, stride, stride, 1),
        padding=((0, 0), *padding, (0, 0)),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool(x: Array, size: int, stride: int) -> Array:
    """Takes the largest value of each window; windows overlap if size > stride (§3.4).

    The output has 1 + ceil((extent - size) / stride) rows and columns, cuda-convnet's
    rule: a last window that hangs over the edge is clipped, not dropped. In the paper's
    net every pool fits exactly, so that the choice shows only in other nets.
    The gradient goes to the first maximum of a window in row-major order.

    Args:
      x: f32[B, H, W, C].
      size: window, pixels.
      stride: step, pixels.
    """
    return lax.reduce_window(
        x,
        np.array(-np.inf, x.dtype),
        lax.max,
        window_dimensions=(1, size, size, 1),
        window_strides=(1, stride, stride, 1),
        padding=((0, 0), *_overhang(x.shape, size, stride), (0, 0)),
    )


def _overhang(shape: tuple[int, ...], size: int, stride: int) -> Padding:
    """Padding at the bottom and right that lets the last window hang over."""
    rows, columns = (
        (0, (pooled_extent(extent, size, stride) - 1) * stride + size - extent)
        for extent in shape[1:3]
    )
    return rows, columns


def pooled_extent(extent: int, size: int, stride: int) -> int:
    """Rows (or columns) after pooling: 1 + ceil((extent - size) / stride)."""
    return 1 + math.ceil((extent - size) / stride)


def _max_pool_forward(
    x: Array, size: int, stride: int
) -> tuple[Array, tuple[Array, Array]]:
    y = max_pool(x, size, stride)
    return y, (x, y)


def _max_pool_backward(
    size: int, stride: int, residuals: tuple[Array, Array], grad: Array
) -> tuple[Array]:
    # XLA differentiates reduce_window into select-and-scatter, 2.4 times slower on a
    # CPU than these size² strided comparisons.
    x, y = residuals
    (_, below), (_, right) = _overhang(x.shape, size, stride)
    padded = jnp.pad(
        x, ((0, 0), (0, below), (0, right), (0, 0)), constant_values=-np.inf
    )
    _, height, width, _ = padded.shape
    span = [(extent - 1) * stride + 1 for extent in y.shape[1:3]]
    claimed = jnp.zeros(y.shape, bool)
    grad_x = jnp.zeros(padded.shape, x.dtype)
    for i in range(size):
        for j in range(size):
            view = padded[:, i : i + span[0] : stride, j : j + span[1] : stride]
            here = (view == y) & ~claimed
            claimed |= here
            grad_x += lax.pad(
                jnp.where(here, grad, 0),
                jnp.zeros((), grad.dtype),
                (
                    (0, 0, 0),
                    (i, height - i - span[0], stride - 1),
                    (j, width - j - span[1], stride - 1),
                    (0, 0, 0),
                ),
            )
    return (grad_x[:, : x.shape[1], : x.shape[2]],)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


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


def gaussian(key: Array, shape: tuple[int, ...], std: ArrayLike) -> Array:
    """Zero-mean Gaussian weights of the given standard deviation, f32 (§5)."""
    return jnp.asarray(std, jnp.float32) * jax.random.normal(key, shape, jnp.float32)
