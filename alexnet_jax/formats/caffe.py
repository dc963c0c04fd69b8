"""Caffe: a .caffemodel with its mean as .binaryproto and its net as .prototxt.

Caffe reads images as BGR and holds kernels as (outputs, inputs, rows, columns); fc6
reads its maps as (channel, row, column). What was trained on such images is the same
function of RGB once conv1's input channels are reversed.
"""

import math
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax import model
from alexnet_jax.formats import caffe_net, caffe_schema, layouts, networks, protobuf
from alexnet_jax.formats import prototxt as prototxt_text
from alexnet_jax.formats.weights import Shape, Weights, check_shapes, one_colour
from alexnet_jax.system import files

# The mean of ILSVRC-2012's mean image over its pixels, as Caffe's examples have it.
MEAN_COLOUR = (122.67891434, 116.66876762, 104.00698793)

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]  # kernel and bias as Caffe has them


def read(
    path: Path, *, network: str = '', mean: str = '', prototxt: str = ''
) -> Weights:
    """Reads a .caffemodel of either generation.

    Args:
      path: of the .caffemodel.
      network: the shipped network it is, where neither it nor `prototxt` says.
      mean: path of a .binaryproto with the mean image; '' takes one colour,
        `MEAN_COLOUR`.
      prototxt: path of the net's definition; '' takes the settings in the file.

    Raises:
      UnknownNetworkError: no shipped network has these shapes.
      ValueError: a file is damaged, or the net computes what none here does.
    """
    found = layers(path)
    held = {layer.name: layer for layer in found if layer.blobs}
    if not held:
        raise ValueError(f'{path} holds no weights')
    arrays = {name: _arrays(layer, path) for name, layer in held.items()}
    if network:
        table, order = networks.table_of(networks.config(network)), list(held)
    else:
        described = _described(Path(prototxt)) if prototxt else found
        order = [x.name for x in described if x.type in ('Convolution', 'InnerProduct')]
        if missing := [name for name in order if name not in held]:
            raise ValueError(f'{path} has no weights for {", ".join(missing[:5])}')
        table = _named(caffe_net.table_of, described, path)
    arrays = {name: arrays[name] for name in order}
    if not network:
        network = networks.shipped_as(table, _shapes(order, arrays), str(path))
        table = networks.with_widths_of(network, table)
    colour = np.array(MEAN_COLOUR, np.float32)
    seen = networks.preprocessing(network, read_mean(Path(mean)) if mean else colour)
    params = _params(table, seen.crop_size, list(arrays.values()), path)
    source = f'Caffe, {path.name}' + ('' if mean else ', the mean one colour')
    return Weights(table, params, (), seen, source)


def write(weights: Weights, path: Path) -> list[Path]:
    """Writes NAME.caffemodel, and beside it NAME.prototxt and NAME.binaryproto.

    Returns:
      The three paths.

    Raises:
      ValueError: Caffe has no such layers; nothing is written.
    """
    network = weights.network
    layers = caffe_net.to_layers(network)
    flattens, maps = layouts.flattened_maps(network)
    messages = []
    for name, kind, settings in layers:
        message: list[tuple[int, Any]] = [(1, name), (2, kind)]
        if name in weights.params:
            kernel = weights.params[name]['kernel']
            if name == network.layers[0].name:
                kernel = layouts.swap_red_and_blue(kernel)
            if name == flattens:
                kernel = layouts.rows_to_channels_first(kernel, maps, network.towers)
            if kernel.ndim == 4:
                kernel = layouts.to_channels_first(kernel)
            else:
                kernel = np.ascontiguousarray(kernel.T)
            message += [(7, _blob(kernel)), (7, _blob(weights.params[name]['bias']))]
        if settings:
            _, schema, _, number = caffe_schema.SETTINGS[kind]
            numbers = {field.name: n for n, field in schema.items()}
            message.append(
                (
                    number,
                    [
                        (numbers[key], 0 if value == 'MAX' else value)
                        for key, values in settings.items()
                        for value in values
                    ],
                )
            )
        messages.append((100, message))
    seen = weights.preprocessing
    image = seen.mean_image
    if seen.mean == 'colour':  # Caffe takes what the file has, pixel by pixel
        image = one_colour(seen.centre_mean[0, 0], seen.stored_size)
    mean = image[..., ::-1].transpose(2, 0, 1)
    content = {
        path: protobuf.write([(1, 'AlexNet'), *messages]),
        path.with_suffix('.prototxt'): _prototxt(network, layers),
        # The dimensions of a mean are of the first kind in every Caffe.
        path.with_suffix('.binaryproto'): protobuf.write(
            [*zip((1, 2, 3, 4), (1, *mean.shape), strict=True), (5, mean)]
        ),
    }
    for file, what in content.items():
        files.write_atomically(file, what)
    return list(content)


def read_mean(path: Path) -> np.ndarray:
    """A mean image, f32[S, S, 3], RGB, from a .binaryproto.

    Raises:
      ValueError: it is damaged or no square of three channels.
    """
    image = _array(_read(path, caffe_schema.BLOB), str(path))
    if image.ndim == 4 and len(image) == 1:
        image = image[0]
    if image.ndim != 3 or len(image) != 3 or image.shape[1] != image.shape[2]:
        raise ValueError(
            f'{path} is {"×".join(map(str, image.shape))}, expected a mean image of '
            '3×S×S'
        )
    return np.ascontiguousarray(image.transpose(1, 2, 0)[..., ::-1])


def layers(path: Path) -> list[caffe_net.Layer]:
    """The layers of a .caffemodel or of a .prototxt."""
    if path.suffix == '.prototxt':
        return _described(path)
    return _named(caffe_net.layers_of, _read(path, caffe_schema.NET), path)


def _described(path: Path) -> list[caffe_net.Layer]:
    """The layers of a definition, whatever its suffix."""
    if not path.is_file():
        raise ValueError(f'{path}: there is no such file')
    with path.open('rb') as file:
        content = file.read(prototxt_text.MOST_BYTES + 1)
    message = _named(prototxt_text.read, content.decode('utf-8', 'replace'), path)
    return _named(caffe_net.layers_of, message, path)


def _read(path: Path, schema: protobuf.Schema) -> protobuf.Message:
    if not path.is_file():
        raise ValueError(f'{path}: there is no such file')
    if not path.stat().st_size:
        raise ValueError(f'{path} is empty')
    with path.open('rb') as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return _named(lambda view: protobuf.read(view, schema), memoryview(content), path)


def _named(function: Any, argument: Any, path: Path) -> Any:
    """Calls, and names the file in what is wrong."""
    try:
        return function(argument)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from None


def _arrays(layer: caffe_net.Layer, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A layer's kernel, [out, in, rows, columns] or [out, in], and its bias."""
    if len(layer.blobs) != 2:
        raise ValueError(
            f'{path}: its layer {layer.name!r} has {len(layer.blobs)} blobs, expected '
            'a kernel and a bias'
        )
    what = f'{path}: its layer {layer.name!r}'
    kernel, bias = (_array(blob, what) for blob in layer.blobs)
    if layer.type == 'InnerProduct' and kernel.ndim == 4 and kernel.shape[:2] == (1, 1):
        kernel = kernel[0, 0]
    if kernel.ndim != (4 if layer.type == 'Convolution' else 2) or not kernel.size:
        raise ValueError(f'{what} has a kernel of {kernel.shape}')
    return kernel, bias.reshape(-1)


def _array(blob: protobuf.Message, what: str) -> np.ndarray:
    """A blob as float32, a view of the file where that holds float32."""
    if 'shape' in blob:
        shape = blob['shape'][-1].get('dim', [])
    else:
        keys = ('num', 'channels', 'height', 'width')
        shape = [blob.get(key, [0])[-1] for key in keys]
    data = [*blob.get('data', ()), *blob.get('double_data', ())]
    count = sum(map(len, data))
    if min(shape, default=0) < 0 or len(shape) > 32 or math.prod(shape) != count:
        raise ValueError(
            f'{what} claims {"×".join(map(str, shape[:32])) or "no"} values and has '
            f'{count:,}'
        )
    if len(data) != 1:
        raise ValueError(f'{what} has values in {len(data)} pieces')
    return data[0].astype('<f4', copy=False).reshape(shape)


def _shapes(order: Sequence[str], arrays: Arrays) -> dict[str, Shape]:
    """Shapes in our layout and by our names, where there are as many as in AlexNet."""
    names = [f'conv{i}' if arrays[n][0].ndim == 4 else f'fc{i}'
             for i, n in enumerate(order, 1)]  # fmt: skip
    found: dict[str, Shape] = {}
    for name, layer in zip(names, order, strict=True):
        kernel, bias = arrays[layer]
        out, inputs, *extents = kernel.shape
        found[f'{name}/kernel'] = (*extents, inputs, out)
        found[f'{name}/bias'] = bias.shape
    return found


def _params(
    table: Mapping[str, Any],
    crop_size: int,
    arrays: Sequence[tuple[np.ndarray, np.ndarray]],
    path: Path,
) -> dict[str, dict[str, np.ndarray]]:
    """The arrays in our layout, by the names of a table."""
    by_number = {str(i): pair for i, pair in enumerate(arrays)}
    found = _shapes(list(by_number), by_number)
    last = found[list(found)[-1]][0]
    network = model.network_from_config(table, crop_size, last)
    check_shapes(found, network, str(path))
    flattens, maps = layouts.flattened_maps(network)
    params = {}
    for layer, (kernel, bias) in zip(network.layers, arrays, strict=True):
        if kernel.ndim == 4:
            kernel = layouts.from_channels_first(kernel)
        else:
            kernel = np.ascontiguousarray(kernel.T)
        if layer is network.layers[0]:
            kernel = layouts.swap_red_and_blue(kernel)
        if layer.name == flattens:
            kernel = layouts.rows_from_channels_first(kernel, maps, network.towers)
        params[layer.name] = {'kernel': kernel, 'bias': np.array(bias)}
    return params


def _blob(value: np.ndarray) -> list[tuple[int, Any]]:
    return [(7, [(1, list(value.shape))]), (5, value)]


def _prototxt(
    network: model.Network, layers: Sequence[tuple[str, str, caffe_net.Settings]]
) -> str:
    """The net for deployment: input `data`, output `prob`."""
    size = network.image_size
    lines = [
        'name: "AlexNet"',
        'input: "data"',
        f'input_shape {{ dim: 1 dim: 3 dim: {size} dim: {size} }}',
    ]
    top = 'data'
    for name, kind, settings in [*layers, ('prob', 'Softmax', {})]:
        # In place, as Caffe does it, what changes no shape and is not a norm.
        own = top if kind in ('ReLU', 'Dropout') else name
        lines += [
            'layer {',
            f'  name: "{name}" type: "{kind}" bottom: "{top}" top: "{own}"',
        ]
        if settings:
            field = caffe_schema.SETTINGS[kind][0]
            pairs = ' '.join(
                f'{key}: {value}'
                for key, values in settings.items()
                for value in values
            )
            lines.append(f'  {field} {{ {pairs} }}')
        lines.append('}')
        top = own
    return '\n'.join(lines) + '\n'
