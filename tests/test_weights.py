"""What travels with a network, and the formats in which nothing is lost."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from alexnet_jax import model
from alexnet_jax.formats import description, layouts, networks, registry
from alexnet_jax.formats import safetensors as safetensors_file
from alexnet_jax.formats.weights import UnknownNetworkError, Weights, shapes_of
from tests.conftest import run_here
from tests.formats import make_weights


@pytest.fixture(scope='module')
def caffe() -> Weights:
    """Caffe's net, narrow, with a mean image and names."""
    return make_weights('caffe', width=0.125)


def test_safetensors_keeps_all_bit_for_bit(caffe, tmp_path):
    path = tmp_path / 'a.safetensors'
    assert registry.write(caffe, path) == [path]
    again = registry.read(path)
    assert description.of(again) == description.of(caffe)
    assert again.network == caffe.network
    for layer, of_layer in caffe.params.items():
        for name, value in of_layer.items():
            np.testing.assert_array_equal(again.params[layer][name], value)
    np.testing.assert_array_equal(
        again.preprocessing.mean_image, caffe.preprocessing.mean_image
    )


@pytest.mark.parametrize('name', networks.NAMES)
def test_every_shipped_network_is_told_by_its_table(name):
    table = networks.table_of(networks.config(name))
    assert networks.named(table) == [name]
    assert description.checked_table(json.loads(json.dumps(table)), 'x') == table


def test_caffes_two_networks_have_one_set_of_shapes():
    shipped = networks.config('caffe')
    network = model.network_from_config(shipped.model, 227, 1000)
    assert networks.with_shapes(shapes_of(network)) == [
        'paper', 'released_2012', 'caffe', 'caffenet'
    ]  # fmt: skip


def test_rows_of_the_flattening_layer_go_there_and_back(caffe):
    name, maps = layouts.flattened_maps(caffe.network)
    assert name == 'fc6'
    kernel = caffe.params['fc6']['kernel']
    x = jax.random.normal(jax.random.key(0), (3, *maps))
    ours = model.layers.flatten(x, towers=2) @ kernel
    first = layouts.rows_to_channels_first(kernel, maps, 2)
    theirs = x.transpose(0, 3, 1, 2).reshape(3, -1) @ first
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_array_equal(
        layouts.rows_from_channels_first(first, maps, 2), kernel
    )


def test_another_network_is_refused_with_both_tables(caffe):
    params = dict(caffe.params)
    params['conv2'] = {
        'kernel': np.zeros((5, 5, 12, 32), np.float32),
        'bias': params['conv2']['bias'],
    }
    with pytest.raises(UnknownNetworkError, match='conv2/kernel') as refused:
        dataclasses.replace(caffe, params=params)
    (row,) = [r for r in refused.value.table.splitlines() if 'conv2/kernel' in r]
    assert row.split() == ['conv2/kernel', '5×5×12×32', '≠', '5×5×6×32']


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (lambda p: p | {'kernel': p['kernel'].astype(np.float64)}, 'float64'),
        (lambda p: p | {'bias': np.full_like(p['bias'], np.nan)}, 'not finite'),
        (lambda p: {'kernel': p['kernel']}, 'not there'),
    ],
)
def test_parameters_that_are_none_are_refused(caffe, change, says):
    params = dict(caffe.params)
    params['conv3'] = change(params['conv3'])
    with pytest.raises(ValueError, match='conv3') as refused:
        dataclasses.replace(caffe, params=params)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ('key', 'value', 'says'),
    [
        ('digest', '"0"', 'digest'),
        ('network', '{"layers": ["conv1"]}', 'network'),
        ('network', '[' * 100_000, 'nested'),
        ('preprocessing', '{}', 'stored_size'),
        ('class_names', '["a"]', '1 class names'),
        ('metrics', '{"val/loss": NaN}', 'NaN'),
        ('metrics', f'{{"val/loss": {10**400}}}', 'metrics'),
        ('run_config', '[1]', "its entry 'run_config' is '[1]'"),
        ('run_config', '{"data.data_dir": "/a"}', "'data.data_dir' is none of the"),
        ('run_config', '{"model.width": 2.0}', "'model.width' is none of the"),
        ('run_config', '{"seed": "1"}', 'expected int'),
        ('run_config', '{"seed": true}', 'expected int'),
        ('run_config', '{"train.epochs": 1e999}', 'config.train.epochs=inf'),
        ('run_config', f'{{"train.epochs": {10**400}}}', 'too large'),
        ('run_config', '{"data.source": "../a"}', 'config.data.source'),
        ('run_config', '{"data.train_split": "a", "train.steps": 9}', 'exactly one'),
    ],
)
def test_metadata_that_is_none_is_refused_in_one_line(
    caffe, tmp_path, key, value, says
):
    path = tmp_path / 'a.safetensors'
    safetensors_file.write(caffe, path)
    arrays, metadata = safetensors_file.read_arrays(path)
    safetensors_file.write_arrays(arrays, metadata | {key: value}, path)
    error = run_here('alexnet_jax.weights', 'inspect', path).error
    assert says in error


def test_inspect_says_which_network_it_is(tmp_path):
    path = tmp_path / 'a.safetensors'
    weights = make_weights('caffenet', classes=5, fc=8)
    safetensors_file.write(weights, path)
    out = run_here('alexnet_jax.weights', 'inspect', path).out
    first = out.splitlines()[1].split()
    kernel = weights.params['conv1']['kernel']
    assert first[:3] == ['conv1/kernel', '11×11×3×96', 'float32']
    assert float(first[4]) == pytest.approx(kernel.std(), rel=1e-5)
    assert 'none that is shipped' in out and weights.digest in out


def test_inspect_says_that_a_file_is_not_there_before_what_it_may_be(tmp_path):
    for name in ('nosuch', 'nosuch.safetensors'):
        error = run_here('alexnet_jax.weights', 'inspect', tmp_path / name).error
        assert 'there is no such file' in error


def test_the_source_and_what_is_written_have_a_flag_each(caffe, tmp_path):
    path, out = tmp_path / 'weights', tmp_path / 'out'
    registry.write(caffe, path, 'caffe')
    command = ('alexnet_jax.weights', 'export', path, f'--out={out}')
    assert '--from=NAME' in run_here(*command, '--format=safetensors').error
    error = run_here(*command, '--from=caffe').error
    assert f'{out} is of no known format' in error and '--format=NAME' in error
    done = run_here(*command, '--from=caffe', '--format=safetensors')
    assert done.status == 0, done
    assert registry.read(out, 'safetensors').digest == caffe.digest
    inspect = ('alexnet_jax.weights', 'inspect', path)
    assert caffe.digest in run_here(*inspect, '--from=caffe').out
    assert '--from=caffe' in run_here(*inspect, '--format=caffe').error


def test_a_folder_for_the_hub_has_numbers_and_comes_back_whole(caffe, tmp_path):
    folder = tmp_path / 'hub'
    run = run_here
    safetensors_file.write(caffe, tmp_path / 'a.safetensors')
    run(
        'alexnet_jax.weights', 'export', tmp_path / 'a.safetensors', f'--out={folder}',
        '--format=huggingface',
    )  # fmt: skip
    assert sorted(p.name for p in folder.iterdir()) == [
        'README.md', 'config.json', 'model.safetensors'
    ]  # fmt: skip
    again = registry.read(folder)
    assert description.of(again) == description.of(caffe)
    stated = json.loads((folder / 'config.json').read_text())
    assert stated['digest'] == caffe.digest and stated['model_type'] == 'alexnet_jax'
    card = (folder / 'README.md').read_text()
    assert card.startswith('---\nlibrary_name: alexnet_jax\n')
    assert '| val/top1_error | 0.5 |' in card and caffe.digest in card
    (folder / 'notes.txt').write_text('mine')
    with pytest.raises(ValueError, match='other files'):
        registry.write(caffe, folder, 'huggingface')


def test_class_names_that_are_repeated_are_refused(caffe, tmp_path):
    safetensors_file.write(caffe, tmp_path / 'a.safetensors')
    names = ['crane', *map(str, range(1, caffe.network.num_classes - 1)), 'crane']
    (tmp_path / 'names.txt').write_text('\n'.join(names))
    words = ('inspect', tmp_path / 'a.safetensors', f'--classes={tmp_path}/names.txt')
    line = run_here('alexnet_jax.weights', *words).error
    assert "names.txt: 1 class names are repeated, such as 'crane'" in line


def test_a_last_layer_without_a_bias_is_refused(caffe):
    params = dict(caffe.params)
    params['fc8'] = {'kernel': params['fc8']['kernel']}
    with pytest.raises(ValueError, match="no layer 'fc8' with a bias"):
        dataclasses.replace(caffe, params=params)


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        (b'', 'cannot be read as safetensors'),
        (b'\xff' * 8 + b'{}', 'cannot be read as safetensors'),
        (b'\x02' + bytes(7) + b'{}', 'network'),
        (
            b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4]}}',
            'cannot be read as safetensors',
        ),
        (
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}',
            'cannot be read as safetensors',
        ),
        (b'{"../../a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 'network'),
        (b'{' * 100_000, 'cannot be read as safetensors'),
    ],
)
def test_hostile_safetensors_are_refused_in_one_line(tmp_path, content, says):
    path = tmp_path / 'a.safetensors'
    if content.startswith(b'{'):
        content = len(content).to_bytes(8, 'little') + content + bytes(4)
    path.write_bytes(content)
    assert says in run_here('alexnet_jax.weights', 'inspect', path).error


@pytest.mark.parametrize('name', ['caffe', 'one_tower:torchvision', 'released_2012'])
def test_every_pair_of_formats_that_holds_a_network_keeps_it_bit_for_bit(
    name, tmp_path
):
    pytest.importorskip('onnx')
    weights = make_weights(name, width=1 / 16, fc=8)
    holding = [
        format
        for format, known in registry.FORMATS.items()
        if known.read is not None and known.write is not None
    ]
    # torchvision's holds its own widths alone, see test_torchvision.
    holding.remove('torchvision')
    if name == 'released_2012':  # whose norms keep the towers apart
        holding.remove('caffe')
    if name != 'caffe':  # which alone these two hold, and caffenet
        holding = [f for f in holding if f not in ('matconvnet', 'caffe_tensorflow')]
    for format in holding:
        there = through(weights, format, tmp_path / f'1-{format}')
        for other in holding:
            back = through(there, other, tmp_path / f'2-{format}-{other}')
            assert back.digest == weights.digest, (format, other)


def through(weights: Weights, format: str, stem) -> Weights:
    """Written in a format and read again."""
    suffix = registry.FORMATS[format].suffixes[:1]
    path = stem.with_name(stem.name + ''.join(suffix))
    registry.write(weights, path, format)
    return registry.read(path, format)
