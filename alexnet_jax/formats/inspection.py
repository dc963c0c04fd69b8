"""What a file of weights holds, as text."""

import numpy as np

from alexnet_jax.formats import networks
from alexnet_jax.formats.weights import Weights, array_digest, shapes_of
from alexnet_jax.system import tables


def text(weights: Weights) -> str:
    """A row for each array, then which network it is and how it sees an image."""
    rows = [('array', 'shape', 'dtype', 'mean', 'deviation', 'sha256')]
    for layer in weights.network.layers:
        for name in ('kernel', 'bias'):
            value = weights.params[layer.name][name]
            rows.append(
                (
                    f'{layer.name}/{name}',
                    tables.shape(value.shape),
                    str(value.dtype),
                    f'{value.mean(dtype=np.float64):.6g}',
                    f'{value.std(dtype=np.float64):.6g}',
                    array_digest(value)[:12],
                )
            )
    network, seen = weights.network, weights.preprocessing
    count = sum(value.size for p in weights.params.values() for value in p.values())
    scale = ', '.join(f'{s:.6g}' for s in seen.scale)
    lines = [
        tables.aligned(rows, left=(0, 1, 2, 5)),
        '',
        f'{count:,} parameters, {network.towers} tower{"s"[: network.towers > 1]}, '
        f'{network.num_classes} classes'
        + (
            f' from {weights.class_names[0]} to {weights.class_names[-1]}'
            if weights.class_names
            else ', not named'
        ),
        f'network: {_network(weights)}',
        f'images: {seen.fit} to {seen.stored_size}, crops of {seen.crop_size}, mean '
        f'{seen.mean!r} (R {seen.mean_image[..., 0].mean():.2f}, '
        f'G {seen.mean_image[..., 1].mean():.2f}, '
        f'B {seen.mean_image[..., 2].mean():.2f}), times {scale}',
        f'source: {weights.source}',
        f'digest: {weights.digest}',
    ]
    lines += [
        f'measured: {name} {value:.6g}' for name, value in weights.metrics.items()
    ]
    return '\n'.join(lines)


def _network(weights: Weights) -> str:
    if names := networks.named(weights.table):
        return ' or '.join(names)
    names = networks.with_shapes(
        shapes_of(weights.network), weights.preprocessing.crop_size
    )
    if names:
        return f'none that is shipped; the shapes are those of {", ".join(names)}'
    return 'none that is shipped'
