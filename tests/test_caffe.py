"""Caffe's files against OpenCV, which runs them, and against Google's protobuf."""

import dataclasses

import cv2
import numpy as np
import pytest

from alexnet_jax import model
from alexnet_jax.formats import (
    caffe,
    caffe_net,
    caffe_schema,
    networks,
    protobuf,
    prototxt,
    registry,
)
from alexnet_jax.formats.weights import (
    UnknownNetworkError,
    array_digest,
    one_colour,
)
from tests import reference_caffe
from tests.conftest import run_here
from tests.formats import bit_equal, make_weights

NETS = ('caffe', 'caffenet', 'one_tower:torchvision')


@pytest.fixture(scope='module', params=NETS)
def written(request, tmp_path_factory):
    """A narrow net and its three files."""
    weights = make_weights(request.param, width=0.125, fc=64)
    path = tmp_path_factory.mktemp('caffe') / 'net.caffemodel'
    registry.write(weights, path)
    return request.param, weights, path


def images_of(weights) -> np.ndarray:
    """Crops less their mean, f32[2, S, S, 3], RGB."""
    size = weights.network.image_size
    pixels = np.random.default_rng(1).integers(0, 256, (2, size, size, 3))
    less = pixels - weights.preprocessing.centre_mean
    return (less * np.array(weights.preprocessing.scale)).astype(np.float32)


def blobs_of(weights) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Caffe's arrays of ours, by plain indexing."""
    maps, towers, blobs = 6, weights.network.towers, {}
    for name, params in weights.params.items():
        kernel = params['kernel']
        if name == 'conv1':
            kernel = kernel[:, :, [2, 1, 0]]
        if kernel.ndim == 4:
            kernel = np.moveaxis(kernel, (0, 1, 2, 3), (2, 3, 1, 0))
        else:
            kernel = kernel.T
        if name == 'fc6':
            # Ours are (tower, row, column, channel of the tower).
            own = kernel.reshape(len(kernel), towers, maps, maps, -1)
            kernel = np.einsum('otrck->otkrc', own).reshape(len(kernel), -1)
        blobs[name] = (kernel, params['bias'])
    return blobs


def test_opencv_runs_what_we_write_and_answers_as_we_do(written):
    _, weights, path = written
    net = cv2.dnn.readNetFromCaffe(str(path.with_suffix('.prototxt')), str(path))
    images = images_of(weights)
    net.setInput(np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2)))
    theirs = net.forward('fc8')
    ours = np.asarray(model.merge(weights.network, weights.params)(images))
    assert np.abs(ours).max() > 0.01
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(ours).max()


def test_a_round_trip_keeps_every_bit(written):
    name, weights, path = written
    again = registry.read(path, mean=str(path.with_suffix('.binaryproto')))
    seen = weights.preprocessing
    if seen.mean == 'colour':  # the rest of the mean image is lost
        image = one_colour(seen.centre_mean[0, 0], seen.stored_size)
        seen = dataclasses.replace(seen, mean_image=image)
    assert bit_equal(again, dataclasses.replace(weights, preprocessing=seen))
    assert networks.named(again.table, but=['features']) == [name]
    assert again.network == weights.network


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('layer: convolution_param', 'a layer is .convolution_param'),
        ('layer { type { a: 1 } }', 'is of type'),
        ('layer { type: "LRN" lrn_param: 5 }', 'lrn_param of'),
        (
            'layer { type: "Convolution" convolution_param { num_output: "many" } }',
            "num_output: 'many'",
        ),
        (
            'layer { type: "Convolution" convolution_param { num_output: 1 '
            'kernel_size { a: 1 } } }',
            'kernel_size',
        ),
    ],
)
def test_a_text_that_says_something_else_is_one_line(tmp_path, text, says):
    (tmp_path / 'a.prototxt').write_text(text)
    with pytest.raises(ValueError, match=says) as caught:
        caffe_net.table_of(caffe.layers(tmp_path / 'a.prototxt'))
    assert '\n' not in str(caught.value)


def test_a_field_without_values_is_not_there(tmp_path):
    # channels, height and width as packed numbers, of which there are none.
    (tmp_path / 'a.binaryproto').write_bytes(b'\x08\x01\x12\0\x1a\0\x22\0')
    with pytest.raises(ValueError, match=r'a\.binaryproto'):
        caffe.read_mean(tmp_path / 'a.binaryproto')


@pytest.mark.parametrize('v1', [True, False])
def test_what_googles_protobuf_writes_is_read_to_the_bit(written, tmp_path, v1):
    name, weights, path = written
    text = path.with_suffix('.prototxt').read_text()
    encoded = reference_caffe.encode(text, blobs_of(weights), v1=v1)
    file, mean = tmp_path / 'a.caffemodel', tmp_path / 'mean.binaryproto'
    file.write_bytes(encoded)
    image = weights.preprocessing.mean_image[..., ::-1].transpose(2, 0, 1)
    mean.write_bytes(reference_caffe.encode_mean(image))
    again = registry.read(file, mean=str(mean))
    assert bit_equal(again, weights)
    # And OpenCV agrees with ours on this very file.
    if v1 and name == 'caffe':
        net = cv2.dnn.readNetFromCaffe(str(path.with_suffix('.prototxt')), str(file))
        images = images_of(weights)
        net.setInput(np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2)))
        ours = np.asarray(model.merge(again.network, again.params)(images))
        theirs = net.forward('fc8')
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(ours).max()


def small_file(tmp_path, edit=lambda text: text, **options):
    """A narrow Caffe net written by Google's protobuf, from an edited definition."""
    weights = make_weights('caffe', width=1 / 32, fc=8)
    text = edit(caffe._prototxt(weights.network, caffe_net.to_layers(weights.network)))
    path = tmp_path / 'small.caffemodel'
    options = {'v1': False} | options
    path.write_bytes(reference_caffe.encode(text, blobs_of(weights), **options))
    return weights, path, text


def test_doubles_are_read_too(tmp_path):
    weights, path, _ = small_file(tmp_path, double=True)
    assert registry.read(path).digest == weights.digest


def test_a_prototxt_says_what_a_file_of_weights_alone_does_not(tmp_path):
    def without_settings(text):
        return '\n'.join(x for x in text.splitlines() if '_param' not in x)

    weights, path, _ = small_file(tmp_path, without_settings)
    with pytest.raises(ValueError, match='no kernel_size'):
        registry.read(path)
    text = caffe._prototxt(weights.network, caffe_net.to_layers(weights.network))
    for name in ('a.prototxt', 'deploy.txt'):
        (tmp_path / name).write_text('# of a test\n' + text.replace('{ ', '{\n'))
        again = registry.read(path, prototxt=str(tmp_path / name))
        assert again.digest == weights.digest
    with pytest.raises(UnknownNetworkError, match='conv1/bias'):  # narrower than it
        registry.read(path, network='caffenet')


@pytest.mark.parametrize(
    ('old', 'new', 'says'),
    [
        ('k: 1.0', 'k: 2.0', 'lrn.k is 2.0 there and 1.0 in caffe'),
        ('local_size: 5', 'local_size: 3', 'in its shapes, but computes another'),
        ('type: "ReLU"', 'type: "Sigmoid"', "type 'Sigmoid'"),
        ('stride: 4', 'stride: 5', 'conv1.stride is 5 there and 4 in caffe'),
        ('bottom: "fc6"', 'bottom: "conv3"', 'no chain'),
    ],
)
def test_another_function_is_refused_by_its_first_difference(tmp_path, old, new, says):
    # Of the widths of Caffe's own, so that its shapes are.
    _, path, _ = small_file(tmp_path, lambda t: t.replace(old, new))
    error = run_here('alexnet_jax.weights', 'inspect', path).error
    assert says in error


def test_an_unknown_network_is_shown_beside_the_nearest(tmp_path):
    def another_kernel(text):
        return text.replace('kernel_size: 11', 'kernel_size: 7')

    _, path, _ = small_file(tmp_path, another_kernel)
    ended = run_here('alexnet_jax.weights', 'inspect', path)
    assert ended.status == 1
    *table, error = ended.err.splitlines()
    assert error.startswith('error: ') and 'none of the networks' in error
    (row,) = [line for line in table if line.startswith('conv3/kernel')]
    assert '3×3×8×12' in row and '≠' in row


def blob_claiming(*dims: int) -> bytes:
    return protobuf.write([(7, [(1, list(dims))]), (5, np.zeros(4, np.float32))])


def nested(depth: int) -> bytes:
    content = b''
    for _ in range(depth):
        content = (
            protobuf._to_varint(100 << 3 | 2)
            + protobuf._to_varint(len(content))
            + content
        )
    return content


def layer(*blobs: bytes) -> bytes:
    body = protobuf.write([(1, 'conv1'), (2, 'Convolution')])
    for content in blobs:
        body += protobuf._to_varint(7 << 3 | 2) + protobuf._to_varint(len(content))
        body += content
    return protobuf._to_varint(100 << 3 | 2) + protobuf._to_varint(len(body)) + body


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        (b'', 'is empty'),
        (layer(blob_claiming(10**6, 10**6), blob_claiming(4)), '1000000×1000000'),
        (layer(blob_claiming(2**62, 2**62), blob_claiming(4)), 'and has 4'),
        (layer(blob_claiming(-(2**63), 4), blob_claiming(4)), 'and has 4'),
        (nested(3000), ''),
        (b'\xa2\x06\xff\xff\xff\xff\xff\xff\xff\xff\x7f', 'claims'),
        (b'\xa2\x06' + b'\xff' * 20, 'more than ten bytes'),
        (b'\xa3\x06', 'wire type 3'),
        (b'\x18\x01' * 1_000_001, 'more than 1,000,000 fields'),
        (b'../../etc/passwd', ''),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path, content, says):
    path = tmp_path / 'a.caffemodel'
    path.write_bytes(content)
    assert says in run_here('alexnet_jax.weights', 'inspect', path).error


def test_a_file_cut_anywhere_is_refused(tmp_path):
    _, path, _ = small_file(tmp_path)
    whole = path.read_bytes()
    cut = tmp_path / 'cut.caffemodel'
    for length in [*range(0, 200, 7), *np.linspace(200, len(whole) - 1, 40, dtype=int)]:
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r'cut\.caffemodel'):
            registry.read(cut)


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('a {' * 20, 'nested more than 16'),
        ('layer { name: "a"', 'expected a name'),
        ('layer: [ 1, 2', 'expected a value'),
        ('\x00', 'line 1'),
        ('name: "never ends', 'line 1'),
        ('x ' * 600_000, 'more than 1,000,000 characters'),
    ],
)
def test_a_prototxt_that_is_none_is_refused_by_line(text, says):
    with pytest.raises(ValueError, match=says):
        prototxt.read(text)


def test_a_net_that_subtracts_one_colour_gives_caffe_that_colour(tmp_path):
    weights = make_weights('one_tower:torchvision', width=0.125, fc=64)
    image = np.random.default_rng(0).uniform(0, 255, (256, 256, 3)).astype(np.float32)
    seen = dataclasses.replace(weights.preprocessing, mean='colour', mean_image=image)
    weights = dataclasses.replace(weights, preprocessing=seen)
    registry.write(weights, tmp_path / 'a.caffemodel')
    mean = caffe.read_mean(tmp_path / 'a.binaryproto')
    np.testing.assert_allclose(
        mean, np.broadcast_to(image.mean((0, 1), np.float64), mean.shape), rtol=1e-5
    )


def test_layers_that_change_no_number_are_passed_by():
    def layer(name, kind, bottom, *top):
        return {'name': [name], 'type': [kind], 'bottom': [bottom], 'top': list(top)}

    chain = [
        layer('conv', 'Convolution', 'data', 'conv'),
        layer('split', 'Split', 'conv', 'a', 'b'),
        layer('flatten', 'Flatten', 'b', 'flat'),
        layer('fc', 'InnerProduct', 'flat', 'fc'),
    ]
    found = caffe_net.layers_of({'layer': chain})
    assert [each.name for each in found] == ['conv', 'fc']


def test_what_caffe_cannot_hold_is_not_written(tmp_path):
    for name, says in {
        'paper': 'pads all sides alike',
        'cifar10': 'step',
        'cuda_convnet:conv_local_11pct': 'step|locally',
    }.items():
        with pytest.raises(ValueError, match=says):
            registry.write(make_weights(name, width=0.25), tmp_path / 'a.caffemodel')
    assert not list(tmp_path.iterdir())


def test_the_schema_is_that_of_the_reference():
    """Both were typed from caffe.proto; a slip in one shows here."""
    net = reference_caffe.PROTO['NetParameter'].DESCRIPTOR

    def numbers(descriptor, schema):
        ours = {field.name: number for number, field in schema.items()}
        for field in descriptor.fields:
            if field.name in ours:
                assert ours[field.name] == field.number, field.full_name
            inner = schema.get(field.number)
            if inner and inner.schema:
                numbers(field.message_type, inner.schema)

    numbers(net, caffe_schema.NET)


def test_inspect_says_what_a_mean_and_a_definition_hold(tmp_path):
    weights = make_weights('caffe', width=1 / 16, fc=16)
    path = tmp_path / 'net.caffemodel'
    registry.write(weights, path)
    mean = weights.preprocessing.mean_image
    inspect = ('alexnet_jax.weights', 'inspect')
    out = run_here(*inspect, path.with_suffix('.binaryproto')).out
    row = out.splitlines()[1].split()
    assert row[0] == 'R' and float(row[1]) == pytest.approx(mean[..., 0].mean(), 1e-5)
    assert '256×256×3' in out and array_digest(mean) in out
    out = run_here(*inspect, path.with_suffix('.prototxt')).out
    (row,) = [line for line in out.splitlines() if line.startswith('conv2')]
    assert row.split(maxsplit=2) == [
        'conv2', 'Convolution', 'num_output 16, kernel_size 5, pad 2, group 2'
    ]  # fmt: skip
    assert 'network: caffe in other widths' in out
    text = path.with_suffix('.prototxt').read_text()
    path.with_suffix('.prototxt').write_text(text.replace('group: 2', 'group: 5'))
    out = run_here(*inspect, path.with_suffix('.prototxt')).out
    assert 'group 5' in out and 'network: none that is shipped' in out
    for suffix in ('binaryproto', 'prototxt'):
        bad = tmp_path / f'bad.{suffix}'
        bad.write_bytes(b'\x0a\xff\xff\xff\xff\x0f{')
        assert str(bad) in run_here(*inspect, bad).error
