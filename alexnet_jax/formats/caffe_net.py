"""Caffe's nets as lists of layers: from a file's messages, to and from our table."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_jax import layer_steps, model
from alexnet_jax.formats import caffe_schema, networks
from alexnet_jax.formats.protobuf import Message

Settings = Mapping[str, Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of a net."""

    name: str
    type: str  # as the second generation names it
    settings: Settings
    blobs: tuple[Message, ...]


_ENUMS = ('pool', 'norm_region')


def layers_of(net: Message) -> list[Layer]:
    """The layers of a net that are part of its function, in order.

    Args:
      net: read by `protobuf` or by `prototxt`.

    Raises:
      ValueError: a layer is of a type that AlexNet does not have, or they are no chain.
    """
    found: list[Layer] = []
    previous: list[str] = []  # the names of what the layer before gives
    for message in [*net.get('layers', ()), *net.get('layer', ())]:
        message = _message(message, 'a layer')
        name = str(message.get('name', ['?'])[-1])[:60]
        kind = _type(message.get('type', ['None'])[-1], name)
        reads = message.get('bottom', [None])
        if kind in caffe_schema.BESIDE:
            if kind in ('Flatten', 'Split') and reads[0] in previous:
                previous = message.get('top', [])  # the same numbers
            continue
        if (
            previous
            and reads != [None]
            and (len(reads) > 1 or reads[0] not in previous)
        ):
            before = ' or '.join(map(str, previous))
            raise ValueError(
                f'its layer {name!r} reads {", ".join(map(str, reads))[:60]!r}, not '
                f'{before[:60]!r} before it: it is no chain of layers'
            )
        previous = message.get('top', [])[-1:]
        settings: Settings = {}
        if kind in caffe_schema.SETTINGS:
            key = caffe_schema.SETTINGS[kind][0]
            settings = _message(message.get(key, [{}])[-1], f'{key} of {name!r}')
        found.append(Layer(name, kind, settings, tuple(message.get('blobs', ()))))
    return found


def _message(value: Any, what: str) -> Message:
    """A value that must be a message: a text may say anything."""
    if not isinstance(value, dict):
        raise ValueError(f'{what} is {value!r:.60}, and no list of fields')
    return value


def _type(value: Any, name: str) -> str:
    kind = str(caffe_schema.TYPES.get(value) if isinstance(value, int) else value)
    kind = caffe_schema.BY_NAME.get(kind.lower(), kind)
    known = {*caffe_schema.BESIDE, *caffe_schema.STEPS, *caffe_schema.SETTINGS}
    if kind not in known:
        raise ValueError(
            f'its layer {name!r} is of type {str(value)[:40]!r}, which no network here '
            'has'
        )
    return kind


def table_of(layers: Sequence[Layer]) -> dict[str, Any]:
    """The table of a net in our terms, its layers named conv1 …, as many as there are.

    Raises:
      ValueError: a setting that our layers do not have, or that differs from layer to
        layer where we have one for all.
    """
    base = networks.table_of(networks.config('caffe'))
    rows: list[dict[str, Any]] = []
    shared: dict[str, dict[str, Any]] = {}
    groups = {
        _one(layer, 'group', 1) for layer in layers if layer.type == 'Convolution'
    }
    towers = max(groups, default=1)
    for layer in layers:
        if layer.type in ('Convolution', 'InnerProduct'):
            rows.append(_row(layer, towers, first=not rows))
            continue
        if not rows:
            raise ValueError(f'its layer {layer.name!r} comes before any weights')
        step = 'pool' if layer.type == 'Pooling' else caffe_schema.STEPS[layer.type]
        if layer.type == 'Pooling' and _one(layer, 'pool', 0) in (1, 'AVE'):
            step = 'avg_pool'
        rows[-1]['steps'] += (step,)
        if layer.type == 'Dropout':
            rows[-1]['dropout'] = _float(_one(layer, 'dropout_ratio', 0.5))
        if step == 'lrn':
            rows[-1]['lrn'] = True
        if layer.type in ('Pooling', 'LRN'):
            found = _pool(layer) if layer.type == 'Pooling' else _lrn(layer)
            kind = 'pool' if layer.type == 'Pooling' else 'lrn'
            if shared.setdefault(kind, found) != found:
                raise ValueError(
                    f'its layer {layer.name!r} has other settings than the {kind} '
                    f'before: {found}, {shared[kind]}'
                )
    names = []
    for row in rows:
        names.append(('conv' if row['kind'] == 'conv' else 'fc') + str(len(names) + 1))
    base = {k: v for k, v in base.items() if k not in base['layers'] and k != 'lrn'}
    table = base | {'towers': towers, 'layers': tuple(names)}
    if rows:
        del rows[-1]['features']
    return table | shared | dict(zip(names, rows, strict=True))


def _row(layer: Layer, towers: int, first: bool) -> dict[str, Any]:
    if not _one(layer, 'bias_term', 1):
        raise ValueError(f'its layer {layer.name!r} has no biases')
    row = {
        'features': _one(layer, 'num_output', 0),
        'reads': 'image' if first else 'all',
        'init_std': 0.01,
        'init_bias': 0.0,
        'steps': (),
    }
    if layer.type == 'InnerProduct':
        if _one(layer, 'transpose', 0) or _one(layer, 'axis', 1) != 1:
            raise ValueError(f'its layer {layer.name!r} sets transpose or axis')
        return {'kind': 'dense'} | row
    if _one(layer, 'dilation', 1) != 1:
        raise ValueError(f'its layer {layer.name!r} is dilated')
    group = _one(layer, 'group', 1)
    if not first and group == towers > 1:
        row['reads'] = 'own'
    elif group != 1:
        raise ValueError(f'its layer {layer.name!r} has {group} groups')
    pad = _square(layer, 'pad', 0)
    return {
        'kind': 'conv',
        **row,
        'kernel': _square(layer, 'kernel_size', 0),
        'stride': _square(layer, 'stride', 1),
        'padding': ((pad, pad), (pad, pad)),
    }


def _pool(layer: Layer) -> dict[str, Any]:
    if _square(layer, 'pad', 0) or _one(layer, 'global_pooling', 0):
        raise ValueError(f'its layer {layer.name!r} pads, or pools over everything')
    size, stride = _square(layer, 'kernel_size', 0), _square(layer, 'stride', 1)
    return {'size': size, 'stride': stride, 'ties': 'first'}


def _lrn(layer: Layer) -> dict[str, Any]:
    if _one(layer, 'norm_region', 0) not in (0, 'ACROSS_CHANNELS'):
        raise ValueError(f'its layer {layer.name!r} does not norm across channels')
    size = _one(layer, 'local_size', 5)
    if size < 1:
        raise ValueError(f'its layer {layer.name!r} has local_size: {size}')
    alpha = _float(_one(layer, 'alpha', 1.0))
    return {
        'size': size,
        'k': _float(_one(layer, 'k', 1.0)),
        'alpha': alpha / size,  # lrn_layer.cpp divides by local_size
        'beta': _float(_one(layer, 'beta', 0.75)),
        'across_towers': True,
    }


def _one(layer: Layer, key: str, default: Any) -> Any:
    value = layer.settings.get(key, [default])[-1]
    kinds = [type(default)]
    kinds += [int] if isinstance(default, float) else []
    kinds += [str] if key in _ENUMS else []  # a text has an enum's name
    if type(value) not in kinds:
        raise ValueError(f'its layer {layer.name!r} has {key}: {value!r:.60}')
    if isinstance(value, int) and not 0 <= value < 1_000_000:
        raise ValueError(f'its layer {layer.name!r} has {key}: {value}')
    return value


def _square(layer: Layer, key: str, default: int) -> int:
    stem = key.removesuffix('_size')
    given = layer.settings.get(key, ())
    if not all(isinstance(side, int) for side in given):
        raise ValueError(f'its layer {layer.name!r} has {key}: {given!r:.60}')
    sides = {
        _one(layer, f'{stem}_{side}', -1)
        if f'{stem}_{side}' in layer.settings
        else _one(layer, key, default)
        for side in 'hw'
    } | set(given)
    if len(sides) != 1 or (key == 'kernel_size' and sides == {0}):
        raise ValueError(f'its layer {layer.name!r} has no {key}, or no square one')
    return sides.pop()


def _float(value: float) -> float:
    """The decimal that was meant: a file holds 1e-4 as the nearest float32."""
    return float(str(np.float32(value)))


def to_layers(network: model.Network) -> list[tuple[str, str, Settings]]:
    """(name, type, settings) of every layer of a deployed net.

    Raises:
      ValueError: the network has what Caffe's layers do not.
    """
    made: list[tuple[str, str, Settings]] = []
    for layer in network.layers:
        last = layer is network.layers[-1]
        groups = 1 if last else layer.groups(network.towers)
        if layer.kind == 'conv':
            pad = _one_padding(layer)
            settings = {'num_output': [layer.features], 'kernel_size': [layer.kernel]}
            settings |= {'pad': [pad]} if pad else {}
            settings |= {'stride': [layer.stride]} if layer.stride > 1 else {}
            settings |= {'group': [groups]} if groups > 1 else {}
            made.append((layer.name, 'Convolution', settings))
        elif layer.kind in ('dense', 'logits') and groups == 1:
            made.append((layer.name, 'InnerProduct', {'num_output': [layer.features]}))
        else:
            raise ValueError(
                f'Caffe has no layer like {layer.name}, '
                + ('a dense layer of each tower' if groups > 1 else 'locally connected')
            )
        made += [_step(layer, step, network.towers) for step in layer.steps]
    return made


def _one_padding(layer: model.Layer) -> int:
    sides = {pixels for pair in layer.padding for pixels in pair}
    if len(sides) != 1:
        raise ValueError(
            f'Caffe pads all sides alike, and {layer.name} has {layer.padding}'
        )
    return sides.pop()


def _step(
    layer: model.Layer, step: layer_steps.Step, towers: int
) -> tuple[str, str, Settings]:
    digits = layer.name.lstrip('convf')
    match step:
        case layer_steps.Activation('relu'):
            return f'relu{digits}', 'ReLU', {}
        case layer_steps.Dropout(rate, 'train'):
            return f'drop{digits}', 'Dropout', {'dropout_ratio': [rate]}
        case layer_steps.MaxPool(size, stride):
            settings = {'pool': ['MAX'], 'kernel_size': [size], 'stride': [stride]}
            return f'pool{digits}', 'Pooling', settings
        case layer_steps.LocalResponseNorm(size, k, alpha, beta, across) if (
            across or towers == 1
        ):
            settings = {'local_size': [size], 'alpha': [_float(alpha * size)]}
            settings |= {'beta': [beta], 'k': [k]}
            return f'norm{digits}', 'LRN', settings
    raise ValueError(f'Caffe has no layer like {layer.name}’s step {step}')
