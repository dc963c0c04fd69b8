"""What a file says of its weights besides the arrays, as JSON; read with distrust."""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax.formats import networks, run_config
from alexnet_jax.formats.weights import (
    Params,
    Preprocessing,
    Weights,
    one_colour,
)

Json = dict[str, Any]

MOST_PIXELS = 4096  # side of a stored square
_MEANS = ('centre', 'crop', 'colour')


def of(weights: Weights) -> Json:
    """All of it but the arrays, which are the parameters and the mean image."""
    seen = weights.preprocessing
    return {
        'network': dict(weights.table),
        'class_names': list(weights.class_names),
        'preprocessing': {
            'stored_size': seen.stored_size,
            'fit': seen.fit,
            'crop_size': seen.crop_size,
            'mean': seen.mean,
            'scale': list(seen.scale),
        },
        'source': weights.source,
        'metrics': dict(weights.metrics),
        'run_config': dict(weights.run_config),
        'digest': weights.digest,
    }


def load(text: str, what: str) -> Any:
    """JSON of a file that anyone may have written.

    Raises:
      ValueError: it is no JSON, or has NaN or a nesting without end.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f'{constant} is no number')

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        reason = 'nested too deeply' if isinstance(error, RecursionError) else error
        raise ValueError(f'{what} is not JSON: {reason}') from None


def weights_from(
    description: Json, params: Params, mean: np.ndarray, what: str
) -> Weights:
    """The weights that a description, parameters and a mean make.

    Args:
      description: as `of` made it, from a file that anyone may have written.
      params: of the file.
      mean: f32[stored, stored, 3], or f32[3] for an image of one colour.
      what: names the file in messages.

    Raises:
      ValueError: something is missing, of the wrong kind or does not fit together, or
        the digest is not that of the parameters.
    """
    table = checked_table(entry(description, 'network', dict, what), what)
    seen = entry(description, 'preprocessing', dict, what)
    stored, crop = sizes(seen, what)
    scale = entry(seen, 'scale', list, what, lambda v: are(v, (int, float), 3))
    names = entry(description, 'class_names', list, what, lambda v: are(v, str))
    metrics = entry(
        description, 'metrics', dict, what, lambda v: are(v.values(), (int, float))
    )
    preprocessing = Preprocessing(
        stored_size=stored,
        fit=entry(seen, 'fit', str, what, lambda v: v in ('crop', 'warp')),
        crop_size=crop,
        mean=entry(seen, 'mean', str, what, lambda v: v in _MEANS),
        mean_image=one_colour(mean, stored) if mean.shape == (3,) else mean,
        scale=(float(scale[0]), float(scale[1]), float(scale[2])),
    )
    # Files of earlier versions have none.
    stated = entry({'run_config': {}} | description, 'run_config', dict, what)
    weights = Weights(
        table=table,
        params=params,
        class_names=tuple(names),
        preprocessing=preprocessing,
        source=entry(description, 'source', str, what),
        metrics=metrics,
        run_config=run_config.checked(stated, table, preprocessing, what)
        if stated
        else {},
    )
    digest = entry(description, 'digest', str, what)
    if digest != weights.digest:
        raise ValueError(
            f'{what}: its digest is {digest[:12]}…, that of its parameters '
            f'{weights.digest[:12]}…: it was damaged or changed'
        )
    return weights


def checked_table(raw: Mapping[str, Any], what: str) -> Json:
    """A network table of a file that anyone may have written, as a config has it.

    Raises:
      ValueError: it is none that a config may hold.
    """
    shipped = networks.config('paper')
    table = dict(networks.plain(raw))
    try:
        with shipped.unlocked():
            shipped.model = ConfigDict(table)
            # Of the whole config, whose other parts fit any network.
            shipped.data.crop_size = shipped.data.stored_size = MOST_PIXELS
        _check_types(table)
        config_lib.validate(shipped)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise ValueError(f'{what}: its network table is not one: {reason}') from None
    return table


def _check_types(table: Mapping[str, Any]) -> None:
    """ConfigDict keeps the type of a key that it has, and here it has none yet."""
    types = networks.types()
    for key, value in table.items():
        if isinstance(value, Mapping):
            _check_types(value)
            continue
        wanted = types.get(key)
        right = type(value) is wanted or (wanted is float and type(value) is int)
        # `lrn` is a table of the network and a switch of a layer.
        if not right:
            raise ValueError(
                f'{key}={value!r}: '
                + (f'expected {wanted.__name__}' if wanted else 'no such key')
            )


def sizes(seen: Json, what: str) -> tuple[int, int]:
    """The stored size and the crop's, of an entry `preprocessing`.

    Raises:
      ValueError: as `entry`.
    """
    stored, crop = (
        entry(seen, key, int, what, lambda v: 1 <= v <= MOST_PIXELS)
        for key in ('stored_size', 'crop_size')
    )
    return stored, crop


def entry(
    mapping: Mapping[str, Any],
    key: str,
    kind: type,
    what: str,
    test: Callable[[Any], bool] = lambda value: True,
) -> Any:
    """An entry of exactly this type that passes the test.

    Raises:
      ValueError: it is missing or another; `what` names where.
    """
    value = mapping.get(key) if isinstance(mapping, Mapping) else None
    if type(value) is not kind or not test(value):
        shown = 'is missing' if value is None else f'is {str(value)[:40]!r}'
        raise ValueError(f'{what}: its entry {key!r} {shown}')
    return value


def are(values: Any, kinds: type | tuple[type, ...], count: int | None = None) -> bool:
    """Whether all values are of these types, and as many as `count`.

    A bool is none, nor is a whole number that no float holds.
    """
    return all(
        isinstance(v, kinds)
        and not isinstance(v, bool)
        and not (isinstance(v, int) and abs(v) > sys.float_info.max)
        for v in values
    ) and count in (None, len(values))
