"""The collectives and the memory of a train step, derived from the table of layers."""

import dataclasses
import math
from collections.abc import Iterator

import jax.numpy as jnp

from alexnet_jax.layer_steps import LocalResponseNorm
from alexnet_jax.mesh import DATA, TOWER
from alexnet_jax.model import Network, layer_shapes
from experiments.communication.collective import Collective, wire_bytes

FLOAT32 = 4  # bytes; of parameters, gradients, logits and metrics


def expected(
    network: Network, batch_size: int, data: int, tower: int
) -> list[Collective]:
    """Lists the collectives of a train step as the table of layers has them.

    Across `tower`: a layer that reads all towers gathers its input, and its gradient is
    scattered back; the last layer adds up the logits; Caffe's norm fetches the edges.
    Across `data`: one reduction of each gradient, and one of the four metrics.

    Args:
      network: the table.
      batch_size: over all devices.
      data: devices along the batch.
      tower: devices along the towers.
    """
    rows = batch_size // data
    itemsize = jnp.dtype(network.compute_dtype).itemsize
    forward, backward = [], []
    before: tuple[int, ...] = ()  # the shape that a layer reads
    for layer, shape in zip(network.layers, layer_shapes(network), strict=True):
        if layer is network.layers[-1]:
            logits = (rows * layer.features * FLOAT32,)
            forward.append(Collective('all-reduce', TOWER, logits, layer.name))
        elif layer.reads == 'all':
            gathered = (rows * math.prod(before) * itemsize,)
            forward.append(Collective('all-gather', TOWER, gathered, layer.name))
            backward.append(
                Collective('reduce-scatter', TOWER, gathered, f'{layer.name} backward')
            )
        maps = shape.linear
        for step in layer.steps:
            if not (isinstance(step, LocalResponseNorm) and step.across_towers):
                maps = step.output(maps)
                continue
            edge = rows * math.prod(maps[:-1]) * (step.size // 2) * itemsize
            for side in ('left', 'right'):
                where = f'{layer.name} norm, {side} edge'
                permute = Collective('collective-permute', TOWER, (edge,), where)
                forward.append(permute)
                backward.append(
                    dataclasses.replace(permute, where=f'{where}, backward')
                )
        before = shape.output
    listed = [*forward, *reversed(backward)] if tower > 1 else []
    if data > 1:
        gradients = tuple(_parameter_sizes(network, tower))
        listed += [
            Collective('all-reduce', DATA, (4 * FLOAT32,), 'loss and metrics'),
            Collective('all-reduce', DATA, gradients, 'gradients'),
        ]
    return listed


def _parameter_sizes(network: Network, tower: int) -> Iterator[int]:
    """Bytes of each parameter on one device: all are split but the last bias."""
    for layer in layer_shapes(network):
        yield math.prod(layer.kernel) * FLOAT32 // tower
        split = 1 if layer.name == network.layers[-1].name else tower
        yield math.prod(layer.bias) * FLOAT32 // split


def parameter_bytes(network: Network, tower: int) -> int:
    """Bytes of the parameters on one device; the momentum takes as many."""
    return sum(_parameter_sizes(network, tower))


def activation_bytes(network: Network, batch_size: int, data: int, tower: int) -> int:
    """Bytes of the activations of one step on one device.

    Of each layer its weighted sums and, where a pool makes them another array, its
    outputs, both split over the towers; and what a layer gathers, whole. What the
    backward pass makes and what a norm keeps comes on top of it.
    """
    elements = 0
    before: tuple[int, ...] = ()
    for layer, shape in zip(network.layers, layer_shapes(network), strict=True):
        last = layer is network.layers[-1]
        if layer.reads == 'all' and not last and tower > 1:
            elements += math.prod(before)
        split = 1 if last else tower
        elements += math.prod(shape.linear) // split
        if shape.output != shape.linear:
            elements += math.prod(shape.output) // split
        before = shape.output
    return batch_size // data * elements * jnp.dtype(network.compute_dtype).itemsize


def sent_bytes(
    network: Network, batch_size: int, data: int, tower: int
) -> dict[str, float]:
    """Bytes that one device sends along each axis in one step, from the closed form."""
    sent = {DATA: 0.0, TOWER: 0.0}
    for collective in expected(network, batch_size, data, tower):
        size = {DATA: data, TOWER: tower}[collective.axis]
        sent[collective.axis] += wire_bytes(collective, size)
    return sent
