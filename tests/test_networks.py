"""Every shipped network layer by layer, as golden tables made by hand from the sources.

A row is a layer's name, its output after all its steps, its parameters and its
multiply-adds per image.
"""

import numpy as np
import pytest

from alexnet_jax import model
from tests.conftest import load

PAPER = [
    ('conv1', (27, 27, 96), 34_944, 105_415_200),
    ('conv2', (13, 13, 256), 307_456, 223_948_800),
    ('conv3', (13, 13, 384), 885_120, 149_520_384),
    ('conv4', (13, 13, 384), 663_936, 112_140_288),
    ('conv5', (6, 6, 256), 442_624, 74_760_192),
    ('fc6', (4096,), 37_752_832, 37_748_736),
    ('fc7', (4096,), 16_781_312, 16_777_216),
    ('fc8', (1000,), 4_097_000, 4_096_000),
]
ONE_TOWER = [
    ('conv1', (27, 27, 64), 23_296, 70_276_800),
    ('conv2', (13, 13, 192), 307_392, 223_948_800),
    ('conv3', (13, 13, 384), 663_936, 112_140_288),
    ('conv4', (13, 13, 256), 884_992, 149_520_384),
    ('conv5', (6, 6, 256), 590_080, 99_680_256),
    *PAPER[5:],
]
GOLDEN = {
    'paper': PAPER,
    'released_2012': PAPER,
    'caffe': PAPER,
    'caffenet': PAPER,
    'one_tower': ONE_TOWER,
    'one_tower:torchvision': ONE_TOWER,
    # The whole of one column; fc6 on reads conv5's 256 maps.
    'half': [
        ('conv1', (27, 27, 48), 17_472, 52_707_600),
        ('conv2', (13, 13, 128), 153_728, 111_974_400),
        ('conv3', (13, 13, 192), 221_376, 37_380_096),
        ('conv4', (13, 13, 192), 331_968, 56_070_144),
        ('conv5', (6, 6, 256), 442_624, 74_760_192),
        *PAPER[5:],
    ],
    'columns': [
        PAPER[0],
        ('conv2', (13, 13, 320), 384_320, 279_936_000),
        ('conv3', (13, 13, 384), 553_344, 93_450_240),
        *PAPER[3:5],
        ('fc6', (8192,), 37_756_928, 37_748_736),
        ('fc7', (8192,), 33_562_624, 33_554_432),
        ('fc8', (1000,), 8_193_000, 8_192_000),
    ],
    'six_conv': [
        *PAPER[:5],
        ('conv6', (6, 6, 256), 590_080, 21_233_664),
        *PAPER[5:],
    ],
    'cuda_convnet:80sec': [
        ('conv1', (16, 16, 32), 2_432, 2_457_600),
        ('conv2', (8, 8, 32), 25_632, 6_553_600),
        ('conv3', (4, 4, 64), 51_264, 3_276_800),
        ('fc64', (64,), 65_600, 65_536),
        ('fc10', (10,), 650, 640),
    ],
    'cuda_convnet:18pct': [
        ('conv1', (16, 16, 32), 2_432, 2_457_600),
        ('conv2', (8, 8, 32), 25_632, 6_553_600),
        ('conv3', (4, 4, 64), 51_264, 3_276_800),
        ('fc10', (10,), 10_250, 10_240),
    ],
    'cuda_convnet:conv_local_13pct': [
        ('conv1', (12, 12, 64), 4_864, 2_764_800),
        ('conv2', (6, 6, 64), 102_464, 14_745_600),
        # Another kernel and another bias at each of the 36 positions.
        ('local3', (6, 6, 32), 664_704, 663_552),
        ('local4', (6, 6, 32), 332_928, 331_776),
        ('fc10', (10,), 11_530, 11_520),
    ],
    'cuda_convnet:conv_local_13pct_lrn': [
        ('conv1', (12, 12, 64), 4_864, 2_764_800),
        ('conv2', (6, 6, 64), 102_464, 14_745_600),
        ('local3', (6, 6, 32), 664_704, 663_552),
        ('local4', (6, 6, 32), 332_928, 331_776),
        ('fc10', (10,), 11_530, 11_520),
    ],
    'cuda_convnet:conv_local_11pct': [
        ('conv1', (12, 12, 64), 4_864, 2_764_800),
        ('conv2', (6, 6, 64), 102_464, 14_745_600),
        ('local3', (6, 6, 64), 1_329_408, 1_327_104),
        ('local4', (6, 6, 32), 664_704, 663_552),
        ('fc10', (10,), 11_530, 11_520),
    ],
}
# Parameters and multiply-adds, added up apart from the tables above.
TOTALS = {
    'paper': (60_965_224, 724_406_816),
    'released_2012': (60_965_224, 724_406_816),
    'half': (59_798_312, 391_514_384),
    'columns': (81_591_720, None),
    'six_conv': (61_555_304, None),
    'one_tower': (61_100_840, 714_188_480),
    'one_tower:torchvision': (61_100_840, 714_188_480),
    'cuda_convnet:80sec': (145_578, None),
    'cuda_convnet:18pct': (89_578, None),
    'cuda_convnet:conv_local_13pct': (1_116_490, None),
    'cuda_convnet:conv_local_13pct_lrn': (1_116_490, None),
    'cuda_convnet:conv_local_11pct': (2_112_970, None),
}


def network(name: str) -> model.Network:
    config = load(name)
    return model.network_from_config(
        config.model, config.data.crop_size, config.model.num_classes or 10
    )


@pytest.mark.parametrize('name', GOLDEN)
def test_every_layer_has_its_golden_row(name):
    shapes = model.layer_shapes(network(name))
    rows = [(s.name, s.output, s.parameters, s.multiply_adds) for s in shapes]
    assert rows == GOLDEN[name]


@pytest.mark.parametrize('name', TOTALS)
def test_rows_add_up_to_the_totals(name):
    parameters, multiply_adds = TOTALS[name]
    assert sum(row[2] for row in GOLDEN[name]) == parameters
    if multiply_adds:
        assert sum(row[3] for row in GOLDEN[name]) == multiply_adds


def test_kernels_are_those_of_the_grouped_network():
    assert model.layer_shapes(network('paper'))[1].kernel == (5, 5, 48, 256)


def test_conv1_has_55_outputs_in_every_imagenet_net():
    for name in ('paper', 'caffe', 'one_tower', 'one_tower:torchvision', 'half'):
        assert model.layer_shapes(network(name))[0].linear[:2] == (55, 55)


def steps(name: str) -> dict[str, tuple[str, ...]]:
    layers = network(name).layers
    return {x.name: tuple(step.name for step in x.steps) for x in layers}


def test_order_of_norm_pool_and_relu_is_each_nets_own():
    assert steps('paper')['conv1'] == ('activation', 'lrn', 'pool')
    assert steps('released_2012')['conv1'] == ('lrn', 'pool', 'activation')
    assert steps('released_2012')['conv2'] == (
        'activation', 'lrn', 'spatial_norm', 'pool',
    )  # fmt: skip
    assert steps('caffe')['conv1'] == ('activation', 'lrn', 'pool')
    assert steps('caffenet')['conv1'] == ('activation', 'pool', 'lrn')
    assert steps('one_tower')['conv1'] == ('lrn', 'pool', 'activation')
    assert steps('one_tower')['conv2'] == ('activation', 'lrn', 'pool')
    assert steps('one_tower')['conv5'] == ('pool', 'activation')
    assert steps('one_tower:torchvision')['conv5'][-1] == 'dropout'
    assert steps('one_tower:torchvision')['fc7'] == ('activation',)


def test_the_clean_pair_of_cifar_nets_differs_in_the_norm_alone():
    without, with_norm = (
        load(f'cuda_convnet:conv_local_13pct{end}') for end in ('', '_lrn')
    )
    assert with_norm.model.lrn.to_dict() == {
        'size': 5, 'k': 1.0, 'alpha': 0.001 / 5, 'beta': 0.75, 'across_towers': False,
    }  # fmt: skip
    for layer in ('conv1', 'conv2'):
        assert with_norm.model[layer].steps == ('activation', 'lrn', 'pool')
        with_norm.model[layer].steps = without.model[layer].steps
        with with_norm.unlocked():
            del with_norm.model[layer].lrn
    with with_norm.unlocked():
        del with_norm.model.lrn
    assert with_norm.model == without.model
    assert with_norm.optimizer.layer_decays == without.optimizer.layer_decays


def starts(name: str) -> dict[str, tuple[float, float]]:
    return {x.name: (x.init_std, x.init_bias) for x in network(name).layers}


@pytest.mark.parametrize('name', ['cifar10', 'clothing', 'demo'])
def test_nets_of_our_own_start_with_hes_deviations_and_no_bias(name):
    shapes = model.layer_shapes(network(name))[:-1]
    for shape in shapes:
        fan_in = np.prod(shape.kernel[:-1])
        assert starts(name)[shape.name] == (pytest.approx((2 / fan_in) ** 0.5), 0.0)
    assert starts(name)['fc8'] == (0.01, 0.0)


def test_one_towers_start_is_cuda_convnet2s_and_torchvisions_is_pytorchs():
    assert starts('one_tower') == {
        'conv1': (0.01, 0.0), 'conv2': (0.01, 1.0), 'conv3': (0.03, 0.0),
        'conv4': (0.03, 1.0), 'conv5': (0.03, 1.0), 'fc6': (0.01, 1.0),
        'fc7': (0.01, 1.0), 'fc8': (0.01, -7.0),
    }  # fmt: skip
    fan_ins = {
        'conv1': 363, 'conv2': 1600, 'conv3': 1728, 'conv4': 3456, 'conv5': 2304,
        'fc6': 9216, 'fc7': 4096, 'fc8': 4096,
    }  # fmt: skip
    assert starts('one_tower:torchvision') == {
        layer: (pytest.approx((3 * fan_in) ** -0.5), 0.0)
        for layer, fan_in in fan_ins.items()
    }


def test_initial_values_of_the_released_source_and_of_caffe():
    ones = {'conv2', 'conv4', 'conv5', 'fc6', 'fc7'}
    for name in GOLDEN['paper']:
        layer = name[0]
        assert starts('paper')[layer] == (0.01, float(layer in ones))
        std = 0.03 if layer in ('conv3', 'conv4', 'conv5') else 0.01
        assert starts('released_2012')[layer] == (std, float(layer in ones))
        std = 0.005 if layer in ('fc6', 'fc7') else 0.01
        assert starts('caffe')[layer] == (std, 0.1 * (layer in ones))
        assert starts('caffenet')[layer] == (std, float(layer in ones))
