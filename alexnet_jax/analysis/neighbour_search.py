"""Neighbours by a trained layer, by pixels and by random weights, side by side."""

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from alexnet_jax import train_state
from alexnet_jax.analysis import features, neighbours, probe, streams
from alexnet_jax.analysis.net import Net
from alexnet_jax.analysis.prepared_split import PreparedSplit
from alexnet_jax.data import augment, photographs
from alexnet_jax.data.photographs import Photograph

PIXELS, RANDOM = 'pixels', 'random weights'
HELD_OUT = 5  # every fifth training image, to choose the penalty
PROBE_BYTES = 16e9  # that probes may take; more would fill the memory


@dataclasses.dataclass(frozen=True)
class Query:
    """An image whose neighbours are wanted."""

    name: str
    pixels: np.ndarray  # u8[S, S, 3]
    label: int | None  # None: not known


@dataclasses.dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
      queries: in their order.
      by: the neighbours by what they were looked for with: the layer, PIXELS, RANDOM.
      labels: i32[N], of the images among which it looked.
      probes: of each layer that was probed.
      unread: query files that could not be read.
    """

    queries: list[Query]
    by: dict[str, neighbours.Neighbours]
    labels: np.ndarray
    probes: dict[str, probe.Probe]
    unread: int


def search(
    net: Net,
    pictures: Iterable[Photograph],
    train: PreparedSplit,
    *,
    layer: str,
    k: int,
    seed: int,
    probed: Sequence[str] = (),
) -> Found:
    """Looks among training images for the neighbours of pictures.

    Args:
      net: the network.
      pictures: the queries; what cannot be read is named on stderr.
      train: among which it looks.
      layer: a tap of the network.
      k: neighbours of each.
      seed: of the random weights.
      probed: taps for a linear probe; the queries must have labels.

    Raises:
      ValueError: there is no such tap; the queries have no labels; the probe's features
        would not fit.
    """
    taps = list(dict.fromkeys([layer, *probed]))
    sizes = {tap: int(np.prod(x)) for tap, x in features.shapes(net, taps).items()}
    if probed:
        _check_probes(train.count, [sizes[tap] for tap in probed])
    queries, unread = _readable(pictures, net.class_names)
    if not queries:
        raise ValueError('there are no queries: none of the images could be read')
    if probed and any(query.label is None for query in queries):
        raise ValueError(
            'a probe needs the classes of the queries: name a split, --split=test, or '
            'put the files into folders that are named after their classes'
        )
    squares = np.stack([query.pixels for query in queries])
    of_queries = net.activations(squares, taps)
    params = train_state.initial_params(net.network, seed)
    random = dataclasses.replace(net, params=params)
    searches = {
        layer: neighbours.Search(of_queries[layer], k),
        PIXELS: neighbours.Search(_crops(net, squares), k),
        RANDOM: neighbours.Search(random.activations(squares, layer)[layer], k),
    }
    tapped, at_random = net.tapped(taps), random.tapped([layer])

    def compiled(squares: np.ndarray) -> tuple[Any, Any]:
        return tapped(squares), at_random(squares)

    labels: list[int] = []
    kept: dict[str, list[np.ndarray]] = {tap: [] for tap in probed}
    with features.progress_bar(train.count) as bar:
        for batch, made in streams.batches(compiled, train, net.batch_size):
            assert made is not None
            trained, by_random = made
            searches[layer].add(trained[layer])
            searches[RANDOM].add(by_random[layer])
            pixels = np.stack([p.pixels for p in batch if p.pixels is not None])
            searches[PIXELS].add(_crops(net, pixels))
            for tap in probed:
                kept[tap].append(trained[tap])
            labels += [p.label for p in batch if p.label is not None]
            bar.update(len(batch))
    of_train = np.array(labels, np.int32)
    known = np.array([-1 if q.label is None else q.label for q in queries])
    return Found(
        queries,
        {name: each.found() for name, each in searches.items()},
        of_train,
        {
            tap: _probe(np.concatenate(kept[tap]), of_train, of_queries[tap], known)
            for tap in probed
        },
        unread,
    )


def _check_probes(count: int, sizes: Sequence[int]) -> None:
    if count < HELD_OUT:
        raise ValueError(
            f'a probe needs {HELD_OUT} training images or more, one of which is held '
            f'out, and there are {count}: give --limit={HELD_OUT} or more, or a larger '
            'split with --config.data.train_split'
        )
    fitted = count - count // HELD_OUT
    needed = 4 * count * sum(sizes) + max(probe.memory(fitted, n) for n in sizes)
    if needed > PROBE_BYTES:
        raise ValueError(
            f'probes of {count:,} images would take {needed / 1e9:,.1f} GB; give '
            '--limit=N for fewer, or probe fewer layers'
        )


def _readable(
    pictures: Iterable[Photograph], class_names: Sequence[str]
) -> tuple[list[Query], int]:
    queries, bad = [], 0
    for picture in pictures:
        if picture.pixels is None:
            name = photographs.name(picture.path)
            print(f'skipped {name}: {picture.problem}', file=sys.stderr)
            bad += 1
            continue
        label = picture.label
        if label is None:  # a file, whose folder may be named after its class
            folder = picture.path.absolute().parent.name
            label = class_names.index(folder) if folder in class_names else None
        queries.append(Query(photographs.name(picture.path), picture.pixels, label))
    return queries, bad


def _crops(net: Net, squares: np.ndarray) -> np.ndarray:
    """What the network sees of squares, u8[n, crop, crop, 3]."""
    size = net.config.data.crop_size
    start = augment.centre_offset(net.config.data.stored_size, size)
    return squares[:, start : start + size, start : start + size]


def _probe(
    features: np.ndarray, labels: np.ndarray, of_queries: np.ndarray, known: np.ndarray
) -> probe.Probe:
    """Every fifth training image is held out and chooses the penalty."""
    held = np.arange(len(labels)) % HELD_OUT == HELD_OUT - 1
    return probe.fit(
        probe.Examples(features[~held], labels[~held]),
        probe.Examples(features[held], labels[held]),
        probe.Examples(of_queries, known),
    )


def precisions(found: Found, ks: Sequence[int]) -> list[list[str]]:
    """A row for what was looked with, the share of its neighbours of the same class.

    Empty where no class is known.
    """
    known = [i for i, query in enumerate(found.queries) if query.label is not None]
    if not known:
        return []
    labels = np.array([found.queries[i].label for i in known])
    rows = [['nearest by', *(f'precision@{k}' for k in ks)]]
    for name, each in found.by.items():
        own = neighbours.Neighbours(each.indices[known], each.distances[known])
        shares = [neighbours.precision(own, found.labels, labels, k) for k in ks]
        rows.append([name, *(f'{share:.1%}' for share in shares)])
    chance = neighbours.chance(found.labels, labels)
    rows.append(['chance', *(f'{chance:.1%}' for _ in ks)])
    return rows


def as_json(found: Found, train: PreparedSplit, class_names: Sequence[str]) -> Any:
    """Each query with its neighbours, for a file."""

    def of_query(i: int, each: neighbours.Neighbours) -> list[dict[str, Any]]:
        return [
            {
                'image': train.names[index],
                'class': class_names[found.labels[index]],
                'distance': float(distance),
            }
            for index, distance in zip(
                each.indices[i].tolist(), each.distances[i], strict=True
            )
        ]

    return [
        {
            'image': query.name,
            'class': None if query.label is None else class_names[query.label],
            'nearest': {name: of_query(i, each) for name, each in found.by.items()},
        }
        for i, query in enumerate(found.queries)
    ]
