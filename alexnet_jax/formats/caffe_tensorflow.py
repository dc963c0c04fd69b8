"""caffe-tensorflow's .npy of Caffe's nets, such as bvlc_alexnet.npy.

A pickled dict: layer → [weights, biases], or → {'weights': …, 'biases': …}. Kernels are
(rows, columns, inputs, outputs) as ours and fc6 reads (row, column, channel), but the
images are still Caffe's BGR. It holds no mean, no class names and no settings.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax import model
from alexnet_jax.formats import layouts, networks, numpy_pickles
from alexnet_jax.formats.caffe import MEAN_COLOUR, read_mean
from alexnet_jax.formats.weights import Weights, check_shapes
from alexnet_jax.system import files


def read(path: Path, *, network: str = 'caffe', mean: str = '') -> Weights:
    """Reads the dict.

    Args:
      path: of the .npy.
      network: 'caffe' or 'caffenet', which have the same shapes; the file does not say.
      mean: path of Caffe's .binaryproto; '' takes one colour, `caffe.MEAN_COLOUR`.

    Raises:
      UnknownNetworkError: its shapes are not the network's.
      ValueError: it is damaged, or a program.
    """
    content = numpy_pickles.read_npy(path)
    table = networks.table_of(networks.config(network))
    if not isinstance(content, dict) or not content:
        raise ValueError(f'{path} is no dict of layers')
    pairs = {name: _pair(value, name, path) for name, value in content.items()}
    found = {
        f'{name}/{key}': value.shape
        for name, pair in pairs.items()
        for key, value in zip(('kernel', 'bias'), pair, strict=True)
    }
    if set(pairs) != set(table['layers']):
        raise networks.refuse(found, str(path), ('caffe', 'caffenet'))
    for name in table['layers'][:-1]:
        table[name] = table[name] | {'features': len(pairs[name][1])}
    colour = np.array(MEAN_COLOUR, np.float32)
    seen = networks.preprocessing(network, read_mean(Path(mean)) if mean else colour)
    last = table['layers'][-1]
    built = model.network_from_config(table, seen.crop_size, len(pairs[last][1]))
    check_shapes({name: found[name] for name in _order(table)}, built, str(path))
    flattens, maps = layouts.flattened_maps(built)
    params = {}
    for name in table['layers']:
        kernel, bias = pairs[name]
        if name == table['layers'][0]:
            kernel = layouts.swap_red_and_blue(kernel)
        if name == flattens:
            kernel = layouts.rows_from_maps(kernel.reshape(*maps, -1), built.towers)
        params[name] = {'kernel': np.ascontiguousarray(kernel), 'bias': bias}
    source = f'caffe-tensorflow, {path.name}' + (
        '' if mean else ', the mean one colour'
    )
    return Weights(table, params, (), seen, source)


def write(weights: Weights, path: Path) -> list[Path]:
    """Writes the dict, a dict of each layer's `weights` and `biases` in it.

    Args:
      weights: of Caffe's nets, in any width. Their mean and classes are not in it.
      path: of the .npy.

    Returns:
      Its path, in a list.

    Raises:
      ValueError: of another network, which the file could not tell.
    """
    networks.check_caffes(weights, 'caffe_tensorflow')
    network, layers = weights.network, {}
    flattens, maps = layouts.flattened_maps(network)
    for layer in network.layers:
        kernel = weights.params[layer.name]['kernel']
        if layer is network.layers[0]:
            kernel = layouts.swap_red_and_blue(kernel)
        if layer.name == flattens:
            whole = layouts.rows_to_maps(kernel, maps, network.towers)
            kernel = whole.reshape(kernel.shape)
        bias = weights.params[layer.name]['bias']
        layers[layer.name] = {'weights': kernel, 'biases': bias}
    content = io.BytesIO()
    np.save(content, np.array(layers, object), allow_pickle=True)
    files.write_atomically(path, content.getvalue())
    return [path]


def _order(table: Any) -> list[str]:
    return [f'{layer}/{key}' for layer in table['layers'] for key in ('kernel', 'bias')]


def _pair(value: Any, name: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(value, dict):
        value = [value.get('weights'), value.get('biases')]
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(isinstance(x, np.ndarray) for x in value)
        or not value[1].ndim
    ):
        raise ValueError(f'{path}: its layer {name[:40]!r} is no pair of arrays')
    kernel, bias = (np.array(x, np.float32) for x in value)
    return kernel, bias.reshape(-1)
