"""PyTorch: a folder of one module file without dependencies, and its weights.

`alexnet_torch.py` makes any network of this package from the description in the
metadata of `model.safetensors`, whose tensors are its state dict. The same metadata
holds what our own safetensors hold, so that the folder can be read back, bit for bit.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax import model
from alexnet_jax.formats import description, safetensors, torch_layout
from alexnet_jax.formats.weights import Weights

WEIGHTS, MODULE = 'model.safetensors', 'alexnet_torch.py'
_MEAN = 'preprocessing.mean'


def write(weights: Weights, path: Path) -> list[Path]:
    """Writes the folder.

    Returns:
      The weights and the module.

    Raises:
      ValueError: the folder is there and has other files.
    """
    written = [path / WEIGHTS, path / MODULE]
    left = path / '__pycache__'  # by whoever imported the module
    if path.is_dir() and set(path.iterdir()) - {*written, left}:
        raise ValueError(f'{path} has other files; name a new folder')
    state = torch_layout.to_torch(weights.params, weights.network)
    tensors = {_inside(name): array for name, array in state.items()}
    mean = weights.preprocessing.mean_image
    tensors[_MEAN] = np.ascontiguousarray(mean.transpose(2, 0, 1))
    said = description.of(weights) | {'alexnet_torch': description_of(weights)}
    metadata = {key: json.dumps(value) for key, value in said.items()}
    path.mkdir(exist_ok=True)
    safetensors.write_arrays(tensors, {'format': 'pt'} | metadata, written[0])
    shutil.copyfile(Path(__file__).with_name(MODULE), written[1])
    return written


def read(path: Path) -> Weights:
    """Reads the folder, or its file of weights, back.

    Raises:
      ValueError: it is damaged, or not of this kind.
    """
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f'{path} has no {WEIGHTS} in it')
    arrays, metadata = safetensors.read_arrays(file)
    if 'alexnet_torch' not in metadata:
        raise ValueError(f'{file} was not written for alexnet_torch')
    del metadata['alexnet_torch']
    stated = {
        key: description.load(value, f'{file}: its entry {key!r}')
        for key, value in metadata.items()
        if key != 'format'
    }
    mean = arrays.pop(_MEAN, np.zeros((3, 0, 0), np.float32))
    state = {name.replace('.linear.', '.'): array for name, array in arrays.items()}
    network = torch_layout.network_of(stated, state, str(file))
    params = torch_layout.from_torch(state, network)
    mean = np.ascontiguousarray(mean.transpose(1, 2, 0))
    return description.weights_from(stated, params, mean, str(file))


def description_of(weights: Weights) -> dict[str, Any]:
    """What `alexnet_torch.AlexNet` is made from, for JSON.

    A row for each layer has the table's settings, its `inputs` and its `linear` output
    as (rows, columns, channels) or (features,), and its steps by the names of the taps.
    """
    network, seen = weights.network, weights.preprocessing
    rows = []
    inputs: model.Shape = (network.image_size, network.image_size, 3)
    for layer, shape in zip(network.layers, model.layer_shapes(network), strict=True):
        row: dict[str, Any] = dataclasses.asdict(
            layer
        )  # of which the steps are turned too
        del row['init_std'], row['init_bias']
        steps = list(zip(layer.makes[1:], row['steps'], strict=True))
        rows.append(row | {'steps': steps, 'inputs': inputs, 'linear': shape.linear})
        inputs = shape.output
    return {
        'layers': rows,
        'towers': network.towers,
        'class_names': weights.class_names,
        'preprocessing': {
            'crop_size': seen.crop_size,
            'stored_size': seen.stored_size,
            'mean': seen.mean,
            'scale': seen.scale,
        },
    }


def _inside(name: str) -> str:
    """`conv1.weight` is that of the layer's first module, `conv1.linear.weight`."""
    layer, _, kind = name.rpartition('.')
    return f'{layer}.linear.{kind}'
