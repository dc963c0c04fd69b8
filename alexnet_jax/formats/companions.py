"""Files that go with weights and hold none, as text for `inspect`.

Caffe's mean image (.binaryproto) and its definition of a net (.prototxt), and a program
of `jax_export`.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alexnet_jax import model
from alexnet_jax.formats import caffe, caffe_net, description, networks
from alexnet_jax.formats.weights import array_digest, shapes_of
from alexnet_jax.system import tables

_MOST_BYTES = 50_000_000  # of a description: a million names of classes


def text(path: Path) -> str | None:
    """What such a file holds; None for a file of another kind.

    Raises:
      ValueError: it is damaged, or not what its name says.
    """
    kind = _KINDS.get(path.suffix)
    return kind(path) if kind else None


def _mean(path: Path) -> str:
    image = caffe.read_mean(path)
    rows = [('channel', 'mean', 'deviation', 'least', 'most')]
    for i, channel in enumerate('RGB'):
        own = image[..., i].astype('f8')
        mean, deviation = f'{own.mean():.6g}', f'{own.std():.6g}'
        rows.append((channel, mean, deviation, f'{own.min():.6g}', f'{own.max():.6g}'))
    return '\n'.join(
        [
            tables.aligned(rows, left=(0,)),
            '',
            f'a mean image of {tables.shape(image.shape)}, which Caffe holds as BGR, '
            'channel by channel',
            f'sha256, as RGB: {array_digest(image)}',
        ]
    )


def _definition(path: Path) -> str:
    layers = caffe.layers(path)
    rows = [('layer', 'type', 'settings')]
    for layer in layers:
        settings = ', '.join(
            f'{_shown(key)} {_shown(value)}'
            for key, values in layer.settings.items()
            for value in values
            if not isinstance(value, dict)  # fillers, which say how it starts
        )
        rows.append((_shown(layer.name), layer.type, settings))
    return '\n'.join(
        [
            tables.aligned(rows, left=(0, 1, 2)),
            '',
            "a definition in Caffe's words, without weights",
            f'network: {_network_of(layers)}',
        ]
    )


def _network_of(layers: list[caffe_net.Layer]) -> str:
    try:
        table = caffe_net.table_of(layers)
    except ValueError as error:
        return f'none that is shipped: {error}'
    if names := networks.named(table):
        return ' or '.join(names)
    if names := networks.named(table, but={'features'}):
        return f'{" or ".join(names)} in other widths'
    return 'none that is shipped'


def _program(path: Path) -> str:
    """Of the program itself nothing is read but its digest."""
    said = path.with_name(path.name + '.json')
    if not said.is_file() or said.stat().st_size > _MOST_BYTES:
        raise ValueError(
            f'{path}: what it takes and gives stands in {said.name}, which export '
            'writes beside it, and which is not there'
        )
    what = str(said)
    stated = description.load(said.read_text('utf-8', 'replace'), what)
    about = description.entry(stated, 'program', dict, what)
    platforms = description.entry(
        about, 'platforms', list, what, lambda v: description.are(v, str)
    )
    classes = description.entry(
        about, 'classes', int, what, lambda v: 1 <= v <= 1_000_000
    )
    seen = description.entry(stated, 'preprocessing', dict, what)
    stored, crop = description.sizes(seen, what)
    table = description.entry(stated, 'network', dict, what)
    table = description.checked_table(table, what)
    try:
        shapes = shapes_of(model.network_from_config(table, crop, classes))
    except ValueError as error:
        raise ValueError(f'{what}: {error}') from None
    with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
    if (claimed := description.entry(about, 'sha256', str, what)) != digest:
        raise ValueError(
            f'{path} is not the program that {said.name} is about: its SHA-256 is '
            f'{digest[:12]}…, and that one has {claimed[:12]}…'
        )
    rows = [('array', 'shape')]
    rows += [(name, tables.shape(shape)) for name, shape in shapes.items()]
    return '\n'.join(
        [
            tables.aligned(rows, left=(0, 1)),
            '',
            f'a program of StableHLO for {", ".join(platforms)}',
            f'takes: squares uint8[N, {stored}, {stored}, 3], RGB',
            f'gives: probabilities float32[N, {classes}]',
            f'network: {" or ".join(networks.named(table)) or "none that is shipped"}',
            f'source: {description.entry(stated, "source", str, what)}',
            f'digest: {description.entry(stated, "digest", str, what)}',
            f'sha256: {digest}',
        ]
    )


def _shown(value: Any) -> str:
    found = str(value)[:60]
    return found if found.isprintable() else repr(found)


_KINDS: dict[str, Callable[[Path], str]] = {
    '.binaryproto': _mean,
    '.prototxt': _definition,
    '.jax_export': _program,
}
