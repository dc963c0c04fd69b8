"""A whole parameter tree as PyTorch and ONNX hold it, and back, bit for bit.

`conv1/kernel`, f32[rows, columns, in, out], is their `conv1.weight`, f32[out, in, rows,
columns]; a dense layer's is f32[out, in], and one that flattens maps reads them in the
order (channel, row, column). cuda-convnet's locally connected layers, of which neither
has any, are f32[H, W, out, in, rows, columns] with a bias f32[out, H, W].
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from alexnet_jax import model
from alexnet_jax.formats import description, layouts
from alexnet_jax.formats.weights import Params, Shape, check_shapes

# Our axes in their order, by the number of axes. A bias is a vector, or of maps.
_AXES = {1: (0,), 2: (1, 0), 3: (2, 0, 1), 4: (3, 2, 0, 1), 6: (0, 1, 5, 4, 2, 3)}
_KINDS = {'weight': 'kernel', 'bias': 'bias'}


def to_torch(params: Params, network: model.Network) -> dict[str, np.ndarray]:
    """By `conv1.weight`, `conv1.bias`, …, in the order of the layers."""
    flattening, maps = layouts.flattened_maps(network)
    found = {}
    for layer in network.layers:
        for theirs, ours in _KINDS.items():
            array = np.asarray(params[layer.name][ours])
            if (layer.name, ours) == (flattening, 'kernel'):
                array = layouts.rows_to_channels_first(array, maps, network.towers)
            array = array.transpose(_AXES[array.ndim])
            found[f'{layer.name}.{theirs}'] = np.ascontiguousarray(array)
    return found


def from_torch(arrays: Mapping[str, np.ndarray], network: model.Network) -> Params:
    """The inverse; the arrays are of the network's shapes, and become float32."""
    flattening, maps = layouts.flattened_maps(network)
    params: dict[str, dict[str, np.ndarray]] = {}
    for layer in network.layers:
        for theirs, ours in _KINDS.items():
            array = np.asarray(arrays[f'{layer.name}.{theirs}'])
            array = array.transpose(np.argsort(_AXES[array.ndim]))
            array = np.ascontiguousarray(array, np.float32)
            if (layer.name, ours) == (flattening, 'kernel'):
                array = layouts.rows_from_channels_first(array, maps, network.towers)
            params.setdefault(layer.name, {})[ours] = array
    return params


def our_shapes(arrays: Mapping[str, np.ndarray]) -> dict[str, Shape]:
    """`conv1/kernel` and its shape here, of arrays that are named `conv1.weight`.

    Nothing is copied: it says what a file holds before its values are looked at.
    """
    shapes = {}
    for name, array in arrays.items():
        layer, _, kind = name.rpartition('.')
        axes = _AXES.get(array.ndim, range(array.ndim))
        shape = tuple(array.shape[i] for i in np.argsort(axes))
        shapes[f'{layer}/{_KINDS.get(kind, kind)}'] = shape
    return shapes


def network_of(
    stated: Mapping[str, Any], arrays: Mapping[str, np.ndarray], what: str
) -> model.Network:
    """The network that a file's metadata states, and whose shapes its arrays have.

    Args:
      stated: the entries that `description.of` makes, unchecked.
      arrays: by `conv1.weight`, … .
      what: names the file in messages.

    Raises:
      UnknownNetworkError: the arrays are those of another network.
      ValueError: nothing is stated, or no network.
    """
    table, seen = stated.get('network'), stated.get('preprocessing')
    if not isinstance(table, dict) or not isinstance(seen, dict):
        raise ValueError(f'{what}: its metadata lacks the network or the preprocessing')
    shapes = our_shapes(arrays)
    table, crop = description.checked_table(table, what), seen.get('crop_size')
    classes = shapes.get(f'{table["layers"][-1]}/bias', ())
    if type(crop) is not int or not 0 < crop <= description.MOST_PIXELS:
        raise ValueError(f'{what}: its crop_size is {str(crop)[:40]!r}')
    if len(classes) != 1:
        raise ValueError(f'{what}: it has no bias of {table["layers"][-1]}')
    try:
        network = model.network_from_config(table, crop, classes[0])
    except ValueError as error:
        raise ValueError(f'{what}: {error}') from None
    check_shapes(shapes, network, what)
    return network
