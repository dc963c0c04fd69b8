"""A linear probe of every layer: from where on can classes be read off?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

import alexnet_jax
from alexnet_jax.analysis import prepared_split, streams
from alexnet_jax.analysis import probe as probe_lib
from alexnet_jax.analysis.net import Net
from alexnet_jax.data import augment
from experiments.cells import reported_split

TRAIN, TEST = 2_000, 2_000
HELD_OUT = 5  # every fifth training image chooses the penalty


def measure(workdirs: Sequence[Path], changes: Mapping[str, Any]) -> dict[str, float]:
    """The error of a probe of the crop's pixels and of each layer but the last."""
    (workdir,) = workdirs
    net = alexnet_jax.load(workdir, checkpoint='latest')
    test_split = reported_split(net.config)
    train = examples(net, prepared_split.open_split(net, 'train', changes, TRAIN))
    test = examples(net, prepared_split.open_split(net, test_split, changes, TEST))
    # Where a sweep has the cores, BLAS's threads wait for each other, for minutes.
    with threadpoolctl.threadpool_limits(1):
        return {
            layer: probe_lib.fit(*divided(train[layer]), test[layer]).error
            for layer in train
        }


def examples(
    net: Net, split: prepared_split.PreparedSplit
) -> dict[str, probe_lib.Examples]:
    """The pixels of the centre crops, and each layer's output, with the labels."""
    layers = [layer.name for layer in net.network.layers[:-1]]
    size, data = net.config.data.crop_size, net.config.data
    start = augment.centre_offset(data.stored_size, size)
    kept: dict[str, list[np.ndarray]] = {name: [] for name in ('pixels', *layers)}
    labels: list[int] = []
    for batch, made in streams.batches(net.tapped(layers), split, net.batch_size):
        assert made is not None
        squares = np.stack([p.pixels for p in batch if p.pixels is not None])
        crops = squares[:, start : start + size, start : start + size]
        kept['pixels'].append(crops)
        for layer in layers:
            kept[layer].append(np.asarray(made[layer]))
        labels += [p.label for p in batch if p.label is not None]
    of = np.array(labels)
    return {
        name: probe_lib.Examples(np.concatenate(parts), of)
        for name, parts in kept.items()
    }


def divided(
    train: probe_lib.Examples,
) -> tuple[probe_lib.Examples, probe_lib.Examples]:
    """What the probe is fitted to, and what chooses its penalty."""
    held = np.arange(len(train.labels)) % HELD_OUT == HELD_OUT - 1
    fitted, chooses = (
        probe_lib.Examples(train.features[rows], train.labels[rows])
        for rows in (~held, held)
    )
    return fitted, chooses
