"""Each operation against its formula written out in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax import layers, model, step
from alexnet_jax import mesh as mesh_lib
from alexnet_jax.data import augment
from tests import reference_numpy
from tests.conftest import load


def rng(seed=0):
    return np.random.default_rng(seed)


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


def test_flatten_joins_what_two_devices_would_hold():
    x = rng().normal(size=(2, 3, 3, 8)).astype(np.float32)
    halves = [layers.flatten(jnp.asarray(h)) for h in np.split(x, 2, -1)]
    np.testing.assert_array_equal(
        layers.flatten(jnp.asarray(x), towers=2), jnp.concatenate(halves, -1)
    )


# Formulas as loops (reference_numpy), and gradients by their finite differences.


def agree(got, expected, tolerance=1e-5):
    assert reference_numpy.relative_error(got, expected) <= tolerance


def gradients_agree(ours, formula, arrays, tolerance=1e-4):
    """By every array: the slope of a weighted sum of the outputs in four directions."""
    weights = rng(9).normal(size=jax.eval_shape(ours, *arrays).shape)

    @jax.jit
    def gradients(*arrays):
        return jax.grad(
            lambda *arrays: jnp.sum(weights * ours(*arrays)), tuple(range(len(arrays)))
        )(*arrays)

    for i, gradient in enumerate(gradients(*arrays)):
        along = rng(i).normal(size=(4, *gradient.shape))

        def of_one(x, i=i):
            return np.sum(weights * formula(*arrays[:i], x, *arrays[i + 1 :]))

        expected = [reference_numpy.slope(of_one, arrays[i], d) for d in along]
        got = [np.sum(np.asarray(gradient, np.float64) * d) for d in along]
        # Of the size a slope has by chance, for one of them may be near 0.
        error = np.max(np.abs(np.subtract(got, expected)))
        assert error <= tolerance * np.linalg.norm(gradient)


def normal(*shape, scale=1.0, seed=0):
    return rng(seed).normal(scale=scale, size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ('stride', 'padding', 'towers'),
    [
        (1, ((1, 1), (1, 1)), 1),
        (1, ((1, 1), (1, 1)), 4),
        (4, ((0, 3), (0, 3)), 1),  # the released conv1's
        (1, ((1, 1), (1, 1)), 2),
        (2, ((0, 1), (1, 0)), 2),
        (2, ((0, 0), (0, 0)), 1),
    ],
)
@pytest.mark.parametrize('kind', ['conv', 'local'])
def test_convolution_and_local_layer_equal_their_sums(kind, stride, padding, towers):
    ours, formula = {
        'conv': (layers.conv2d, reference_numpy.convolution),
        'local': (layers.local2d, reference_numpy.local),
    }[kind]
    options = {'stride': stride, 'padding': padding, 'towers': towers}
    x = normal(2, 5, 6, 2 * towers)
    rows, columns = (
        (extent + sum(pad) - 3) // stride + 1
        for extent, pad in zip((5, 6), padding, strict=True)
    )
    positions = (rows, columns) if kind == 'local' else ()
    kernel = normal(*positions, 3, 3, 2, 4, seed=1)
    agree(ours(x, kernel, **options), formula(x, kernel, **options))
    gradients_agree(
        lambda x, kernel: ours(x, kernel, **options),
        lambda x, kernel: formula(x, kernel, **options),
        (x[:1], kernel),
    )


def test_local_layer_with_one_kernel_everywhere_is_a_convolution():
    x, kernel = normal(2, 6, 5, 8), normal(3, 3, 4, 6, seed=1)
    options = {'stride': 1, 'padding': ((1, 1), (1, 1)), 'towers': 2}
    everywhere = np.broadcast_to(kernel, (6, 5, *kernel.shape))
    agree(
        layers.local2d(x, jnp.asarray(everywhere), **options),
        layers.conv2d(x, kernel, **options),
    )


@pytest.mark.parametrize('beta', [0.75, 0.6])
@pytest.mark.parametrize(('size', 'towers'), [(5, 1), (5, 2), (3, 4)])
def test_local_response_norm_has_the_gradient_of_its_formula(size, towers, beta):
    options = {'size': size, 'k': 2.0, 'alpha': 1e-4, 'beta': beta, 'towers': towers}
    gradients_agree(
        lambda x: layers.local_response_norm(x, **options),
        lambda x: reference_numpy.lrn(x, **options),
        [normal(1, 2, 3, 12, scale=60)],
    )


@pytest.mark.parametrize(('size', 'beta'), [(5, 0.75), (3, 0.75), (3, 0.5)])
def test_spatial_response_norm_equals_its_formula(size, beta):
    options = {'size': size, 'k': 1.0, 'alpha': 0.001 / size**2, 'beta': beta}
    x = normal(2, 6, 7, 3, scale=60)
    agree(
        layers.spatial_response_norm(x, **options),
        reference_numpy.spatial_norm(x, **options),
    )
    gradients_agree(
        lambda x: layers.spatial_response_norm(x, **options),
        lambda x: reference_numpy.spatial_norm(x, **options),
        [x[:1]],
    )


@pytest.mark.parametrize(
    ('extent', 'size', 'stride'), [(7, 3, 2), (8, 3, 2), (6, 2, 2), (8, 4, 3)]
)
@pytest.mark.parametrize('kind', ['max', 'mean'])
def test_pools_reduce_what_a_window_covers(kind, extent, size, stride):
    ours, reduce = {
        'max': (layers.max_pool, np.max),
        'mean': (layers.avg_pool, np.mean),
    }[kind]
    x = normal(2, extent, extent + 1, 3)
    agree(
        ours(jnp.asarray(x), size, stride),
        reference_numpy.pool(x, size, stride, reduce),
    )
    gradients_agree(
        lambda x: ours(x, size, stride),
        lambda x: reference_numpy.pool(x, size, stride, reduce),
        [x[:1]],
    )


@pytest.mark.parametrize('rate', [0.5, 0.25])
def test_dropout_multiplies_by_the_mask_or_the_expectation(rate):
    x, mask = normal(3, 50), rng(1).random((3, 50)) >= rate
    keep = 1 - rate
    for scaling, training, testing in (('test', 1.0, keep), ('train', 1 / keep, 1.0)):
        options = {'rate': rate, 'scaling': scaling}
        agree(layers.dropout(x, mask, **options), x * mask * training)
        agree(layers.dropout(x, None, **options), x * testing)
        gradient = jax.grad(lambda x, o=options: layers.dropout(x, mask, **o).sum())(x)
        agree(gradient, mask * training)


# What must hold whatever the numbers.

SEEDS = st.integers(0, 2**31)
FEW = settings(max_examples=20, deadline=None, derandomize=True)


@FEW
@given(seed=SEEDS, size=st.sampled_from([3, 5, 9]), tower=st.integers(0, 1))
def test_norm_never_mixes_towers(seed, size, tower):
    before = normal(2, 3, 3, 16, scale=60, seed=seed)
    after = before.copy()
    mine = slice(8 * tower, 8 * tower + 8)
    others = slice(8 - 8 * tower, 16 - 8 * tower)
    after[..., others] = normal(2, 3, 3, 8, scale=600, seed=seed + 1)
    a, b = (
        layers.local_response_norm(x, size=size, k=2, alpha=1e-4, beta=0.75, towers=2)
        for x in (before, after)
    )
    np.testing.assert_array_equal(a[..., mine], b[..., mine])
    assert not np.array_equal(a[..., others], b[..., others])


@FEW
@given(seed=SEEDS, window=st.sampled_from([(3, 2), (2, 2), (4, 3)]))
def test_max_pool_commutes_with_relu(seed, window):
    x = jnp.asarray(normal(2, 8, 8, 3, seed=seed))
    np.testing.assert_array_equal(
        layers.max_pool(jax.nn.relu(x), *window),
        jax.nn.relu(layers.max_pool(x, *window)),
    )


def test_only_the_norms_place_among_relu_and_pool_matters():
    """§3 has ReLU, norm, pool; the released layer 1 has norm, pool, ReLU."""
    x = jnp.asarray(normal(2, 13, 13, 96, scale=60))

    def norm(x):
        return layers.local_response_norm(
            x, size=5, k=2.0, alpha=2e-5, beta=0.75, towers=2
        )

    def pool(x):
        return layers.max_pool(x, 3, 2)

    relu = jax.nn.relu
    np.testing.assert_array_equal(relu(pool(norm(x))), pool(relu(norm(x))))
    # The norm of signed values counts what the ReLU would have removed.
    paper, released = pool(norm(relu(x))), relu(pool(norm(x)))
    assert reference_numpy.relative_error(paper, released) > 0.05
    # Nor does Caffe's (norm, pool) equal CaffeNet's (pool, norm).
    caffenet = norm(pool(relu(x)))
    assert reference_numpy.relative_error(caffenet, paper) > 0.05


def small(name, image_size, layer_names, **values):
    """A shipped net at an eighth of its width, its table cut short."""
    table = load(name).model
    table.update_from_flattened_dict(
        {'width': 0.125, 'layers': layer_names, 'num_classes': 10, **values}
    )
    return model.network_from_config(table, image_size, 10)


def weights_of(network, seed):
    """Weights that keep the scale of 0–255 images from layer to layer."""
    generator = rng(seed)
    params = {}
    for shape in model.layer_shapes(network):
        last = shape.name == network.layers[-1].name
        std = np.sqrt(2 / np.prod(shape.kernel[:-1])) * (0.05 if last else 1.0)
        params[shape.name] = {
            'kernel': generator.normal(0, std, shape.kernel).astype(np.float32),
            'bias': generator.normal(0, 1, shape.bias).astype(np.float32),
        }
    return params


def photographs(seed, count, size):
    return rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_a_towers_maps_before_conv3_know_nothing_of_the_others_weights():
    network = small('paper', 48, ('conv1', 'conv2', 'conv3', 'fc8'))

    @jax.jit
    def activations(params, images):
        return model.merge(network, params).activations(images)

    @FEW
    @given(seed=SEEDS, changed=st.integers(0, 1))
    def holds(seed, changed):
        images = photographs(seed, 2, 48).astype(np.float32) - 120
        params, others = weights_of(network, seed), weights_of(network, seed + 1)
        mixed = {name: dict(weights) for name, weights in params.items()}
        for name in ('conv1', 'conv2'):
            for kind in ('kernel', 'bias'):
                halves = np.split(params[name][kind], 2, -1)
                halves[changed] = np.split(others[name][kind], 2, -1)[changed]
                mixed[name][kind] = np.concatenate(halves, -1)
        a, b = activations(params, images), activations(mixed, images)
        for name in ('conv1', 'conv2'):
            one, other = (np.split(np.asarray(x[name]), 2, -1) for x in (a, b))
            np.testing.assert_array_equal(one[1 - changed], other[1 - changed])
            assert not np.array_equal(one[changed], other[changed])
        one, other = (np.split(np.asarray(x['conv3']), 2, -1) for x in (a, b))
        assert not np.array_equal(one[1 - changed], other[1 - changed])

    holds()


def test_ten_views_of_a_mirrored_image_predict_the_same():
    network = small('paper', 40, ('conv1', 'conv2', 'fc8'))
    mesh = mesh_lib.make_mesh(data=1, tower=1, towers=2, batch_size=2)
    predict = step.make_predict_step(network, mesh, augment.ten_views(48, 40))
    one_view = step.make_predict_step(network, mesh, [(0, 0, False)])
    mean = np.full((40, 40, 3), 120, np.float32)

    @FEW
    @given(seed=SEEDS)
    def holds(seed):
        params, images = weights_of(network, seed), photographs(seed, 2, 48)
        straight, mirrored = (
            np.exp(predict(params, x, mean)) for x in (images, images[:, :, ::-1])
        )
        np.testing.assert_allclose(straight.sum(-1), 1, rtol=1e-5)
        agree(mirrored, straight, 1e-4)
        straight, mirrored = (
            np.exp(one_view(params, x, mean)) for x in (images, images[:, :, ::-1])
        )
        assert reference_numpy.relative_error(mirrored, straight) > 0.01

    holds()


def test_ten_views_take_the_memory_of_one():
    network = small('paper', 40, ('conv1', 'conv2', 'fc8'))
    mesh = mesh_lib.make_mesh(data=1, tower=1, towers=2, batch_size=64)
    arguments = (
        weights_of(network, 0),
        np.zeros((64, 48, 48, 3), np.uint8),
        np.zeros((40, 40, 3), np.float32),
    )
    one, ten = (
        step.make_predict_step(network, mesh, views).lower(*arguments).compile()  # pyrefly: ignore
        for views in ([(0, 0, False)], augment.ten_views(48, 40))
    )
    kept = [program.memory_analysis().temp_size_in_bytes for program in (one, ten)]
    assert kept[1] < 1.5 * kept[0]


def test_caffes_norm_across_the_seam_is_the_same_on_two_devices():
    names, views = ('conv1', 'conv2', 'conv3', 'fc8'), [(0, 0, False), (0, 0, True)]
    # Far above Caffe's alpha, so that a seam would show.
    network = small('caffe', 51, names, **{'lrn.alpha': 0.01})
    apart = small('caffe', 51, names, **{'lrn.alpha': 0.01, 'lrn.across_towers': False})
    meshes = [
        mesh_lib.make_mesh(data=1, tower=tower, towers=2, batch_size=2)
        for tower in (1, 2)
    ]
    one, two = (step.make_predict_step(network, mesh, views) for mesh in meshes)
    seam = step.make_predict_step(apart, meshes[1], views)
    mean = np.full((51, 51, 3), 120, np.float32)

    @FEW
    @given(seed=SEEDS)
    def holds(seed):
        params, images = weights_of(network, seed), photographs(seed, 2, 51)
        expected = np.asarray(one(params, images, mean))
        placed = mesh_lib.put_params(params, network, meshes[1])
        images = mesh_lib.put_batch({'x': images}, meshes[1], 2)['x']
        agree(np.asarray(two(placed, images, mean)), expected, 1e-5)
        got = np.asarray(seam(placed, images, mean))
        assert reference_numpy.relative_error(got, expected) > 1e-3

    holds()
