"""Each operation against its formula written out in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from alexnet_jax import layers


def rng(seed=0):
    return np.random.default_rng(seed)


def numpy_conv(x, kernel, stride, padding):
    x = np.pad(x.astype(np.float64), ((0, 0), *padding, (0, 0)))
    size = kernel.shape[0]
    rows = (x.shape[1] - size) // stride + 1
    columns = (x.shape[2] - size) // stride + 1
    out = np.zeros((x.shape[0], rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            window = x[
                :, i * stride : i * stride + size, j * stride : j * stride + size
            ]
            out[:, i, j] = np.tensordot(window, kernel.astype(np.float64), 3)
    return out


@pytest.mark.parametrize(
    ('extent', 'channels', 'size', 'stride', 'padding', 'towers'),
    [
        (23, 3, 11, 4, ((0, 3), (0, 3)), 1),  # conv1 in small
        (24, 3, 11, 4, ((2, 2), (1, 2)), 1),  # pixels that no window reaches
        (12, 3, 5, 1, ((2, 2), (2, 2)), 1),
        (9, 6, 5, 1, ((2, 2), (2, 2)), 2),
        (7, 8, 3, 1, ((1, 1), (1, 1)), 4),
    ],
)
def test_conv2d_equals_the_sum_over_windows(
    extent, channels, size, stride, padding, towers
):
    x = rng().normal(size=(2, extent, extent, channels)).astype(np.float32)
    kernel = rng(1).normal(size=(size, size, channels // towers, 8)).astype(np.float32)
    expected = np.concatenate(
        [
            numpy_conv(a, k, stride, padding)
            for a, k in zip(
                np.split(x, towers, -1), np.split(kernel, towers, -1), strict=True
            )
        ],
        -1,
    )
    got = layers.conv2d(x, kernel, stride=stride, padding=padding, towers=towers)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('channels', 'towers'), [(3, 1), (8, 2)])
def test_conv2d_has_the_gradients_of_xlas_grouped_convolution(channels, towers):
    x = rng().normal(size=(2, 23, 23, channels)).astype(np.float32)
    kernel = rng(1).normal(size=(11, 11, channels // towers, 8)).astype(np.float32)
    padding = ((0, 3), (0, 3))

    def plain(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            (4, 4),
            padding,
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
            feature_group_count=towers,
        )

    def ours(x, kernel):
        return layers.conv2d(x, kernel, stride=4, padding=padding, towers=towers)

    gradients = [
        jax.grad(lambda x, k, f=f: jnp.sum(jnp.sin(f(x, k))), (0, 1))(x, kernel)
        for f in (plain, ours)
    ]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), *gradients
    )


def test_conv1_of_224_with_three_zeros_equals_227_without():
    image = rng().normal(size=(1, 224, 224, 3)).astype(np.float32)
    kernel = rng(1).normal(size=(11, 11, 3, 4)).astype(np.float32)
    from_224 = layers.conv2d(image, kernel, stride=4, padding=((0, 3), (0, 3)))
    framed = np.pad(image, ((0, 0), (0, 3), (0, 3), (0, 0)))
    from_227 = layers.conv2d(framed, kernel, stride=4, padding=((0, 0), (0, 0)))
    assert from_224.shape == (1, 55, 55, 4)
    np.testing.assert_array_equal(from_224, from_227)


@pytest.mark.parametrize('beta', [0.75, 0.5])
@pytest.mark.parametrize('towers', [1, 2])
def test_local_response_norm_equals_the_papers_formula(towers, beta):
    x = rng().normal(scale=60, size=(2, 3, 3, 12)).astype(np.float32)
    size, k, alpha = 5, 2.0, 1e-4
    expected = np.zeros(x.shape)
    per_tower = x.shape[-1] // towers
    for i in range(x.shape[-1]):
        first = i // per_tower * per_tower
        low, high = max(first, i - 2), min(first + per_tower, i + 3)
        energy = np.sum(x[..., low:high].astype(np.float64) ** 2, -1)
        expected[..., i] = x[..., i] / (k + alpha * energy) ** beta
    got = layers.local_response_norm(
        x, size=size, k=k, alpha=alpha, beta=beta, towers=towers
    )
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ('extent', 'size', 'stride', 'pooled'),
    [(55, 3, 2, 27), (13, 3, 2, 6), (24, 3, 2, 12), (8, 2, 2, 4), (9, 3, 3, 3)],
)
def test_max_pool_takes_every_windows_largest_value(extent, size, stride, pooled):
    x = rng().integers(0, 9, (2, extent, extent, 3)).astype(np.float32)  # with ties
    got = layers.max_pool(jnp.asarray(x), size, stride)
    assert got.shape == (2, pooled, pooled, 3)
    for i in range(pooled):
        for j in range(pooled):
            window = x[
                :, i * stride : i * stride + size, j * stride : j * stride + size
            ]
            np.testing.assert_array_equal(got[:, i, j], window.max((1, 2)))


@pytest.mark.parametrize(
    ('extent', 'size', 'stride'), [(13, 3, 2), (12, 3, 2), (8, 2, 2)]
)
def test_max_pool_gradient_goes_to_the_first_maximum(extent, size, stride):
    x = jnp.asarray(rng().integers(0, 4, (2, extent, extent, 3)), jnp.float32)

    def plain(x):
        overhang = layers._overhang(x.shape, size, stride)
        return lax.reduce_window(
            x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1),
            ((0, 0), *overhang, (0, 0)),
        )  # fmt: skip

    def weighted(f):
        return lambda x: jnp.sum(jnp.sin(1.0 + jnp.arange(f(x).size)) * f(x).ravel())

    np.testing.assert_allclose(
        jax.grad(weighted(lambda x: layers.max_pool(x, size, stride)))(x),
        jax.grad(weighted(plain))(x),
        rtol=1e-6,
    )


def test_flatten_joins_what_two_devices_would_hold():
    x = rng().normal(size=(2, 3, 3, 8)).astype(np.float32)
    halves = [layers.flatten(jnp.asarray(h)) for h in np.split(x, 2, -1)]
    np.testing.assert_array_equal(
        layers.flatten(jnp.asarray(x), towers=2), jnp.concatenate(halves, -1)
    )


def test_dropout_keeps_the_expectation_in_both_scalings():
    x = jnp.ones((4, 1000))
    mask = jax.random.bernoulli(jax.random.key(0), 0.75, x.shape)
    for scaling in ('test', 'train'):
        trained = layers.dropout(x, mask, rate=0.25, scaling=scaling)
        tested = layers.dropout(x, None, rate=0.25, scaling=scaling)
        assert set(np.unique(trained != 0)) == {False, True}
        assert float(trained.mean()) == pytest.approx(float(tested.mean()), rel=0.03)
    assert float(layers.dropout(x, None, rate=0.25, scaling='test')[0, 0]) == 0.75
