"""ONNX Runtime computes what our networks do; bvlcalexnet comes in as what it is."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from alexnet_jax import model
from alexnet_jax.formats import networks, onnx_chain, registry
from alexnet_jax.formats import onnx as onnx_file
from alexnet_jax.run import transfer
from tests.conftest import run_here
from tests.formats import bit_equal, make_weights, narrow, photographs, taps
from tests.reference_numpy import relative_error

TOLERANCE = 1e-5


def run(content: onnx.ModelProto, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of a model in ONNX Runtime."""
    session = onnxruntime.InferenceSession(
        content.SerializeToString(), providers=['CPUExecutionProvider']
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize('name', networks.NAMES)
def test_every_network_runs_on_photographs(name, shared_data, tmp_path):
    """The file that is written, and then the same graph with every tap given out."""
    weights = narrow(name)
    squares = photographs(shared_data, weights.preprocessing.stored_size)
    ours = taps(weights, squares)
    path = tmp_path / 'a.onnx'
    assert registry.write(weights, path, preprocess=True) == [path]
    content = onnx.load(path)
    onnx.checker.check_model(content, full_check=True)
    assert content.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    extra = map(helper.make_empty_tensor_value_info, ours.keys() - {'logits'})
    content.graph.output.extend(extra)
    theirs = run(content, images=squares)
    assert theirs['logits'].std() > 0.01
    for tap, value in ours.items():
        assert relative_error(theirs[tap], value) <= TOLERANCE, tap
    again = registry.read(path)
    assert bit_equal(again, weights) and again.network == weights.network


def test_export_puts_preprocessing_into_the_graph_on_demand(tmp_path):
    weights = make_weights('cifar10', width=0.125, fc=8)
    registry.write(weights, tmp_path / 'a.safetensors')
    command = ('alexnet_jax.weights', 'export', tmp_path / 'a.safetensors')
    out = tmp_path / 'a.onnx'
    for extra, first in (([], 'input'), (['--preprocess'], 'images')):
        said = run_here(*command, f'--out={out}', *extra)
        assert said.out == f'written: {out}\n', said
        assert onnx.load(out).graph.input[0].name == first
    error = run_here(*command, f'--out={tmp_path}/b.safetensors', '--preprocess').error
    assert '--preprocess is not an option of safetensors' in error


def test_without_preprocessing_the_input_is_the_networks(shared_data):
    weights = narrow('released_2012')
    squares = photographs(shared_data, 256)
    seen = weights.preprocessing
    x = squares[:, 16:240, 16:240] - seen.centre_mean
    theirs = run(onnx_file.to_proto(weights), input=np.moveaxis(x, -1, 1))
    ours = taps(weights, squares)['logits']
    assert relative_error(theirs['logits'], ours) <= TOLERANCE


# The model zoo.


def bvlcalexnet(width: int = 8, fc: int = 64, classes: int = 10) -> onnx.ModelProto:
    """Nodes, settings and shapes of the model zoo's file, with fewer channels."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    nodes = []

    def add(operator: str, x: str, output: str, *others: str, **settings: Any) -> str:
        outputs = [output, f'_{output}_mask'] if operator == 'Dropout' else [output]
        nodes.append(helper.make_node(operator, [x, *others], outputs, **settings))
        return output

    def weights_of(name: str, *shape: int, gain: float = 1.0) -> list[str]:
        fan_in = np.prod(shape[1:])
        arrays[f'{name}_w_0'] = rng.normal(0, gain * (2 / fan_in) ** 0.5, shape)
        arrays[f'{name}_b_0'] = rng.normal(0, 0.1, shape[0])
        return [f'{name}_w_0', f'{name}_b_0']

    def conv(x, number, inputs, outputs, size, group=1, pad=0, stride=1, **of) -> str:
        name = f'conv{number}'
        names = weights_of(name, outputs, inputs // group, size, size, **of)
        x = add('Conv', x, f'{name}_1', *names, group=group, pads=[pad] * 4,
                kernel_shape=[size] * 2, strides=[stride] * 2)  # fmt: skip
        return add('Relu', x, f'{name}_2')

    def norm(x: str, number: int) -> str:
        return add('LRN', x, f'norm{number}_1', size=5, alpha=1e-4, beta=0.75, bias=1.0)

    def pool(x: str, number: int, end: int = 0) -> str:
        return add('MaxPool', x, f'pool{number}_1', kernel_shape=[3, 3],
                   strides=[2, 2], pads=[0, 0, end, end])  # fmt: skip

    a, b, c, d = (width * k for k in (6, 16, 24, 16))
    x = conv('data_0', 1, 3, a, 11, stride=4, gain=0.02)
    x = pool(norm(x, 1), 1)  # 54 → 26: the last row is in no window
    x = pool(norm(conv(x, 2, a, b, 5, group=2, pad=2), 2), 2)  # 26 → 12
    x = conv(x, 3, b, c, 3, pad=1)
    x = conv(x, 4, c, c, 3, group=2, pad=1)
    x = pool(conv(x, 5, c, d, 3, group=2, pad=1), 5, end=1)  # 12 → 6
    arrays['OC2_DUMMY_1'] = np.array([1, d * 36])
    x = add('Reshape', x, 'OC2_DUMMY_0', 'OC2_DUMMY_1')
    for number, inputs in ((6, d * 36), (7, fc)):
        name = f'fc{number}'
        x = add('Gemm', x, f'{name}_1', *weights_of(name, fc, inputs), transB=1)
        x = add('Dropout', add('Relu', x, f'{name}_2'), f'{name}_3', ratio=0.5)
    x = add('Gemm', x, 'fc8_1', *weights_of('fc8', classes, fc), transB=1)
    add('Softmax', x, 'prob_1', axis=1)
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        'bvlc_alexnet',
        [tensor('data_0', TensorProto.FLOAT, [1, 3, 224, 224])],
        [tensor('prob_1', TensorProto.FLOAT, [1, classes])],
        [
            numpy_helper.from_array(
                array if array.dtype == np.int64 else array.astype(np.float32), name
            )
            for name, array in arrays.items()
        ],
    )
    opsets = [helper.make_opsetid('', 9)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=4)


def test_bvlcalexnet_comes_in_as_the_same_function(shared_data, tmp_path):
    content = bvlcalexnet()
    path = tmp_path / 'bvlcalexnet-9.onnx'
    onnx.save(content, path)
    weights = registry.read(path)
    assert weights.network.towers == 2 and weights.preprocessing.crop_size == 224
    shapes = model.layer_shapes(weights.network)
    assert [s.output[0] for s in shapes[:5]] == [26, 12, 12, 12, 6]
    square = photographs(shared_data, 256, 1)
    ours = taps(weights, square)
    seen = weights.preprocessing
    x = (square[:, 16:240, 16:240] - seen.centre_mean)[..., ::-1]  # blue first
    theirs = run(content, data_0=np.moveaxis(x, -1, 1).astype(np.float32))['prob_1']
    logits = ours['logits']
    assert logits.std() > 0.1
    assert relative_error(jax.nn.softmax(logits), theirs) <= TOLERANCE
    # And out again, where a margin below 0 becomes a slice.
    (written,) = registry.write(weights, tmp_path / 'again.onnx', preprocess=True)
    again = run(onnx.load(written), images=square)['logits']
    assert relative_error(again, logits) <= TOLERANCE
    assert bit_equal(registry.read(written), weights)


def test_bvlcalexnet_becomes_a_workdir(tmp_path):
    """Whose config has conv1's margin of less than nothing."""
    path = tmp_path / 'bvlcalexnet-9.onnx'
    onnx.save(bvlcalexnet(width=2, fc=8), path)
    workdir = tmp_path / 'run'
    names = tmp_path / 'names.txt'
    names.write_text('\n'.join(f'class {i}' for i in range(10)))
    said = run_here('alexnet_jax.weights', 'import', path, f'--workdir={workdir}',
                    f'--classes={names}')  # fmt: skip
    assert not said.status, said.err
    config = json.loads((workdir / 'config.json').read_text())
    assert config['model']['conv1']['padding'] == [[0, -5], [0, -5]]
    assert config['model']['conv2']['padding'] == [[2, 1], [2, 1]]
    assert transfer.weights_of(workdir).digest == registry.read(path).digest


def test_the_zoos_parameters_are_not_changed():
    content = bvlcalexnet(width=2, fc=8)
    arrays = {t.name: numpy_helper.to_array(t) for t in content.graph.initializer}
    weights = onnx_chain.weights_from(content.graph, arrays, np.zeros(3), 'x')
    kernel = weights.params['conv1']['kernel']
    np.testing.assert_array_equal(
        kernel[:, :, ::-1].transpose(3, 2, 0, 1), arrays['conv1_w_0']
    )
    row = weights.params['fc6']['kernel'].reshape(2, 6, 6, 16, 8)[1, 2, 3, 5]
    flat = arrays['fc6_w_0'].reshape(8, 32, 6, 6)[:, 16 + 5, 2, 3]
    np.testing.assert_array_equal(row, flat)
    assert weights.table['lrn']['alpha'] == 1e-4 / 5


def node(graph: onnx.GraphProto, operator: str) -> onnx.NodeProto:
    return next(n for n in graph.node if n.op_type == operator)


def set_of(operator: str, **settings: Any) -> Callable[[onnx.GraphProto], None]:
    def change(graph: onnx.GraphProto) -> None:
        for name, value in settings.items():
            attributes = node(graph, operator).attribute
            kept = [a for a in attributes if a.name != name]
            del attributes[:]
            attributes.extend([*kept, helper.make_attribute(name, value)])

    return change


def huge(graph: onnx.GraphProto) -> None:
    graph.initializer[0].dims[:] = [10**6, 10**6]


def elsewhere(graph: onnx.GraphProto) -> None:
    tensor = graph.initializer[0]
    tensor.ClearField('raw_data')
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key='location', value='../../etc/passwd')


def endless(graph: onnx.GraphProto) -> None:
    node(graph, 'Relu').output[0] = 'data_0'


HOSTILE: dict[str, tuple[Callable[[onnx.GraphProto], None], str]] = {
    '10¹² values': (huge, 'bytes, which its shape'),
    'another file': (elsewhere, 'lies in another file'),
    'a loop': (endless, 'not read by one node alone'),
    'another operator': (
        lambda g: setattr(node(g, 'Relu'), 'op_type', 'LeakyRelu'), 'LeakyRelu',
    ),
    'a stride of 0': (set_of('Conv', strides=[0, 0]), 'ZeroDivisionError'),
    'dilation': (set_of('Conv', dilations=[2, 2]), 'dilated'),
    'auto_pad': (set_of('MaxPool', auto_pad='SAME_UPPER'), 'MaxPool'),
    'pads above': (set_of('MaxPool', pads=[1, 1, 0, 0]), 'MaxPool'),
    'a scaled Gemm': (set_of('Gemm', alpha=2.0), 'scales'),
    'pads that are no list': (set_of('Conv', pads=3), 'TypeError'),
    'groups of three': (set_of('Conv', group=3), 'groups'),
    'a norm that differs': (set_of('LRN', alpha=1.0), 'differ'),
    'a second reader': (
        lambda g: g.node.append(helper.make_node('Relu', ['conv3_1'], ['z'])),
        'not read by one node alone',
    ),
    'an image of 10⁹ pixels': (
        lambda g: [
            setattr(g.input[0].type.tensor_type.shape.dim[i], 'dim_value', 31_623)
            for i in (2, 3)
        ],
        '31623 rows',
    ),
    'no graph': (lambda g: g.Clear(), 'no graph'),
}  # fmt: skip


@pytest.mark.parametrize('case', HOSTILE)
def test_a_hostile_graph_is_refused_in_one_line(case, tmp_path):
    change, says = HOSTILE[case]
    content = bvlcalexnet(width=2, fc=8)
    change(content.graph)
    path = tmp_path / 'a.onnx'
    path.write_bytes(content.SerializeToString())
    tracemalloc.start()
    error = run_here('alexnet_jax.weights', 'inspect', path).error
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(path) in error and says in error, error
    assert peak < 100e6


def test_a_name_that_is_no_text_is_refused(tmp_path):
    """Of which protobuf makes bytes."""
    content = bvlcalexnet(width=2, fc=8).SerializeToString()
    path = tmp_path / 'a.onnx'
    path.write_bytes(content.replace(b'conv1_w_0', b'conv1_w_\xff'))
    with pytest.raises(ValueError, match='no text'):
        registry.read(path)


@pytest.fixture(scope='module')
def own(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('onnx') / 'own.onnx'
    onnx_file.write(make_weights('caffe', width=0.03125, fc=4), path)
    return path


def test_a_cut_or_changed_file_of_ours_is_refused(own, tmp_path):
    content = own.read_bytes()
    path = tmp_path / 'a.onnx'
    for part in (0, 100, len(content) // 2, len(content) - 9):
        path.write_bytes(content[:part])
        with pytest.raises(ValueError, match=r'a\.onnx'):
            registry.read(path)
    model_ = onnx.load(own)
    set_of('LRN', bias=2.0)(model_.graph)
    onnx.save(model_, path)
    with pytest.raises(ValueError, match='something changed it'):
        registry.read(path)
    model_ = onnx.load(own)
    bias = next(t for t in model_.graph.initializer if t.name == 'fc8.bias')
    bias.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, np.float32), bias.name))
    onnx.save(model_, path)
    with pytest.raises(ValueError, match='not finite'):
        registry.read(path)
