"""Reads an ONNX graph that is one chain of Caffe's layers, such as bvlcalexnet.

The model zoo's file went from Caffe by way of Caffe2 and takes 224 × 224 pixels in
blue, green and red: conv1 makes 54 × 54 of them without margins, and its first two
pools leave their input's last row and column out, where ours would have one window
more. Here the convolution before such a pool does not make what no window covers: it
has a smaller margin, of conv1 a negative one.

The file says neither how a photograph becomes its input nor what the classes are.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper

from alexnet_jax import model
from alexnet_jax.formats import description, layouts, networks, torch_layout
from alexnet_jax.formats.weights import Preprocessing, Weights, one_colour

STORED = 256  # Caffe's squares, of which the crop is the centre
_ALLOWED = 'Conv, Relu, LRN, MaxPool, Reshape or Flatten, Gemm, Dropout, Softmax'
_MOST_NODES = 200
Json = dict[str, Any]


def weights_from(
    graph: onnx.GraphProto,
    arrays: Mapping[str, np.ndarray],
    mean: np.ndarray,
    what: str,
) -> Weights:
    """The network that a graph is.

    Args:
      graph: with one input, f32[N, 3, S, S], which each node hands on to the next.
      arrays: its initialisers.
      mean: f32[S, S, 3], RGB, for squares of S pixels; or f32[3], one colour.
      what: names the file in messages.

    Raises:
      ValueError: it has another node, or one with settings that no layer here has.
    """
    try:
        return _weights_from(graph, arrays, mean, what)
    except _OtherGraphError as error:
        raise ValueError(f'{what}: {error}') from None
    except (TypeError, LookupError, ArithmeticError) as error:
        kind = type(error).__name__
        raise ValueError(
            f'{what}: a node has settings that are none ({kind})'
        ) from None


class _OtherGraphError(ValueError):
    pass


def _weights_from(
    graph: onnx.GraphProto,
    arrays: Mapping[str, np.ndarray],
    mean: np.ndarray,
    what: str,
) -> Weights:
    nodes, size = _chain(graph, arrays)
    table = networks.table_of(networks.config('caffe'))
    shipped = {name: table.pop(name) for name in table['layers']}
    rows = _rows(nodes, arrays, size)
    towers = max(row['groups'] for row in rows)
    settings = {key: _only(rows, key) for key in ('lrn', 'pool')}
    if settings['lrn']:
        settings['lrn']['across_towers'] = True  # one LRN over all channels
    for key, value in settings.items():
        table[key] = (value and {**table[key], **value}) or table[key]
    table |= {'towers': towers, 'layers': tuple(row['name'] for row in rows)}
    state = {}
    for i, row in enumerate(rows):
        name, steps = row['name'], tuple(row['steps'])
        if row['bias'].shape != (row['features'],):
            raise _OtherGraphError(f'{name} has a bias {row["bias"].shape}')
        if row['groups'] not in (1, towers) or (i == 0 and row['groups'] > 1):
            raise _OtherGraphError(f'{name} has {row["groups"]} groups')
        start = shipped.get(name, {'init_std': 0.01, 'init_bias': 0.0})
        table[name] = {
            'kind': row['kind'],
            'reads': 'image' if not i else 'own' if row['groups'] > 1 else 'all',
            'init_std': start['init_std'],
            'init_bias': start['init_bias'],
            'steps': steps,
        }
        if row['kind'] == 'conv':
            table[name] |= {k: row[k] for k in ('kernel', 'stride', 'padding')}
        if i < len(rows) - 1:
            table[name]['features'] = row['features']
        table[name] |= {'lrn': True} if 'lrn' in steps else {}
        table[name] |= {'dropout': row['dropout']} if 'dropout' in steps else {}
        state |= {f'{name}.weight': row['weight'], f'{name}.bias': row['bias']}
    if not any('lrn' in row['steps'] for row in rows):
        del table['lrn']
    classes = rows[-1]['features']
    table['num_classes'] = classes
    table = description.checked_table(table, what)
    network = model.network_from_config(table, size, classes)
    _check_flat(nodes, arrays, network)
    params = dict(torch_layout.from_torch(state, network))
    first = rows[0]['name']
    kernel = layouts.swap_red_and_blue(params[first]['kernel'])
    params[first] = {**params[first], 'kernel': kernel}
    colour = mean.shape == (3,)
    stored = max(STORED, size) if colour else len(mean)
    seen = Preprocessing(
        stored_size=stored,
        fit='warp',
        crop_size=size,
        mean='colour' if colour else 'crop',
        mean_image=one_colour(mean, stored) if colour else mean,
        scale=(1.0, 1.0, 1.0),
    )
    return Weights(table, params, (), seen, what)


def _chain(
    graph: onnx.GraphProto, arrays: Mapping[str, np.ndarray]
) -> tuple[list[NodeProto], int]:
    """The nodes from the input to the output, and the side of the images."""
    inputs = [value for value in graph.input if value.name not in arrays]
    if len(inputs) != 1 or len(graph.node) > _MOST_NODES:
        raise _OtherGraphError(
            f'its graph has {len(inputs)} inputs and {len(graph.node)} nodes; expected '
            'one chain of layers'
        )
    sides = [side.dim_value for side in inputs[0].type.tensor_type.shape.dim]
    if len(sides) != 4 or sides[1] != 3 or sides[2] != sides[3]:
        raise _OtherGraphError(f'its input is {sides}; expected [N, 3, S, S]')
    if not 0 < sides[2] <= description.MOST_PIXELS:
        raise _OtherGraphError(f'its input has {sides[2]} rows')
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    nodes, value = [], inputs[0].name
    while found := readers.get(value):
        if len(found) > 1 or found[0].input[0] != value or len(nodes) > _MOST_NODES:
            raise _OtherGraphError(f'{value[:80]!r} is not read by one node alone')
        nodes.append(found[0])
        value = found[0].output[0]
    if len(nodes) != len(graph.node):
        raise _OtherGraphError('its graph is not one chain of layers')
    return nodes, sides[2]


def _rows(
    nodes: list[NodeProto], arrays: Mapping[str, np.ndarray], size: int
) -> list[Json]:
    """One for each weighted sum, with the steps after it."""
    rows: list[Json] = []
    extent = size
    for node in nodes:
        operator, settings = node.op_type, _settings(node)
        if operator == 'Conv':
            rows.append(_conv(node, settings, arrays, len(rows) + 1))
            extent = _conv_extent(rows[-1], extent)
        elif operator == 'Gemm':
            rows.append(_gemm(node, settings, arrays, len(rows) + 1))
        elif not rows:
            raise _OtherGraphError(f'it begins with {operator}')
        elif operator == 'MaxPool':
            extent = _pool(node, settings, rows[-1], extent)
        elif operator == 'Relu':
            rows[-1]['steps'].append('activation')
        elif operator == 'LRN':
            rows[-1]['steps'].append('lrn')
            count = settings.get('size', 0)
            rows[-1]['lrn'] = {
                'size': count,
                'k': _decimal(settings.get('bias', 1.0)),
                'alpha': _decimal(settings.get('alpha', 1e-4)) / max(count, 1),
                'beta': _decimal(settings.get('beta', 0.75)),
            }
        elif operator == 'Dropout':
            rate = settings.get('ratio', 0.5)  # its second input in later versions
            if len(node.input) > 1 and node.input[1] in arrays:
                rate = float(arrays[node.input[1]])
            rows[-1]['steps'].append('dropout')
            rows[-1]['dropout'] = _decimal(rate)
        elif operator in ('Reshape', 'Flatten'):
            if rows[-1]['kind'] != 'conv' or settings.get('axis', 1) != 1:
                raise _OtherGraphError(f'{operator} where no maps are flattened')
        elif operator != 'Softmax' or node != nodes[-1]:
            raise _OtherGraphError(
                f'it has the operator {operator[:40]}; read are {_ALLOWED}'
            )
    if not rows or rows[-1]['kind'] != 'dense' or rows[-1]['steps']:
        raise _OtherGraphError('it does not end with a Gemm, or a Softmax of one')
    return rows


def _parameters(
    node: NodeProto, arrays: Mapping[str, np.ndarray], sides: int
) -> tuple[np.ndarray, np.ndarray]:
    missing = [name for name in node.input[1:] if name not in arrays]
    if len(node.input) != 3 or missing:
        raise _OtherGraphError(f'a {node.op_type} has no weights or no bias of its own')
    weight, bias = (arrays[name] for name in node.input[1:])
    if weight.ndim != sides or bias.ndim != 1 or bias.dtype.kind != 'f':
        raise _OtherGraphError(
            f'a {node.op_type} has weights {weight.shape} and a bias {bias.shape}'
        )
    return weight, bias


def _conv(
    node: NodeProto, settings: Json, arrays: Mapping[str, np.ndarray], number: int
) -> Json:
    weight, bias = _parameters(node, arrays, 4)
    top, left, bottom, right = settings.get('pads', [0, 0, 0, 0])
    down, across = settings.get('strides', [1, 1])
    if (
        weight.shape[2] != weight.shape[3]
        or down != across
        or set(settings.get('dilations', [1])) != {1}
        or settings.get('auto_pad', b'NOTSET') != b'NOTSET'
    ):
        raise _OtherGraphError('a Conv is not square, is dilated or says auto_pad')
    return {
        'name': f'conv{number}', 'kind': 'conv', 'steps': [], 'weight': weight,
        'bias': bias, 'features': len(weight), 'groups': settings.get('group', 1),
        'kernel': weight.shape[2], 'stride': down,
        'padding': ((top, bottom), (left, right)),
    }  # fmt: skip


def _conv_extent(row: Json, extent: int) -> int:
    """Rows of its output; as many columns, because images are square."""
    (top, bottom), columns = row['padding']
    if (top, bottom) != tuple(columns):
        raise _OtherGraphError(f'{row["name"]} pads rows and columns differently')
    row['input'] = extent
    return (extent + top + bottom - row['kernel']) // row['stride'] + 1


def _gemm(
    node: NodeProto, settings: Json, arrays: Mapping[str, np.ndarray], number: int
) -> Json:
    weight, bias = _parameters(node, arrays, 2)
    if settings.get('transA') or (
        settings.get('alpha', 1.0), settings.get('beta', 1.0)
    ) != (1.0, 1.0):  # fmt: skip
        raise _OtherGraphError('a Gemm turns its input or scales')
    if not settings.get('transB'):
        weight = weight.T
    return {
        'name': f'fc{number}', 'kind': 'dense', 'steps': [], 'weight': weight,
        'bias': bias, 'features': len(weight), 'groups': 1,
    }  # fmt: skip


def _pool(node: NodeProto, settings: Json, row: Json, extent: int) -> int:
    """Adds a pool; what its windows leave out, the convolution before it does too."""
    size, *others = settings.get('kernel_shape', [0])
    stride, *strides = settings.get('strides', [1])
    top, left, bottom, right = settings.get('pads', [0, 0, 0, 0])
    if (
        row['kind'] != 'conv'
        or [size, stride] != [*others, *strides]
        or (top, left, bottom) != (0, 0, right)
        or not 0 < stride <= size
        or len(node.output) > 1
        or set(settings.get('dilations', [1])) != {1}
        or settings.get('auto_pad', b'NOTSET') != b'NOTSET'
    ):
        raise _OtherGraphError('a MaxPool is not square, or pads above or to the left')
    beyond = extent + bottom - size
    windows = -(-beyond // stride) if settings.get('ceil_mode') else beyond // stride
    windows += 1
    ours = 1 + math.ceil((extent - size) / stride)
    if not 0 < windows <= ours:
        raise _OtherGraphError(f'a MaxPool has {windows} windows in {extent} rows')
    if windows < ours:
        if 'pool' in row['steps']:
            raise _OtherGraphError('a second MaxPool leaves rows out')
        (top, _), _ = row['padding']
        covered = (windows - 1) * stride + size
        bottom = (covered - 1) * row['stride'] + row['kernel'] - row['input'] - top
        row['padding'] = ((top, bottom), (top, bottom))
    row['steps'].append('pool')
    row['pool'] = {'size': size, 'stride': stride}
    return windows


def _check_flat(
    nodes: list[NodeProto], arrays: Mapping[str, np.ndarray], network: model.Network
) -> None:
    """A Reshape must flatten the maps, whatever the number of images."""
    _, maps = layouts.flattened_maps(network)
    for node in nodes:
        if node.op_type == 'Reshape':
            shape = arrays.get(node.input[-1], np.zeros(0)).tolist()
            if len(shape) != 2 or shape[1] not in (-1, math.prod(maps)):
                raise _OtherGraphError(f'a Reshape to {shape[:8]} of maps {maps}')


def _only(rows: list[Json], key: str) -> Json | None:
    """The settings that all rows with this step share."""
    found = [row[key] for row in rows if key in row]
    if any(other != found[0] for other in found):
        raise _OtherGraphError(f'its {key}s differ from each other')
    return found[0] if found else None


def _decimal(value: float) -> float:
    """The decimal that was rounded to a float32: 1e-4, not 0.0000999999974737875."""
    return float(np.format_float_positional(np.float32(value), unique=True))


def _settings(node: NodeProto) -> Json:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
