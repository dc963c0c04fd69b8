"""The forms of `layers.py`'s operations for XLA's CPU backend, and when they are taken.

Each computes what its plain formula says and is here because it was measured to be
faster (`experiments/records/layers`, docs/speed.md); `tests/test_cpu.py` compares the
two. Three things make up for most of it:

- XLA's CPU loops over windows and reductions go element by element. Strided views,
  sums of whole parts and products with ones do not.
- XLA repeats what looks cheap inside every loop that reads it (`computed_once`).
- Derivatives that XLA finds keep or recompute more than they need.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax import windows

Array = jax.Array
Padding = tuple[tuple[int, int], tuple[int, int]]
WindowSum = Callable[[Array], Array]
_PLAIN = contextvars.ContextVar('plain formulas', default=False)


def on_cpu(form: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Decorates a formula with the form that replaces it where jax runs on a CPU.

    The choice is made while a program is traced, by jax's default backend, on which all
    of this package computes; within `plain_formulas` it is always the formula.
    `operation.formula` is the formula, on any platform.
    """

    def decorate(formula: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(formula)
        def operation(*args: Any, **kwargs: Any) -> Any:
            here = jax.default_backend() == 'cpu' and not _PLAIN.get()
            chosen = form if here else formula
            return chosen(*args, **kwargs)

        operation.formula = formula  # pyrefly: ignore
        return operation

    return decorate


@contextlib.contextmanager
def plain_formulas() -> Iterator[None]:
    """What is traced within it is for any platform, whichever this one is."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


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


def quick_compiler_options(platform: str) -> dict[str, str]:
    """What a program asks of XLA on a platform that runs once, such as the first draw.

    LLVM takes most of the time at its level 3: 6 s of computing for the initial values
    of any net, and 1.7 s at level 2, which draws the same bits as fast.
    """
    return {'xla_backend_optimization_level': '2'} if platform == 'cpu' else {}


@jax.custom_jvp
def computed_once(x: Array) -> Array:
    """x itself, but XLA computes it once for all that reads it.

    XLA repeats what is cheap inside every loop that reads it. Where such a loop turns
    axes around, as before the gradient of a convolution's kernel, the repeated part
    runs in the worst order of memory: a pool took 100 ms there and takes 8. A division
    counts as too dear to repeat; this one is by a 1 that the compiler cannot see.
    """
    return x / jnp.where(x == x, 1, 2).astype(x.dtype)


computed_once.defjvp(lambda primals, tangents: (computed_once(*primals), *tangents))


@jax.custom_vjp
def relu(x: Array) -> Array:
    """Its gradient reads the output, so that the input need not be kept."""
    return jnp.maximum(x, 0)


def _relu_forward(x: Array) -> tuple[Array, Array]:
    y = relu(x)
    return y, y


relu.defvjp(_relu_forward, lambda y, grad: (jnp.where(y > 0, grad, 0),))


def conv2d(
    x: Array, kernel: Array, *, stride: int, padding: Padding, towers: int = 1
) -> Array:
    """Groups as slices of ordinary convolutions.

    XLA's gradient of a convolution with `feature_group_count=2` is ten times slower.
    """
    if towers > 1:
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
    return jax.lax.conv_general_dilated(
        computed_once(x),
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )


def dense(x: Array, kernel: Array, *, towers: int = 1) -> Array:
    """A product for each tower rather than one batched product."""
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
    """The bias's gradient is a product with ones.

    XLA's reduction adds one element after the other, twelve times slower.
    """
    return x + bias.astype(x.dtype)


def _add_bias_backward(bias: Array, grad: Array) -> tuple[Array, Array]:
    grad = computed_once(grad)
    rows = grad.reshape(-1, bias.size)
    grad_bias = jnp.dot(
        jnp.ones(len(rows), grad.dtype), rows, preferred_element_type=bias.dtype
    )
    return grad, grad_bias.reshape(bias.shape)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), bias), _add_bias_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def response_norm(
    x: Array, window_sum: WindowSum, k: float, alpha: float, beta: float
) -> Array:
    """Its gradient keeps x alone and works the denominator out again.

    With d the denominator before its power and W the sum over the window, which is its
    own transpose, dx = g d^-β - 2 α β x W(g x d^(-β - 1)).
    """
    wide = x.astype(jnp.float32)
    denominator = k + alpha * window_sum(jnp.square(wide))
    return (wide * _power(denominator, 1.0 - beta) / denominator).astype(x.dtype)


def _response_norm_forward(
    x: Array, window_sum: WindowSum, k: float, alpha: float, beta: float
) -> tuple[Array, Array]:
    return response_norm(x, window_sum, k, alpha, beta), x


def _response_norm_backward(
    window_sum: WindowSum, k: float, alpha: float, beta: float, x: Array, grad: Array
) -> tuple[Array]:
    # Ending in a division keeps XLA from fusing all of this into each of its readers
    # and so doing it several times: a division counts as too dear for that.
    wide, grad = x.astype(jnp.float32), grad.astype(jnp.float32)
    denominator = k + alpha * window_sum(jnp.square(wide))
    root = _power(denominator, 1.0 - beta)
    inner = window_sum(grad * wide * root / jnp.square(denominator))
    slope = 2.0 * alpha * beta
    grad_x = (grad * root - slope * wide * inner * denominator) / denominator
    return (grad_x.astype(x.dtype),)


response_norm.defvjp(_response_norm_forward, _response_norm_backward)


def _power(x: Array, power: float) -> Array:
    """x ** power for x > 0; a quarter, which the paper's beta needs, by two roots."""
    return jnp.sqrt(jnp.sqrt(x)) if power == 0.25 else jnp.exp(power * jnp.log(x))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x: Array, size: int, stride: int, ties: str = 'first') -> Array:
    """The maximum of strided views, and a gradient that each pixel gathers.

    XLA's loop over a window is four times slower than the views. It differentiates a
    maximum of views into size² additions to the whole of x, and `reduce_window` into
    select-and-scatter, ten times slower than gathering.
    """
    return functools.reduce(jnp.maximum, windows.views(x, size, stride))


def _max_pool_forward(
    x: Array, size: int, stride: int, ties: str
) -> tuple[Array, tuple[Array, Array]]:
    y = max_pool(x, size, stride, ties)
    return y, (x, y)


def _max_pool_backward(
    size: int, stride: int, ties: str, residuals: tuple[Array, Array], grad: Array
) -> tuple[Array]:
    # Each pixel gathers from the windows that cover it. With the output as blocks of
    # stride × stride pixels, pixel (row, column) of a block lies in the window i blocks
    # up and j to the left, there at (row + i * stride, column + j * stride).
    x, y = residuals
    reach = (size - 1) // stride
    batch, rows, columns, channels = y.shape
    rows, columns = rows + reach, columns + reach
    pads = ((0, 0), (reach, reach), (reach, reach), (0, 0))

    def of_window(maps: Array, i: int, j: int) -> Array:
        above, left = reach - i, reach - j
        return maps[:, above : above + rows, None, left : left + columns, None]

    # The number of each place in its window, -2 where the window has ended.
    places = np.full(2 * ((reach + 1) * stride,), -2)
    places[:size, :size] = np.arange(size * size).reshape(size, size)

    def place(i: int, j: int) -> np.ndarray:
        block = places[i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
        return block[:, None, :, None]

    if ties == 'first':
        dtype = jnp.int8 if size * size < 128 else jnp.int32
        winner = jnp.full(y.shape, -1, dtype)
        for number, view in reversed(list(enumerate(windows.views(x, size, stride)))):
            winner = jnp.where(view == y, jnp.asarray(number, dtype), winner)
        winner = jnp.pad(winner, pads, constant_values=-1)

        def wins(i: int, j: int) -> Array:
            return of_window(winner, i, j) == jnp.asarray(place(i, j), dtype)

    else:
        largest = jnp.pad(y, pads, constant_values=np.nan)  # equals nothing
        below = rows * stride - x.shape[1], columns * stride - x.shape[2]
        blocks = jnp.pad(x, ((0, 0), (0, below[0]), (0, below[1]), (0, 0)))
        blocks = blocks.reshape(batch, rows, stride, columns, stride, channels)

        def wins(i: int, j: int) -> Array:
            return (blocks == of_window(largest, i, j)) & (place(i, j) >= 0)

    grad = jnp.pad(grad, pads)
    grad_x = jnp.zeros((), grad.dtype)
    for i in range(reach + 1):
        for j in range(reach + 1):
            grad_x += jnp.where(wins(i, j), of_window(grad, i, j), 0)
    grad_x = grad_x.reshape(batch, rows * stride, columns * stride, channels)
    return (grad_x[:, : x.shape[1], : x.shape[2]],)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def sum_of_squares(x: Array) -> Array:
    """In parts that are added to each other first, ten times faster."""
    parts = jnp.square(x).reshape(math.gcd(x.size, 32), -1)
    return jnp.sum(functools.reduce(jnp.add, list(parts)))
