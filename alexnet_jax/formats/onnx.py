"""ONNX: a graph of our own for every network, and the model zoo's bvlcalexnet.

What is written: maps are [N, channel, row, column] with N free, a value of the graph
has the name of its tap (`conv1/lrn`), the output is `logits`. Convolutions keep their
groups; a response norm that keeps the towers apart is one LRN for each between Split
and Concat; windows that hang over the edge are padding, not `ceil_mode`, which
runtimes read in different ways. A locally connected layer becomes slices and a product
for each position. The table and the rest lie in the file's metadata, so that it can be
read back, bit for bit.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from alexnet_jax import layer_steps, model, windows
from alexnet_jax.formats import description, onnx_chain, torch_layout
from alexnet_jax.formats.weights import Weights
from alexnet_jax.system import files

OPSET, IR = 17, 8  # of 2022: what runtimes of the last years read
MOST_BYTES = (2 << 30) - 1  # of a protocol buffer


def write(weights: Weights, path: Path, *, preprocess: bool = False) -> list[Path]:
    """Writes one file.

    Args:
      weights: of any network.
      path: of the file.
      preprocess: the graph begins with `images: uint8[N, stored, stored, 3]`, RGB, the
        squares that `Preprocessing` describes, and takes the centre crop, the mean and
        the scale by itself. Otherwise with `input: f32[N, 3, crop, crop]`, less the
        mean and scaled.

    Raises:
      ValueError: a protocol buffer cannot be as large.
    """
    proto = to_proto(weights, preprocess=preprocess)
    if (size := proto.ByteSize()) > MOST_BYTES:
        raise ValueError(f'{path}: an ONNX file of {size:,} bytes cannot be, 2 GiB is '
                         'the most; safetensors have no limit')  # fmt: skip
    onnx.checker.check_model(proto)
    files.write_atomically(path, proto.SerializeToString())
    return [path]


def read(path: Path) -> Weights:
    """Reads a file that `write` wrote, or one of a chain of Caffe's layers.

    The latter is the model zoo's bvlcalexnet and what has the same operators:
    `onnx_chain` says what it takes for granted.

    Raises:
      ValueError: it is damaged, too large, or of another form.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f'{path} has {size:,} bytes, more than an ONNX file can')
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's DecodeError, which has no public name
        raise ValueError(f'{path} is no ONNX file: {error}') from None
    if not proto.graph.node:
        raise ValueError(f'{path} is no ONNX file: it has no graph')
    arrays = {tensor.name: _array(tensor, path) for tensor in proto.graph.initializer}
    entries = {entry.key: entry.value for entry in proto.metadata_props}
    if 'network' not in entries:
        return onnx_chain.weights_from(proto.graph, arrays, str(path))
    return _read_own(proto, arrays, entries, str(path))
