"""matconvnet's .mat of Caffe's nets: imagenet-caffe-alex, imagenet-caffe-ref.

Its images are RGB and its kernels (rows, columns, inputs, outputs), as ours; its dense
layers are convolutions of the whole extent, fc6's [6, 6, 256, 4096]. The file has the
norm's settings and the class names. utils/import-caffe.py made it of Caffe's files.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax import layer_steps, model
from alexnet_jax.formats import layouts, matlab, networks
from alexnet_jax.formats.caffe import MEAN_COLOUR
from alexnet_jax.formats.weights import Weights, check_shapes, colour_of
from alexnet_jax.system import files

# What the file does not tell: dropout layers were removed.
_UNTOLD = ('steps', 'dropout', 'features')
_STEPS = {'relu': 'activation', 'normalize': 'lrn', 'lrn': 'lrn', 'pool': 'pool'}


def read(path: Path, *, network: str = '') -> Weights:
    """Reads a SimpleNN of matconvnet.

    Args:
      path: of the .mat.
      network: the shipped network it is; '' tells it by its layers.

    Raises:
      UnknownNetworkError: no shipped network has these shapes.
      ValueError: the file is damaged, or computes what none here does.
    """
    content = matlab.read(path)
    content = content.get('net', content)
    layers = content.get('layers') if isinstance(content, dict) else None
    if not isinstance(layers, list) or not all(isinstance(x, dict) for x in layers):
        raise ValueError(
            f'{path} has no list `layers`, so that matconvnet did not write it'
        )
    layers = [x for x in layers if x.get('type') not in ('dropout', 'softmax')]
    weighted = [_arrays(x, path) for x in layers if x.get('type') == 'conv']
    steps = _steps(layers, path)
    network = _shipped(layers, steps, weighted, path, network)
    table = networks.table_of(networks.config(network))
    names = table['layers']
    hidden = zip(names[:-1], weighted, strict=False)
    table |= {name: table[name] | {'features': len(bias)} for name, (_, bias) in hidden}
    meta = content.get('meta', content)
    seen = networks.preprocessing(network, _mean(meta, path))
    built = model.network_from_config(table, seen.crop_size, len(weighted[-1][1]))
    _, maps = layouts.flattened_maps(built)
    params = {}
    for name, (kernel, bias) in zip(names, weighted, strict=True):
        if table[name]['kind'] == 'dense':
            kernel = (
                layouts.rows_from_maps(kernel, built.towers)
                if kernel.shape[:3] == maps
                else kernel.transpose(2, 0, 1, 3).reshape(-1, kernel.shape[-1])
            )
        params[name] = {'kernel': np.ascontiguousarray(kernel), 'bias': bias}
    found = {f'{n}/{k}': v.shape for n, p in params.items() for k, v in p.items()}
    check_shapes(found, built, str(path))
    classes = _names(meta, len(params[names[-1]]['bias']))
    return Weights(table, params, classes, seen, f'matconvnet, {path.name}')


def write(weights: Weights, path: Path) -> list[Path]:
    """Writes a SimpleNN, as utils/import-caffe.py makes one, with scipy.io.

    Args:
      weights: of Caffe's nets, in any width.
      path: of the .mat. Its average image is the centre of the mean image.

    Returns:
      Its path, in a list.

    Raises:
      ValueError: of another network, which its readers would not tell from these.
    """
    import scipy.io  # which jax needs; it takes long to import

    networks.check_caffes(weights, 'matconvnet')
    network, made = weights.network, []
    flattens, maps = layouts.flattened_maps(network)
    for layer in network.layers:
        kernel, bias = (weights.params[layer.name][key] for key in ('kernel', 'bias'))
        if layer.name == flattens:
            kernel = layouts.rows_to_maps(kernel, maps, network.towers)
        kernel = kernel if kernel.ndim == 4 else kernel[None, None]
        pad = [float(n) for pair in layer.padding for n in pair]
        made.append(
            {
                'name': layer.name,
                'type': 'conv',
                'weights': _cells([kernel, bias[None]]),
                'pad': [pad],
                'stride': [[float(layer.stride)] * 2],
            }
        )
        made += [step for step in map(_written, layer.steps) if step]
    seen, names = weights.preprocessing, _cells(weights.class_names)
    colour = colour_of(seen.centre_mean)
    meta = {
        'normalization': {
            'imageSize': [[float(seen.crop_size)] * 2 + [3.0]],
            'averageImage': seen.centre_mean if colour is None else colour[None, None],
            'keepAspect': seen.fit == 'crop',
            'border': [[float(seen.stored_size - seen.crop_size)] * 2],
        },
        'classes': {'name': names, 'description': names},
    }
    made.append({'name': 'prob', 'type': 'softmax'})
    content = io.BytesIO()
    scipy.io.savemat(content, {'layers': _cells(made), 'meta': meta})
    files.write_atomically(path, content.getvalue())
    return [path]


def _written(step: layer_steps.Step) -> dict[str, Any] | None:
    """A step in matconvnet's words; None for dropout, which its files leave out."""
    match step:
        case layer_steps.Activation():
            return {'name': 'relu', 'type': 'relu'}
        case layer_steps.LocalResponseNorm(size, k, alpha, beta):
            param = [[float(size), k, alpha, beta]]
            return {'name': 'norm', 'type': 'normalize', 'param': param}
        case layer_steps.MaxPool(size, stride):
            sides = {'pool': [[float(size)] * 2], 'stride': [[float(stride)] * 2]}
            return {'name': 'pool', 'type': 'pool', 'method': 'max', **sides}
    return None


def _cells(values: Sequence[Any]) -> np.ndarray:
    """A cell array of one row, for scipy.io."""
    cells = np.empty((1, len(values)), object)
    for i, value in enumerate(values):
        cells[0, i] = value
    return cells


def _arrays(layer: Mapping[str, Any], path: Path) -> tuple[np.ndarray, np.ndarray]:
    pair = layer.get('weights', [layer.get('filters'), layer.get('biases')])
    good = isinstance(pair, list) and len(pair) == 2
    if not good or not all(isinstance(x, np.ndarray) for x in pair):
        raise ValueError(f'{path}: its layer {_name(layer)} has no filters and biases')
    kernel, bias = (np.asarray(x, np.float32) for x in pair)
    if kernel.ndim > 4 or not kernel.size:
        raise ValueError(f'{path}: its layer {_name(layer)} has filters {kernel.shape}')
    # MATLAB drops extents of 1 at the end.
    return kernel.reshape(kernel.shape + (1,) * (4 - kernel.ndim)), bias.reshape(-1)


def _steps(layers: list[dict[str, Any]], path: Path) -> list[list[str]]:
    """The steps after each weighted sum; dropout is not among them."""
    found: list[list[str]] = []
    for layer in layers:
        kind = layer.get('type')
        if kind == 'conv':
            found.append([])
        elif not found or kind not in _STEPS:
            raise ValueError(
                f'{path}: its layer {_name(layer)} is of type {kind!r:.40}'
            )
        else:
            found[-1].append(_STEPS[kind])
    return found


def _shipped(
    layers: list[dict[str, Any]],
    steps: list[list[str]],
    weighted: list[tuple[np.ndarray, np.ndarray]],
    path: Path,
    named: str,
) -> str:
    """The shipped network with these steps and settings; `named`, if that is given."""
    for name in (named,) if named else ('caffe', 'caffenet'):
        table = networks.table_of(networks.config(name))
        wanted = [
            [step for step in table[layer]['steps'] if step != 'dropout']
            for layer in table['layers']
        ]
        if wanted == steps:
            _check_settings(layers, table, path)
            return name
    raise _unknown(weighted, path)


def _check_settings(
    layers: list[dict[str, Any]], table: Mapping[str, Any], path: Path
) -> None:
    lrn, pool = table['lrn'], table['pool']
    norm = {'param': [lrn['size'], lrn['k'], lrn['alpha'], lrn['beta']]}
    # Not the pad of a pool, of which importers make Caffe's rounding up.
    pools = {'pool': [pool['size']] * 2, 'stride': [pool['stride']] * 2}
    wanted = {'normalize': norm, 'lrn': norm, 'pool': pools}
    rows = iter(table['layers'])
    for layer in layers:
        kind = str(layer['type'])
        if kind == 'conv':
            row = table[next(rows)]
            padding = np.reshape(row.get('padding', ((0, 0), (0, 0))), -1).tolist()
            wanted['conv'] = {'stride': [row.get('stride', 1)] * 2, 'pad': padding}
        if kind == 'pool' and layer.get('method', 'max') != 'max':
            raise ValueError(
                f'{path}: its layer {_name(layer)} pools by '
                f'{layer["method"]!r:.40}, expected max'
            )
        for key, right in wanted.get(kind, {}).items():
            value = layer.get(key)
            if value is None:
                continue
            found = (
                np.asarray(value, np.float64).reshape(-1)
                if not isinstance(value, (str, list, dict))
                else np.zeros(0)
            )
            found = np.repeat(found, len(right)) if len(found) == 1 else found
            if len(found) != len(right) or not np.allclose(found, right, rtol=1e-5):
                raise ValueError(
                    f'{path}: its layer {_name(layer)} has {key} '
                    f'{found.tolist()[:4]}, expected {right}'
                )


def _unknown(weighted: list[tuple[np.ndarray, np.ndarray]], path: Path) -> ValueError:
    shapes = {}
    for i, (kernel, bias) in enumerate(weighted, 1):
        dense = kernel.shape[:2] == (1, 1) or i > 5
        shape = (int(np.prod(kernel.shape[:3])), kernel.shape[3])
        name = f'{"fc" if dense else "conv"}{i}'
        shapes[f'{name}/kernel'] = shape if dense else kernel.shape
        shapes[f'{name}/bias'] = bias.shape
    return networks.refuse(shapes, str(path), ('caffe', 'caffenet'))


def _mean(meta: Any, path: Path) -> np.ndarray:
    """The average image in a square of 256, f32[256, 256, 3], or a colour f32[3]."""
    seen = meta.get('normalization', {}) if isinstance(meta, dict) else {}
    mean = seen.get('averageImage') if isinstance(seen, dict) else None
    if not isinstance(mean, np.ndarray) or mean.size < 3:
        return np.array(MEAN_COLOUR, np.float32)
    mean = mean.astype(np.float32)
    if mean.size == 3:
        return mean.reshape(3)
    size = len(mean)
    if mean.shape != (size, size, 3) or size > 256:
        raise ValueError(f'{path}: its averageImage is {mean.shape}')
    # It is taken from any crop, wherever that lies.
    before = (256 - size) // 2
    sides = (before, 256 - size - before)
    return np.pad(mean, (sides, sides, (0, 0)), mode='edge')


def _names(meta: Any, count: int) -> tuple[str, ...]:
    """The synsets, or nothing where they are not as many as the outputs."""
    classes = meta.get('classes') if isinstance(meta, dict) else None
    names = classes.get('name') if isinstance(classes, dict) else None
    if isinstance(names, list) and len(names) == count:
        return tuple(map(str, names))
    return ()


def _name(layer: Mapping[str, Any]) -> str:
    return repr(str(layer.get('name', '?'))[:40])
