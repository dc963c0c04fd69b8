"""Figure 4: neighbours by the last hidden layer (right), guesses for images (left)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import alexnet_jax
from alexnet_jax.analysis import (
    neighbour_picture,
    neighbour_search,
    panels,
    prepared_split,
)
from alexnet_jax.analysis import neighbours as neighbours_lib
from alexnet_jax.analysis.net import Net
from alexnet_jax.data.photographs import Photograph
from experiments.cells import reported_split

QUERIES, IMAGES, NEAREST = 500, 10_000, 6
SHOWN = 8  # images of the guesses, as in the paper, and queries
GUESSES = 5


def measure(workdirs: Sequence[Path], changes: Mapping[str, Any]) -> dict[str, float]:
    """Precision@6 by the last hidden layer, by pixels and by the run's own start."""
    (workdir,) = workdirs
    net = alexnet_jax.load(workdir, checkpoint='latest')
    found = search(net, _test_images(net, changes, QUERIES), _train(net, changes))
    labels = np.array([query.label for query in found.queries])
    names = {neighbour_search.PIXELS: 'pixels', neighbour_search.RANDOM: 'random'}
    return {
        names.get(by, 'hidden'): neighbours_lib.precision(
            each, found.labels, labels, NEAREST
        )
        for by, each in found.by.items()
    } | {'chance': neighbours_lib.chance(found.labels, labels)}


def search(
    net: Net, queries: Iterator[Photograph], train: prepared_split.PreparedSplit
) -> neighbour_search.Found:
    """Looks for neighbours; the random weights are those the run began with."""
    return neighbour_search.search(
        net,
        queries,
        train,
        layer=net.network.layers[-2].name,
        k=NEAREST,
        seed=net.config.seed,
    )


def _test_images(
    net: Net, changes: Mapping[str, Any], count: int
) -> Iterator[Photograph]:
    split = reported_split(net.config)
    return iter(prepared_split.open_split(net, split, changes, count))


def _train(net: Net, changes: Mapping[str, Any]) -> prepared_split.PreparedSplit:
    return prepared_split.open_split(net, 'train', changes, IMAGES)


def draw(workdir: Path, changes: Mapping[str, Any], path: Path) -> None:
    """Draws queries with their neighbours, the first ones of as many classes."""
    net = alexnet_jax.load(workdir, checkpoint='latest')
    train = _train(net, changes)
    found = search(net, _test_images(net, changes, QUERIES), train)
    shown = neighbour_picture.spread(found, SHOWN)
    neighbour_picture.draw(found, train.split.images, net.class_names, shown, path)


def draw_guesses(workdir: Path, changes: Mapping[str, Any], path: Path) -> None:
    """Draws the first test images above the bars of the five guesses."""
    net = alexnet_jax.load(workdir, checkpoint='latest')
    images = list(_test_images(net, changes, SHOWN))
    pixels = [image.pixels for image in images if image.pixels is not None]
    labels = [image.label for image in images if image.label is not None]
    probabilities = net.predict(np.stack(pixels))
    best = np.argsort(-probabilities, axis=1, kind='stable')[:, :GUESSES]
    panels.draw(
        pixels,
        [net.class_names[label] for label in labels],
        [True] * len(pixels),
        [[net.class_names[c] for c in row] for row in best],
        list(np.take_along_axis(probabilities, best, axis=1)),
        path,
    )
