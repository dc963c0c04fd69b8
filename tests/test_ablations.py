"""Every ablation is a valid network on every base, changes what it says and no more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import model
from experiments import ablations
from tests.conftest import load, network_of

BASES = ('paper', 'released_2012', 'cifar10', 'clothing', 'demo')

# Refused rather than trained as a copy of the base.
ALREADY_SO = [
    ('paper_init', 'paper'),
    ('lrn_2e-5', 'released_2012'),
    ('released_init', 'released_2012'),
    ('no_mirror', 'demo'),
    *(('bias_0', name) for name in ('cifar10', 'clothing', 'demo')),
    ('no_colour', 'cifar10'),
    ('lrn_k1', 'cifar10'),
    ('lrn_k1', 'demo'),
    ('lrn_k1', 'clothing'),
    ('lrn_1e-4', 'paper'),
    *(('colour_paper', name) for name in ('paper', 'clothing', 'demo')),
    ('colour_released', 'released_2012'),
    *(
        (name, base)
        for name in ('dropout_half', 'bias_1')
        for base in ('paper', 'released_2012')
    ),
    ('released_order', 'released_2012'),
    *(('shared', base) for base in BASES),
]


def ablated(name: str, base: str) -> model.Network:
    return network_of(changed_by(name, load(base)))


def changed_by(name: str, base: ConfigDict) -> ConfigDict:
    config = base.copy_and_resolve_references()
    config.update_from_flattened_dict(ablations.overrides(name, base))
    return config


def sizes(network: model.Network) -> tuple[int, int]:
    shapes = model.layer_shapes(network)
    return sum(s.parameters for s in shapes), sum(s.multiply_adds for s in shapes)


@pytest.mark.parametrize('base', BASES)
@pytest.mark.parametrize('name', ablations.ABLATIONS)
def test_ablation_is_valid_and_changes_exactly_its_declared_keys(name, base):
    config = load(base)
    if (name, base) in ALREADY_SO:
        with pytest.raises(ValueError, match='changes nothing'):
            ablations.overrides(name, config)
        return
    declared = ablations.overrides(name, config)
    changed = changed_by(name, config)
    config_lib.validate(changed)
    before, after = dict(config_lib.flat(config)), dict(config_lib.flat(changed))
    differing = {key for key in before if before[key] != after[key]}
    assert differing == set(declared)
    assert before.keys() == after.keys()


def test_every_ablation_names_its_claim_and_the_listing_has_it():
    listing = ablations.listing()
    for name, ablation in ablations.ABLATIONS.items():
        assert f'{name}  ({ablation.section or "not in the paper"})' in listing
        assert ablation.claim.endswith('.') and ablation.claim in listing
        assert not ablation.section or ablation.section.startswith('§')


# Parameters and what reads the first dense layer's maps, of the paper's net.
WITHOUT = {
    'conv1': (60_642_280, (6, 6, 256)),
    'conv2': (60_104_808, (6, 6, 256)),
    'conv3': (60_301_288, (6, 6, 256)),
    'conv4': (60_301_288, (6, 6, 256)),
    'conv5': (79_396_968, (6, 6, 384)),
    'fc6': (44_183_912, (6, 6, 256)),
    'fc7': (44_183_912, (6, 6, 256)),
}


@pytest.mark.parametrize('layer', WITHOUT)
def test_a_net_without_a_layer_has_the_others_at_their_pixels(layer):
    for base in ('paper', 'released_2012'):
        network = ablated(f'without_{layer}', base)
        shapes = {s.name: s for s in model.layer_shapes(network)}
        whole = {s.name: s for s in model.layer_shapes(network_of(load(base)))}
        assert set(shapes) == set(whole) - {layer}
        last_maps = [s.output for s in shapes.values() if len(s.output) == 3][-1]
        assert (sizes(network)[0], last_maps) == WITHOUT[layer]
        for name in ('conv3', 'conv4'):
            if name in shapes and layer != 'conv5':
                assert shapes[name].output == whole[name].output
    # Towers still meet, and the first layer alone reads the image.
    reads = {row.name: row.reads for row in network.layers}
    assert 'all' in {reads[n] for n in reads if n.startswith('conv')}
    assert [r == 'image' for r in reads.values()].index(True) == 0


def test_conv2_reads_the_image_at_conv1s_positions():
    for base, padding in (('paper', ((0, 0), (0, 0))), ('cifar10', ((2, 2), (2, 2)))):
        network, whole = ablated('without_conv1', base), network_of(load(base))
        first = network.layers[0]
        assert (first.name, first.kernel, first.padding) == ('conv2', 5, padding)
        assert first.stride == whole.layers[0].stride
        conv1 = model.layer_shapes(whole)[0]
        assert model.layer_shapes(network)[0].linear[:2] == conv1.linear[:2]


@pytest.mark.parametrize(
    'name', [n for n in ablations.ABLATIONS if n.startswith('without_')] + ['half']
)
def test_what_the_network_makes_has_the_shapes_of_its_table(name):
    """Of released_2012: its pool comes before the activation, and is there twice."""
    network = ablated(name, 'released_2012')

    def outputs(images):
        net = model.AlexNet(network, rngs=nnx.Rngs(0))
        return net.activations(images)

    size = network.image_size
    made = jax.eval_shape(outputs, jnp.zeros((2, size, size, 3)))
    for shape in model.layer_shapes(network):
        assert made[shape.name].shape == (2, *shape.output)


def test_half_is_the_net_of_section_3_2():
    rows = model.layer_shapes(ablated('half', 'released_2012'))
    assert rows == model.layer_shapes(network_of(load('half')))
    assert sum(row.parameters for row in rows) == 59_798_312


def test_columns_communicate_in_the_last_layer_alone():
    reads = {row.name: row.reads for row in ablated('columns', 'paper').layers}
    assert reads == {
        'conv1': 'image', 'conv2': 'own', 'conv3': 'own', 'conv4': 'own',
        'conv5': 'own', 'fc6': 'own', 'fc7': 'own', 'fc8': 'all',
    }  # fmt: skip


def test_one_tower_is_the_ungrouped_net_that_its_claim_says():
    parameters, multiply_adds = sizes(ablated('one_tower', 'paper'))
    _, of_two = sizes(network_of(load('paper')))
    assert (parameters, round(multiply_adds / of_two, 2)) == (62_378_344, 1.57)
    claim = ablations.ABLATIONS['one_tower'].claim
    assert '62.4 M' in claim and '1.57' in claim


def test_one_tower_of_equal_parameters_has_as_many_within_a_percent():
    for base in ('paper', 'cifar10'):
        whole, _ = sizes(network_of(load(base)))
        assert sizes(ablated('one_tower_equal', base))[0] == pytest.approx(whole, 1e-2)


def test_alpha_keeps_its_meaning_at_the_scale_of_the_base():
    for name, alpha in (('lrn_1e-4', 1e-4), ('lrn_2e-5', 2e-5)):
        config = changed_by(name, load('cifar10'))
        # (x / 64)² is 64² times smaller.
        assert config.model.lrn.alpha == pytest.approx(alpha * 64**2)


def test_local_layers_become_convolutions_and_the_reverse():
    shared = changed_by('shared', load('cuda_convnet:conv_local_13pct'))
    assert (shared.model.local3.kind, shared.model.local4.kind) == ('conv', 'conv')
    local = network_of(changed_by('local', load('cifar10')))
    kernels = {s.name: s.kernel for s in model.layer_shapes(local)}
    assert kernels['conv5'] == (7, 7, 3, 3, 64, 96) and len(kernels['conv3']) == 4


def test_each_norm_alone():
    for name, kept in (('lrn_conv1_only', 'conv1'), ('lrn_conv2_only', 'conv2')):
        config = changed_by(name, load('released_2012'))
        standing = {'conv1': ['lrn'], 'conv2': ['lrn', 'spatial_norm']}
        for layer, norms in standing.items():
            for norm in norms:
                assert config.model[layer][norm] == (layer == kept)


def test_rates_of_a_layer_go_with_it():
    config = changed_by('without_conv1', load('released_2012'))
    assert config.optimizer.layer_rates == ()
    config_lib.validate(config)


@pytest.mark.parametrize('name', ['half', 'without_conv1', 'without_conv5', 'columns'])
def test_hes_start_follows_the_fan_in_where_the_base_has_it(name):
    for base, hes in (('cifar10', True), ('paper', False)):
        network = ablated(name, base)
        shapes = model.layer_shapes(network)[:-1]
        for row, shape in zip(network.layers, shapes, strict=False):
            std = np.sqrt(2 / np.prod(shape.kernel[:-1])) if hes else 0.01
            assert row.init_std == pytest.approx(std)


@pytest.mark.parametrize(
    ('name', 'base', 'words'),
    [
        ('without_conv4', 'cuda_convnet:18pct', "no hidden layer 'conv4'"),
        ('half', 'one_tower', 'needs model.towers=2'),
        ('lrn_k1', 'one_tower:torchvision', 'no config.model.lrn.k'),
        ('no_lrn', 'one_tower:torchvision', 'changes nothing'),
        ('no_lnr', 'paper', 'no ablation named'),
    ],
)
def test_what_a_base_does_not_have_is_one_line(name, base, words):
    with pytest.raises(ValueError, match=words) as error:
        ablations.overrides(name, load(base))
    assert '\n' not in str(error.value)
