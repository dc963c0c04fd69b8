"""A whole parameter tree as PyTorch and ONNX hold it, and back, bit for bit.

`conv1/kernel`, f32[rows, columns, in, out], is their `conv1.weight`, f32[out, in, rows,
columns]; a dense layer's is f32[out, in], and one that flattens maps reads them in the
order (channel, row, column). cuda-convnet's locally connected layers, of which neither
has any, are f32[H, W, out, in, rows, columns] with a bias f32[out, H, W].
"""

from collections.abc import Mapping

import numpy as np

from alexnet_jax import model
from alexnet_jax.formats import layouts
from alexnet_jax.formats.weights import Params, Shape

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
