"""What a config would train, worked out from its shapes, without its data.

`python -m alexnet_jax.main --config=NAME --summary` prints it.
"""

import dataclasses
import math
import re

from ml_collections import ConfigDict

from alexnet_jax import model
from alexnet_jax.data import sources
from alexnet_jax.run import progress
from alexnet_jax.system import tables

# Examples and classes, as these sets are published.
PUBLISHED = sources.PUBLISHED_COUNTS | {
    'cifar10': {'train': 50_000, 'test': 10_000, 'classes': 10},
}


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes that the shapes of a network ask for; XLA's scratch is not among them."""

    parameters: int  # float32
    state: int  # parameters and their momentum, float32
    activations: int  # of one training batch, see `memory`


def network_of(config: ConfigDict) -> model.Network:
    """The network of a validated config.

    Where it takes the data set's number of classes, the published one; 10 if unknown.
    """
    classes = config.model.num_classes or PUBLISHED.get(config.data.source, {}).get(
        'classes', 10
    )
    return model.network_from_config(config.model, config.data.crop_size, classes)


def parameters(network: model.Network) -> int:
    """How many numbers are trained: kernels and biases."""
    return sum(shape.parameters for shape in model.layer_shapes(network))


def multiply_adds(network: model.Network) -> int:
    """Of one image's forward pass, in the weighted sums of the layers alone."""
    return sum(shape.multiply_adds for shape in model.layer_shapes(network))


def memory(network: model.Network, batch_size: int) -> Memory:
    """Bytes of the parameters, of the state, and of a batch's activations.

    Activations are the images, each layer's weighted sum, its output where it has steps
    after the sum, all in the network's `compute_dtype`, and one byte for each unit of a
    dropout mask, on all devices together. Gradients, what lies between the steps of a
    layer, and XLA's scratch are not counted; XLA may keep less by computing it again.
    """
    size = 2 if network.compute_dtype == 'bfloat16' else 4
    numbers, mask = network.image_size**2 * 3, 0
    for layer, shape in zip(network.layers, model.layer_shapes(network), strict=True):
        numbers += math.prod(shape.linear)
        numbers += math.prod(shape.output) if layer.steps else 0
        mask += math.prod(shape.mask) if shape.mask else 0
    params = 4 * parameters(network)
    return Memory(params, 2 * params, batch_size * (size * numbers + mask))


def examples(source: str, split: str) -> int | None:
    """How many examples a split has, from the published counts; None if unknown.

    Reads slices as `train[:90%]` and sums as `train+validation`.
    """
    total = 0
    for part in split.split('+'):
        match = re.fullmatch(
            r'\s*(\w+)\s*(?:\[(-?\d+%?)?:(-?\d+%?)?\])?\s*', part, re.ASCII
        )
        size = PUBLISHED.get(source, {}).get(match[1]) if match else None
        if not match or size is None:
            return None
        first, last = _bound(match[2], 0, size), _bound(match[3], size, size)
        total += max(0, last - first)
    return total


def _bound(text: str | None, default: int, size: int) -> int:
    if not text:
        return default
    number = int(text.rstrip('%'))
    bound = round(number * size / 100) if text.endswith('%') else number
    return min(max(bound + size if bound < 0 else bound, 0), size)


def length(config: ConfigDict) -> progress.RunLength | None:
    """The steps of a run on the published number of examples; None if unknown."""
    count = examples(config.data.source, config.data.train_split)
    if not count:
        return None
    return progress.run_length(
        num_examples=count,
        batch_size=config.train.batch_size,
        epochs=config.train.epochs,
        steps=config.train.steps,
        eval_every_epochs=config.train.eval_every_epochs,
    )


def text(config: ConfigDict) -> str:
    """The table of layers, and lines on memory and steps.

    Args:
      config: validated.
    """
    network = network_of(config)
    rows = [('layer', 'reads', 'kernel', 'output', 'parameters', 'multiply-adds')]
    for layer, shape in zip(network.layers, model.layer_shapes(network), strict=True):
        rows.append(
            (
                layer.name,
                layer.reads,
                _times(shape.kernel),
                _times(shape.output),
                f'{shape.parameters:,}',
                f'{shape.multiply_adds:,}',
            )
        )
    sums = f'{parameters(network):,}', f'{multiply_adds(network):,}'
    rows.append(('total', '', '', '', *sums))
    batch = config.train.batch_size
    need = memory(network, batch)
    lines = [
        tables.aligned(rows, left=(0, 1, 2, 3)),
        '',
        f'{network.towers} tower{"s" if network.towers > 1 else ""}, images '
        f'{network.image_size} × {network.image_size}, '
        f'{network.layers[-1].features} classes{_classes_from(config)}',
        f'memory: parameters {_megabytes(need.parameters)} (float32), with their '
        f'momentum {_megabytes(need.state)};',
        f'  activations of {batch} images {_megabytes(need.activations)} '
        f'({network.compute_dtype}: images, weighted sums,',
        '  outputs and dropout masks; gradients and scratch not counted)',
        _steps(config),
    ]
    return '\n'.join(lines)


def _classes_from(config: ConfigDict) -> str:
    if config.model.num_classes:
        return ''
    known = config.data.source in PUBLISHED
    return f' ({"of" if known else "assumed for"} {config.data.source})'


def _steps(config: ConfigDict) -> str:
    data, train = config.data, config.train
    found = length(config)
    if found is None:
        given = f'{train.steps:,} steps' if train.steps else f'{train.epochs:g} epochs'
        return (
            f'steps: {given} of {train.batch_size} images; the examples of '
            f'{data.source}\n  are counted when it is there'
        )
    return (
        f'steps: {found.total_steps:,} of {train.batch_size} images, '
        f'{found.steps_per_epoch:,.1f} an epoch,\n  '
        f'{found.epoch(found.total_steps):.4g} epochs of the '
        f'{examples(data.source, data.train_split):,} examples in {data.train_split}'
    )


def _times(shape: model.Shape) -> str:
    return ' × '.join(map(str, shape))


def _megabytes(count: int) -> str:
    return f'{count / 1e6:,.1f} MB'
