"""safetensors: arrays after a JSON header; the format in which nothing is lost.

Arrays are `conv1/kernel` … in our layout and `mean_image`; the header's metadata has
the network's table, class names, preprocessing, source, measured errors and digest,
each as JSON. https://huggingface.co/docs/safetensors
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from alexnet_jax.formats import description
from alexnet_jax.formats.weights import Weights, colour_of
from alexnet_jax.system import files

MEAN = 'mean_image'


def write(weights: Weights, path: Path) -> list[Path]:
    """Writes one file, whole or not at all.

    Returns:
      Its path, in a list.
    """
    mean = weights.preprocessing.mean_image
    colour = colour_of(mean)
    arrays = flat(weights.params) | {MEAN: mean if colour is None else colour}
    metadata = {key: json.dumps(v) for key, v in description.of(weights).items()}
    # 'format' is for readers such as transformers, which ask what wrote the arrays.
    write_arrays(arrays, {'format': 'np'} | metadata, path)
    return [path]


def read(path: Path) -> Weights:
    """Reads a file that `write` wrote.

    Raises:
      ValueError: it is damaged, or has not our metadata.
    """
    arrays, metadata = read_arrays(path)
    if 'network' not in metadata:
        names = ', '.join(list(arrays)[:3])
        raise ValueError(
            f'{path}: its metadata has no entry `network`, so that alexnet_jax did not '
            f'write it (it holds {len(arrays)} arrays: {names} …)'
        )
    stated = {
        key: description.load(value, f'{path}: its entry {key!r}')
        for key, value in metadata.items()
        if key != 'format'
    }
    mean = arrays.pop(MEAN, np.zeros(0, np.float32))
    return description.weights_from(stated, nested(arrays), mean, str(path))


def write_arrays(
    arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str], path: Path
) -> None:
    """Writes any arrays, by name, and metadata."""
    content = save(
        {name: np.ascontiguousarray(value) for name, value in arrays.items()},
        dict(metadata),
    )
    files.write_atomically(path, content)


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays by name and the metadata of any safetensors file.

    The library checks the header against the size of the file before it makes an array.

    Raises:
      ValueError: it is none, or has a kind of numbers that numpy does not.
    """
    try:
        with safe_open(path, framework='numpy') as file:
            names = list(file.keys())
            arrays = {name: file.get_tensor(name) for name in names}
            return arrays, file.metadata() or {}
    except (SafetensorError, TypeError, AttributeError, OSError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise ValueError(f'{path} cannot be read as safetensors: {reason}') from None


def flat(params: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """`conv1/kernel` and its array, for every parameter."""
    return {
        f'{layer}/{name}': value
        for layer, of_layer in params.items()
        for name, value in of_layer.items()
    }


def nested(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """The inverse of `flat`."""
    params: dict[str, dict[str, np.ndarray]] = {}
    for key, value in arrays.items():
        layer, _, name = key.rpartition('/')
        params.setdefault(layer, {})[name] = value
    return params
