"""ONNX: every network as a graph of our own, and the model zoo's bvlcalexnet.

What is written runs in any runtime for any number of images (`onnx_graph` has the
operators). The table and the rest lie in the file's metadata, so that it can be read
back, bit for bit. What others wrote is read where it is one chain of Caffe's layers
(`onnx_chain`).
"""

import base64
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from alexnet_jax.formats import caffe, description, onnx_chain, onnx_graph, torch_layout
from alexnet_jax.formats.weights import Weights, colour_of
from alexnet_jax.system import files

OPSET, IR = 17, 8  # of 2022: what the runtimes of the last years read
MOST_BYTES = (2 << 30) - 1  # of a protocol buffer
_DTYPES = {TensorProto.FLOAT: 4, TensorProto.INT64: 8}


def write(weights: Weights, path: Path, *, preprocess: bool = False) -> list[Path]:
    """Writes one file.

    Args:
      weights: of any network.
      path: of the file.
      preprocess: the graph begins with `images: uint8[N, stored, stored, 3]`, RGB, the
        squares that `weights.preprocessing` describes, and takes the centre crop, the
        mean and the scale by itself. Otherwise with `input: f32[N, 3, crop, crop]`,
        less the mean and scaled.

    Returns:
      Its path, in a list.

    Raises:
      ValueError: it would be larger than a protocol buffer can be.
    """
    content = to_proto(weights, preprocess=preprocess)
    if (size := content.ByteSize()) > MOST_BYTES:
        raise ValueError(
            f'{path} would have {size:,} bytes, and an ONNX file has at most 2 GiB; '
            'safetensors has no such limit'
        )
    files.write_atomically(path, content.SerializeToString())
    return [path]


def to_proto(weights: Weights, *, preprocess: bool = False) -> onnx.ModelProto:
    """The model that `write` writes."""
    seen = weights.preprocessing
    nodes, constants = onnx_graph.nodes_of(
        weights.network, seen if preprocess else None
    )
    arrays = torch_layout.to_torch(weights.params, weights.network) | constants
    sides = ['N', seen.stored_size, seen.stored_size, 3] if preprocess else [
        'N', 3, seen.crop_size, seen.crop_size
    ]  # fmt: skip
    value = helper.make_tensor_value_info
    dtype = TensorProto.UINT8 if preprocess else TensorProto.FLOAT
    classes = weights.network.num_classes
    graph = helper.make_graph(
        nodes,
        'AlexNet',
        [value('images' if preprocess else 'input', dtype, sides)],
        [value('logits', TensorProto.FLOAT, ['N', classes])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    content = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid('', OPSET)],
        ir_version=IR,
        producer_name='alexnet_jax',
    )
    colour = colour_of(seen.mean_image)
    mean = seen.mean_image if colour is None else colour
    said = description.of(weights) | {
        'preprocess': preprocess,
        'mean_image': base64.b64encode(mean.astype('<f4').tobytes()).decode(),
    }
    helper.set_model_props(content, {key: json.dumps(v) for key, v in said.items()})
    return content


def read(path: Path, *, mean: str = '') -> Weights:
    """Reads a file that `write` wrote, or a chain of Caffe's layers.

    Args:
      path: of the file.
      mean: for a chain, path of Caffe's .binaryproto; '' takes one colour,
        `caffe.MEAN_COLOUR`.

    Raises:
      ValueError: it is damaged, too large, or of another form.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f'{path} has {size:,} bytes, and an ONNX file at most 2 GiB')
    content = onnx.ModelProto()
    try:
        content.ParseFromString(path.read_bytes())
    except DecodeError:
        raise ValueError(f'{path} is no ONNX file, or is cut short') from None
    if not content.graph.node:
        raise ValueError(f'{path} is no ONNX file: it has no graph')
    arrays = {
        tensor.name: _array(tensor, str(path)) for tensor in content.graph.initializer
    }
    entries = {entry.key: entry.value for entry in content.metadata_props}
    # protobuf gives out bytes where a text is not UTF-8.
    if not all(
        isinstance(text, str) for text in [*arrays, *entries, *entries.values()]
    ):
        raise ValueError(f'{path} is no ONNX file: it has a name that is no text')
    if 'network' in entries:
        if mean:
            raise ValueError(
                f'{path} has its own mean; --mean={mean} would not be read'
            )
        return _read_own(content.graph, arrays, entries, str(path))
    image = caffe.read_mean(Path(mean)) if mean else np.array(caffe.MEAN_COLOUR)
    return onnx_chain.weights_from(content.graph, arrays, image, str(path))


def _array(tensor: TensorProto, what: str) -> np.ndarray:
    """A tensor of the file itself, whose size is what its shape says."""
    name = f'{what}: its tensor {tensor.name[:80]!r}'
    if tensor.data_location == TensorProto.EXTERNAL:
        raise ValueError(f'{name} lies in another file; save it as one file')
    if tensor.data_type not in _DTYPES:
        kind = TensorProto.DataType.Name(tensor.data_type) if (
            tensor.data_type in TensorProto.DataType.values()
        ) else tensor.data_type  # fmt: skip
        raise ValueError(f'{name} is of {kind}, expected FLOAT or INT64')
    itemsize = _DTYPES[tensor.data_type]
    values = tensor.float_data if itemsize == 4 else tensor.int64_data
    held = len(tensor.raw_data) or len(values) * itemsize
    if min(tensor.dims, default=0) < 0 or math.prod(tensor.dims) * itemsize != held:
        raise ValueError(
            f'{name} has {held:,} bytes, which its shape {list(tensor.dims)[:8]} does '
            'not have'
        )
    return numpy_helper.to_array(tensor)


def _read_own(
    graph: onnx.GraphProto,
    arrays: Mapping[str, np.ndarray],
    entries: Mapping[str, str],
    what: str,
) -> Weights:
    stated = {
        key: description.load(value, f'{what}: its entry {key!r}')
        for key, value in entries.items()
    }
    named = {
        name: array
        for name, array in arrays.items()
        if name.endswith(('.weight', '.bias'))
    }
    network = torch_layout.network_of(stated, named, what)
    encoded = stated.pop('mean_image', '')
    try:
        mean = np.frombuffer(base64.b64decode(encoded, validate=True), '<f4')
    except (ValueError, TypeError):
        raise ValueError(f'{what}: its entry mean_image is none') from None
    if mean.size != 3:
        side = math.isqrt(mean.size // 3)
        if side * side * 3 != mean.size:
            raise ValueError(f'{what}: its entry mean_image is no square')
        mean = mean.reshape(side, side, 3)
    weights = description.weights_from(
        stated, torch_layout.from_torch(named, network), mean, what
    )
    # The graph is what a runtime computes, and the metadata what we would: the same.
    seen = weights.preprocessing if stated.get('preprocess') is True else None
    nodes, constants = onnx_graph.nodes_of(network, seen)
    same = list(graph.node) == nodes and all(
        name in arrays and np.array_equal(arrays[name], value)
        for name, value in constants.items()
    )
    if not same:
        raise ValueError(
            f'{what}: its graph is not the one of the network in its metadata: '
            'something changed it after alexnet_jax had written it'
        )
    return weights
