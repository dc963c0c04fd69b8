"""The operations of the network: convolution, pooling, normalisation, dropout.

Every function takes NHWC activations whose channels are laid out tower after tower
(`[tower 0 | tower 1]`), and `towers` says how many towers *this device* holds: two on
a mesh with one tower device, one where each tower has a device of its own. Nothing
here communicates; that is `model.py`'s business.

Each operation is written in the form that was fastest when measured on a CPU, and
`compiler_options` has what makes XLA fast there; other platforms take the same forms
with XLA's own defaults, not measured. `tests/test_layers.py` compares each operation
with its plain formula, `experiments/records/layers` has what each costs.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

Array = jax.Array
Padding = tuple[tuple[int, int], tuple[int, int]]
# The sum over each element and its neighbours. Being one is mutual: the sum is its own
# transpose.
WindowSum = Callable[[Array], Array]


def compiler_options(platform: str) -> dict[str, str]:
    """What the compiled steps ask of XLA on a platform (`'cpu'`, `'gpu'`, …).

    XLA's CPU backend hands convolutions to YNNPACK by default, whose gradients took two
    to four times as long as those of the Eigen kernels it has besides; single matrix
    products are the other way round.
    """
    if platform != 'cpu':
        return {}
    return {
        'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT'
    }


@jax.custom_jvp
def computed_once(x: Array) -> Array:
    """x itself, so that on a CPU XLA computes it once for all that reads it.

    XLA repeats what is cheap inside every loop that reads it. Where such a loop turns
    axes around, as before the gradient of a convolution's kernel, the repeated part
    runs in the worst order of memory: a pool took 100 ms there and takes 8. A division
    counts as too dear to repeat; this one is by a 1 that the compiler cannot see.
    """
    return lax.platform_dependent(
        x,
        cpu=lambda x: x / jnp.where(x == x, 1, 2).astype(x.dtype),
        default=lambda x: x,
    )


computed_once.defjvp(lambda primals, tangents: (computed_once(*primals), *tangents))


@jax.custom_vjp
def relu(x: Array) -> Array:
    """max(x, 0). Its gradient reads the output, so that the input need not be kept."""
    return jnp.maximum(x, 0)


def _relu_forward(x: Array) -> tuple[Array, Array]:
    y = relu(x)
    return y, y


relu.defvjp(_relu_forward, lambda y, grad: (jnp.where(y > 0, grad, 0),))


ACTIVATIONS = {
    'relu': relu,
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
        # convolution with feature_group_count=2 is ten times slower than this.
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
    return lax.conv_general_dilated(
        computed_once(x),
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )


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


@jax.custom_vjp
def add_bias(x: Array, bias: Array) -> Array:
    """Adds a bias to every example and, if it is a vector, at every position.

    Args:
      x: f32[B, H, W, F] or f32[B, F].
      bias: f32[F], or f32[H, W, F] with a bias of its own for every position.
    """
    return x + bias.astype(x.dtype)


def _add_bias_backward(bias: Array, grad: Array) -> tuple[Array, Array]:
    # The sum over all rows as a product: XLA's CPU reduction adds one element after
    # the other, twelve times slower.
    grad = computed_once(grad)
    rows = grad.reshape(-1, bias.size)
    grad_bias = jnp.dot(
        jnp.ones(len(rows), grad.dtype), rows, preferred_element_type=bias.dtype
    )
    return grad, grad_bias.reshape(bias.shape)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), bias), _add_bias_backward)


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
    return _response_norm(x, window, k, alpha, beta)


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
    return _response_norm(x, window, k, alpha, beta)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _response_norm(
    x: Array, window: WindowSum, k: float, alpha: float, beta: float
) -> Array:
    wide = x.astype(jnp.float32)
    denominator = k + alpha * window(jnp.square(wide))
    return (wide * _root(denominator, 1.0 - beta) / denominator).astype(x.dtype)


def _response_norm_forward(
    x: Array, window: WindowSum, k: float, alpha: float, beta: float
) -> tuple[Array, Array]:
    return _response_norm(x, window, k, alpha, beta), x


def _response_norm_backward(
    window: WindowSum, k: float, alpha: float, beta: float, x: Array, grad: Array
) -> tuple[Array]:
    # With d the denominator before its power and W the sum over the window,
    # dx = g d^-β - 2 α β x W(g x d^(-β - 1)). Working d out again costs less than
    # keeping it. Ending in a division keeps XLA from fusing all of this into each of
    # its readers and so doing it several times: a division counts as too dear for that.
    wide, grad = x.astype(jnp.float32), grad.astype(jnp.float32)
    denominator = k + alpha * window(jnp.square(wide))
    root = _root(denominator, 1.0 - beta)
    inner = window(grad * wide * root / jnp.square(denominator))
    slope = 2.0 * alpha * beta
    grad_x = (grad * root - slope * wide * inner * denominator) / denominator
    return (grad_x.astype(x.dtype),)


_response_norm.defvjp(_response_norm_forward, _response_norm_backward)


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


def _root(x: Array, power: float) -> Array:
    """x ** power for x > 0; a quarter, which the paper's beta needs, by two roots."""
    return jnp.sqrt(jnp.sqrt(x)) if power == 0.25 else jnp.exp(power * jnp.log(x))


def avg_pool(x: Array, size: int, stride: int) -> Array:
    """Averages each window; one that hangs over the edge, over what it covers.

    cuda-convnet's rule, and `max_pool`'s for the number of windows.

    Args:
      x: f32[B, H, W, C].
      size: window, pixels.
      stride: step, pixels.
    """
    overhang = _overhang(x.shape, size, stride)
    ones = jnp.ones((1, *x.shape[1:3], 1))
    covered = _window_sum(ones, (size, size), stride, overhang)
    total = _window_sum(x, (size, size), stride, overhang)
    return (total / covered).astype(x.dtype)


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
    # Not reduce_window: XLA's CPU loop over a window is four times slower than these.
    return functools.reduce(jnp.maximum, _taps(x, size, stride))


def _taps(x: Array, size: int, stride: int) -> list[Array]:
    """The views of x that have the first, second, … pixel of every window."""
    (_, below), (_, right) = _overhang(x.shape, size, stride)
    x = jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)), constant_values=-np.inf)
    rows, columns = (extent - size + 1 for extent in x.shape[1:3])
    return [
        x[:, i : i + rows : stride, j : j + columns : stride]
        for i in range(size)
        for j in range(size)
    ]


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
    # XLA differentiates a maximum of strided views into size² additions to the whole of
    # x, and reduce_window into select-and-scatter, ten times slower than this. Here
    # each pixel gathers from the windows that cover it. With the output as blocks of
    # stride × stride pixels, pixel (row, column) of a block lies in the window i blocks
    # up and j to the left as that one's tap (row + i * stride, column + j * stride).
    x, y = residuals
    first = jnp.full(y.shape, -1, jnp.int8 if size * size < 128 else jnp.int32)
    for index, tap in reversed(list(enumerate(_taps(x, size, stride)))):
        first = jnp.where(tap == y, jnp.asarray(index, first.dtype), first)
    reach = (size - 1) // stride
    batch, rows, columns, channels = y.shape
    rows, columns = rows + reach, columns + reach
    taps = np.full(2 * ((reach + 1) * stride,), -2)  # -2 where a window has ended
    taps[:size, :size] = np.arange(size * size).reshape(size, size)

    pads = ((0, 0), (reach, reach), (reach, reach), (0, 0))
    first = jnp.pad(first, pads, constant_values=-1)
    grad = jnp.pad(grad, pads)

    def windows(maps: Array, i: int, j: int) -> Array:
        above, left = reach - i, reach - j
        return maps[:, above : above + rows, None, left : left + columns, None]

    grad_x = jnp.zeros((), grad.dtype)
    for i in range(reach + 1):
        for j in range(reach + 1):
            tap = taps[i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
            tap = jnp.asarray(tap[:, None, :, None], first.dtype)
            grad_x += jnp.where(windows(first, i, j) == tap, windows(grad, i, j), 0)
    grad_x = grad_x.reshape(batch, rows * stride, columns * stride, channels)
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
