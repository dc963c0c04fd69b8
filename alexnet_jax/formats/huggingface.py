"""A folder for Hugging Face's hub: model.safetensors, config.json, a model card.

Nothing is lost: model.safetensors has the metadata of `safetensors`, and it alone is
read again. config.json repeats the description for people and tools, and README.md, the
model card, says what the network is, how it sees an image and what was measured.
"""

from pathlib import Path

import numpy as np

from alexnet_jax.formats import description, networks, safetensors
from alexnet_jax.formats.weights import Weights
from alexnet_jax.system import files, tables

MODEL = 'model.safetensors'


def read(path: Path) -> Weights:
    """Reads the folder's model.safetensors.

    Raises:
      ValueError: as `safetensors.read`.
    """
    if not (path / MODEL).is_file():
        raise ValueError(f'{path} is no folder with a {MODEL}')
    return safetensors.read(path / MODEL)


def write(weights: Weights, path: Path) -> list[Path]:
    """Writes the folder, which is made.

    Returns:
      The paths of the three files.

    Raises:
      ValueError: it is there and has other files.
    """
    ours = [path / name for name in (MODEL, 'config.json', 'README.md')]
    if path.is_dir() and set(path.iterdir()) - set(ours):
        raise ValueError(f'{path} has other files; name a new folder')
    path.mkdir(exist_ok=True)
    safetensors.write(weights, ours[0])
    stated = {'model_type': 'alexnet_jax', 'architectures': ['AlexNet']}
    files.write_json(ours[1], stated | description.of(weights))
    files.write_atomically(ours[2], card(weights))
    return ours


def card(weights: Weights) -> str:
    """The model card: YAML for the hub, then the network, its inputs and its errors."""
    network, seen = weights.network, weights.preprocessing
    shipped = ' or '.join(networks.named(weights.table)) or 'none'
    count = sum(value.size for p in weights.params.values() for value in p.values())
    red, green, blue = (
        f'{value:.2f}' for value in seen.mean_image.mean((0, 1), np.float64)
    )
    shapes = [('layer', 'kernel', 'bias')] + [
        (name, *(tables.shape(params[key].shape) for key in ('kernel', 'bias')))
        for name, params in weights.params.items()
    ]
    measured = '\n'.join(
        f'| {name} | {value:.6g} |' for name, value in weights.metrics.items()
    )
    mean = {
        'centre': 'the centre of the mean image, whatever the crop',
        'crop': 'the part of the mean image under the crop',
        'colour': 'the mean colour',
    }[seen.mean]
    scale = ', '.join(f'{s:.6g}' for s in seen.scale)
    fit = {
        'crop': f'short side to {seen.stored_size} pixels, centre square',
        'warp': f'both sides to {seen.stored_size} pixels',
    }[seen.fit]
    return f"""---
library_name: alexnet_jax
pipeline_tag: image-classification
tags:
- alexnet
- jax
---

# AlexNet of {network.num_classes} classes

{count:,} parameters, {network.towers} towers; shipped network: {shipped}.
From: {weights.source}.

```
{tables.aligned(shapes, left=(0, 1, 2))}
```

## Images

RGB, 0–255: {fit}; crops of {network.image_size}.
Less {mean} (average R {red}, G {green}, B {blue}), times {scale}.

## Measured

{
        '| metric | value |' + chr(10) + '|---|---|' + chr(10) + measured
        if measured
        else 'Nothing was measured with these weights.'
    }

Errors and losses are means over the examples of a split; errors are fractions.

## Use

```sh
python -m alexnet_jax.weights import {MODEL} --workdir=DIR
python -m alexnet_jax.predict --workdir=DIR PHOTOGRAPH
```

SHA-256 over the parameters: `{weights.digest}`
"""
