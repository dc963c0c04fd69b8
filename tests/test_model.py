"""What is built of a table, and what the towers may see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from alexnet_jax import cpu, model
from alexnet_jax.configs import paper


def network(image_size=224, num_classes=1000, **values):
    table = paper.get_config().model
    table.update_from_flattened_dict(values)
    return model.network_from_config(table, image_size, num_classes)


SMALL = {'width': 0.125, 'image_size': 64, 'num_classes': 10}


def make(table: model.Network) -> model.AlexNet:
    """What `AlexNet(table, rngs=nnx.Rngs(0))` is, compiled whole."""

    def draw():
        _, params = nnx.split(model.AlexNet(table, rngs=nnx.Rngs(0)))
        return nnx.to_pure_dict(params)

    options = cpu.quick_compiler_options('cpu')
    return model.merge(table, jax.jit(draw, compiler_options=options)())


@pytest.fixture(scope='module')
def net() -> model.AlexNet:
    return make(network(**SMALL))


@pytest.fixture(scope='module')
def images() -> jax.Array:
    return 60 * jax.random.normal(jax.random.key(1), (2, 64, 64, 3))


def test_the_ungrouped_network_has_the_sizes_of_the_merged_one():
    shapes = model.layer_shapes(network(towers=1))
    assert sum(s.parameters for s in shapes) == 62_378_344
    assert sum(s.multiply_adds for s in shapes) == 1_135_256_096


def test_built_module_has_the_shapes_and_initial_values_of_the_table(net):
    for shape in model.layer_shapes(net.network):
        weights = getattr(net, shape.name)
        assert weights.kernel.shape == shape.kernel
        assert weights.bias.shape == shape.bias
    assert float(net.conv2.bias[0]) == 1.0
    assert float(net.conv3.bias[0]) == 0.0
    assert float(np.std(net.fc6.kernel[...])) == pytest.approx(0.01, rel=0.05)


def test_dropping_a_layer_leaves_the_others_initial_weights(net):
    layers = ('conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc8')
    cut = make(network(layers=layers, **SMALL))
    np.testing.assert_array_equal(net.conv5.kernel[...], cut.conv5.kernel[...])
    np.testing.assert_array_equal(net.fc8.kernel[...], cut.fc8.kernel[...])


def test_bfloat16_computes_near_float32_and_returns_float32_logits(net, images):
    half = make(network(compute_dtype='bfloat16', **SMALL))
    assert half.fc6.kernel[...].dtype == jnp.float32
    logits, expected = (jax.jit(each.__call__)(images) for each in (half, net))
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, expected, atol=0.02 * np.abs(expected).max())
    assert not np.allclose(logits, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'conv1.features': 97}, ['conv1', '97', 'towers=2']),
        ({'image_size': 20}, ['conv', 'too small']),
        ({'conv2.reads': 'image'}, ['conv2', "'image'"]),
        ({'fc8.kind': 'conv'}, ['fc8']),
    ],
)
def test_a_table_that_makes_no_network_is_named(values, words):
    values = dict(values)
    if values.get('fc8.kind'):
        values |= {'layers': ('conv1', 'conv2')}
        words = ['conv2', 'dense']
        values.pop('fc8.kind')
    with pytest.raises(ValueError, match=r'^model') as error:
        network(**values)
    assert all(word in str(error.value) for word in words)


def test_every_step_of_every_layer_can_be_tapped_by_name(net, images):
    names = []

    @jax.jit
    def apply(images):
        made = net.activations(images)
        names[:] = made  # in order, which a dict that jit returns has not
        return list(made.values()), net(images)

    values, logits = apply(images)
    made = dict(zip(names, values, strict=True))
    conv1 = ['linear', 'activation', 'lrn', 'pool']
    assert list(made)[:5] == [*(f'conv1/{step}' for step in conv1), 'conv1']
    shapes = {shape.name: shape for shape in model.layer_shapes(net.network)}
    for layer in net.network.layers:
        shape = shapes[layer.name]
        assert made[f'{layer.name}/linear'].shape == (2, *shape.linear)
        assert made[layer.name].shape == (2, *shape.output)
    np.testing.assert_array_equal(
        made['fc6/activation'], np.maximum(made['fc6/linear'], 0)
    )
    np.testing.assert_array_equal(made['fc8'], logits)
    np.testing.assert_array_equal(made['conv1/pool'], made['conv1'])


def test_equal_tables_are_one_key_and_others_are_not():
    assert network(**SMALL) == network(**SMALL)
    assert hash(network(**SMALL)) == hash(network(**SMALL))
    # The order of a table's keys is not part of what it says.
    table = paper.get_config().model
    turned = {**table, 'lrn': dict(reversed(list(table.lrn.items())))}
    one, other = (model.network_from_config(t, 224, 1000) for t in (table, turned))
    assert one == other and hash(one) == hash(other)
    assert network(**SMALL) != network(**SMALL, **{'lrn.k': 1.0})


def test_a_step_that_comes_twice_has_two_taps():
    steps = ('lrn', 'pool', 'activation', 'pool')
    values = {'conv1.steps': steps, 'layers': ('conv1', 'fc8')}
    net = make(network(image_size=96, **values))
    made = jax.jit(net.activations)(jnp.ones((1, 96, 96, 3)))
    assert made['conv1'].shape[1] < made['conv1/pool'].shape[1]
    np.testing.assert_array_equal(made['conv1/pool_2'], made['conv1'])
