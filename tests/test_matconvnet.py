"""matconvnet's .mat, written by scipy.io as its own import-caffe.py does."""

import dataclasses
import math
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from alexnet_jax.formats import matlab, networks, registry
from tests.conftest import run_here
from tests.formats import bit_equal, make_weights

NETS = ('caffe', 'caffenet')


def simple_net(weights) -> dict:
    """A SimpleNN of our weights, in the layout of utils/import-caffe.py."""
    table, layers = weights.table, []
    side = {'fc6': 6}
    for name in table['layers']:
        params, row = weights.params[name], table[name]
        kernel = params['kernel']
        if row['kind'] == 'dense':
            extent = side.get(name, 1)
            if extent > 1:
                towers = weights.network.towers
                own = kernel.reshape(towers, extent, extent, -1, kernel.shape[-1])
                kernel = np.moveaxis(own, 0, 2)
            kernel = kernel.reshape(extent, extent, -1, kernel.shape[-1])
        pair = np.empty((1, 2), object)
        pair[0, 0], pair[0, 1] = kernel, params['bias'][None]
        stride = float(row.get('stride', 1))
        layers.append(
            {
                'name': name,
                'type': 'conv',
                'weights': pair,
                'pad': np.reshape(row.get('padding', np.zeros(4)), (1, 4)) * 1.0,
                'stride': np.full((1, 2), stride),
            }
        )
        lrn, pool = table['lrn'], table['pool']
        made = {
            'activation': {'type': 'relu'},
            'lrn': {
                'type': 'normalize',
                'param': np.array([[lrn['size'], lrn['k'], lrn['alpha'], lrn['beta']]]),
            },
            'pool': {
                'type': 'pool',
                'method': 'max',
                'pool': np.full((1, 2), float(pool['size'])),
                'stride': np.full((1, 2), float(pool['stride'])),
            },
        }
        layers += [made[s] | {'name': s} for s in row['steps'] if s != 'dropout']
    layers.append({'type': 'softmax', 'name': 'prob'})
    cells = np.empty((1, len(layers)), object)
    cells[0] = layers
    names = np.array(weights.class_names, object)[None]
    return {
        'layers': cells,
        'normalization': {
            'averageImage': weights.preprocessing.centre_mean,
            'keepAspect': False,
        },
        'classes': {'name': names, 'description': names},
    }


@pytest.fixture(params=NETS)
def weights(request):
    return make_weights(request.param, width=1 / 16, fc=16)


@pytest.mark.parametrize('compressed', [False, True])
def test_what_scipy_writes_is_read_to_the_bit(weights, tmp_path, compressed):
    path = tmp_path / 'net.mat'
    net = simple_net(weights)
    scipy.io.savemat(path, net, do_compression=compressed)
    again = registry.read(path)
    assert again.digest == weights.digest
    assert again.network == weights.network
    assert again.class_names == weights.class_names
    np.testing.assert_array_equal(
        again.preprocessing.centre_mean, weights.preprocessing.centre_mean
    )
    # Newer files have it all under `meta`, and the whole under `net`.
    meta = {k: net[k] for k in ('normalization', 'classes')}
    scipy.io.savemat(path, {'net': {'layers': net['layers'], 'meta': meta}})
    assert registry.read(path).digest == weights.digest


def test_scipy_reads_what_is_written_as_what_the_importer_makes(weights, tmp_path):
    path = tmp_path / 'net.mat'
    assert registry.write(weights, path) == [path]
    again = registry.read(path)
    assert again.digest == weights.digest and again.network == weights.network
    assert again.class_names == weights.class_names
    np.testing.assert_array_equal(
        again.preprocessing.centre_mean, weights.preprocessing.centre_mean
    )
    found = scipy.io.loadmat(path, simplify_cells=True)
    wanted = simple_net(weights)['layers'][0]
    assert [x['type'] for x in found['layers']] == [x['type'] for x in wanted]
    for layer, own in zip(wanted, found['layers'], strict=True):
        for key in {'param', 'pool', 'stride'} & layer.keys():
            np.testing.assert_array_equal(own[key], np.ravel(layer[key]))
        for theirs, mine in zip(np.ravel(layer.get('weights', ())),
                                own.get('weights', ()), strict=True):  # fmt: skip
            assert mine.dtype == np.float32
            np.testing.assert_array_equal(mine, np.squeeze(theirs))
    assert found['layers'][0]['pad'].tolist() == [0] * 4
    conv2 = next(x for x in found['layers'] if x['name'] == 'conv2')
    assert conv2['pad'].tolist() == [2] * 4
    assert found['meta']['normalization']['imageSize'].tolist() == [227, 227, 3]


def test_a_net_without_names_and_with_one_colour_is_written(weights, tmp_path):
    seen = networks.preprocessing('caffe', np.array([1, 2, 3], np.float32))
    weights = dataclasses.replace(weights, class_names=(), preprocessing=seen)
    registry.write(weights, tmp_path / 'net.mat')
    again = registry.read(tmp_path / 'net.mat')
    assert again.class_names == () and again.preprocessing.mean == 'colour'
    assert bit_equal(again, weights)


@pytest.mark.parametrize('suffix', ['mat', 'npy'])
def test_only_what_a_reader_could_know_is_written(suffix, tmp_path):
    path = tmp_path / f'a.{suffix}'
    with pytest.raises(ValueError, match='caffe and caffenet alone'):
        registry.write(make_weights('paper', width=1 / 16, fc=8), path)
    weights = make_weights('caffe', width=1 / 16, fc=8)
    seen = dataclasses.replace(weights.preprocessing, scale=(0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match='does not say scale'):
        registry.write(dataclasses.replace(weights, preprocessing=seen), path)
    assert not path.exists()


def test_a_mean_of_one_colour_is_one(weights, tmp_path):
    net = simple_net(weights)
    net['normalization']['averageImage'] = np.full((1, 1, 3), [120.0, 110.0, 100.0])
    scipy.io.savemat(tmp_path / 'net.mat', net)
    seen = registry.read(tmp_path / 'net.mat').preprocessing
    assert seen.mean == 'colour'
    np.testing.assert_array_equal(seen.mean_image[0, 0], [120, 110, 100])


def test_another_norm_or_another_net_is_refused(weights, tmp_path):
    path, net = tmp_path / 'net.mat', simple_net(weights)
    norm = next(x for x in net['layers'][0] if x['type'] == 'normalize')
    norm['param'] = norm['param'] * [1, 2, 1, 1]
    scipy.io.savemat(path, net)
    assert (
        'has param [5.0, 2.0' in run_here('alexnet_jax.weights', 'inspect', path).error
    )
    norm['param'] = norm['param'] / [1, 2, 1, 1]
    pool = next(x for x in net['layers'][0] if x['type'] == 'pool')
    conv = [x for x in net['layers'][0] if x['type'] == 'conv'][1]
    for layer, key, value, says in (
        (pool, 'pool', [[2.0, 2.0]], 'has pool [2.0, 2.0], expected [3, 3]'),
        (pool, 'method', 'avg', "pools by 'avg', expected max"),
        (conv, 'pad', [[1.0] * 4], 'has pad [1.0'),
    ):
        before = dict(layer)
        layer[key] = value
        scipy.io.savemat(path, net)
        assert says in run_here('alexnet_jax.weights', 'inspect', path).error
        layer.clear()
        layer.update(before)
    net['layers'] = net['layers'][:, :4]
    scipy.io.savemat(path, net)
    ended = run_here('alexnet_jax.weights', 'inspect', path)
    assert ended.status == 1 and 'none of the networks' in ended.err
    assert any(line.startswith('conv2/kernel') for line in ended.err.splitlines())


HEADER = b'MATLAB 5.0'.ljust(124) + b'\x00\x01IM'


def element(kind: int, data: bytes) -> bytes:
    return struct.pack('<II', kind, len(data)) + data + b'\0' * (-len(data) % 8)


def matrix(kind: int, dims: tuple[int, ...], rest: bytes = b'') -> bytes:
    head = element(6, struct.pack('<II', kind, 0))
    head += element(5, struct.pack(f'<{len(dims)}i', *dims)) + element(1, b'layers')
    return element(14, head + rest)


def nested(depth: int) -> bytes:
    content = matrix(6, (0, 0))
    for _ in range(depth):
        content = matrix(1, (1, 1), content)
    return content


ENDLESS = struct.pack('<d', math.inf)  # of a text
# A shape of floats.
FRACTIONS = element(
    14,
    element(6, struct.pack('<II', 6, 0))
    + element(7, struct.pack('<2f', 1.0, 1.0))
    + element(1, b'layers'),
)


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        (b'', 'shorter than its header'),
        (b'MATLAB 7.3'.ljust(200), 'version 7.3'),
        (b'\0' * 200, 'no little-endian'),
        (HEADER + element(14, b'\0' * 8), 'it is damaged|cut off|expected numbers'),
        (HEADER + matrix(6, (10**6, 10**6), element(9, b'\0' * 16)), 'has 2'),
        (HEADER + matrix(1, (10**6, 10**6), b''), 'cut off'),
        (HEADER + matrix(2, (10**6, 10**6), element(5, b'\x08\0\0\0') * 2), 'claims'),
        (HEADER + matrix(6, (-1, -1)), 'damaged'),
        (HEADER + FRACTIONS, 'fractions where whole numbers'),
        (
            HEADER + matrix(4, (1, 1), element(9, struct.pack('<d', math.inf))),
            'fractions',
        ),
        (HEADER + nested(3000), 'nested more than 8'),
        (HEADER + struct.pack('<II', 14, 2**32 - 8), 'claims 4,294,967,288 bytes'),
        (HEADER + element(15, b'no zlib'), 'decompress'),
        (HEADER + matrix(17, (1, 1)), 'class 17'),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path, content, says):
    path = tmp_path / 'a.mat'
    path.write_bytes(content)
    error = run_here('alexnet_jax.weights', 'inspect', path).error
    assert any(part in error for part in says.split('|')), error


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(matlab, 'MOST_BYTES', 1_000_000)
    (tmp_path / 'a.mat').write_bytes(HEADER + element(15, zlib.compress(bytes(10**7))))
    with pytest.raises(ValueError, match='more than 1,000,000 bytes'):
        matlab.read(tmp_path / 'a.mat')


def test_nan_is_refused(weights, tmp_path):
    net = simple_net(weights)
    net['layers'][0, 0]['weights'][0, 1][0, 3] = np.nan
    scipy.io.savemat(tmp_path / 'a.mat', net)
    with pytest.raises(ValueError, match='1 of the 6 values of conv1/bias'):
        registry.read(tmp_path / 'a.mat')
