"""The shipped networks by name, and which of them a table or a set of shapes is."""

import functools
import importlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import model
from alexnet_jax.formats.weights import (
    Preprocessing,
    Shape,
    UnknownNetworkError,
    Weights,
    one_colour,
    shapes_of,
    side_by_side,
)

# One name for each network; a run's schedule makes no other network.
NAMES = (
    'paper',
    'released_2012',
    'caffe',
    'caffenet',
    'half',
    'columns',
    'six_conv',
    'one_tower:2014',
    'one_tower:torchvision',
    'cifar10',
    'clothing',
    'demo',
    'cuda_convnet:80sec',
    'cuda_convnet:18pct',
    'cuda_convnet:conv_local_13pct',
    'cuda_convnet:conv_local_11pct',
)
# Keys of a table that change how it starts or is run, not the function that it is once
# trained.
_NOT_THE_FUNCTION = {'init_std', 'init_bias', 'num_classes', 'compute_dtype', 'ties'}
# Keys by which two networks have other shapes.
_OF_SHAPE = {'kernel', 'kind', 'layers', 'reads', 'towers'}


def config(name: str) -> ConfigDict:
    """A shipped config by its name, `file` or `file:argument`.

    Raises:
      ValueError: none has this name.
    """
    file, _, argument = name.partition(':')
    if file not in {known.partition(':')[0] for known in NAMES}:
        raise ValueError(
            f'there is no shipped network {name!r}; there are {", ".join(NAMES)}'
        )
    module = importlib.import_module(f'alexnet_jax.configs.{file}')
    return module.get_config(*([argument] if argument else []))


def table_of(config: ConfigDict) -> dict[str, Any]:
    """`config.model` as plain dicts and tuples."""
    return plain(config.model.to_dict())


def named(table: Mapping[str, Any], *, but: Collection[str] = ()) -> list[str]:
    """The shipped networks that compute the same function as a table, if any.

    Args:
      table: of the network.
      but: keys that do not matter besides, such as `features`.
    """
    wanted = _function(table, but)
    return [name for name in NAMES if _function(_tables()[name], but) == wanted]


def with_widths_of(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """A shipped table with the features of another one's layers."""
    made = dict(_tables()[name])
    for layer in made['layers'][:-1]:
        made[layer] = made[layer] | {'features': table[layer]['features']}
    return made


def _differences(
    table: Mapping[str, Any], name: str, but: Collection[str]
) -> dict[str, str]:
    """The keys in which a table is not the shipped one's function, each with both."""
    found, shipped = (
        dict(config_lib.flat(_function(each, but))) for each in (table, _tables()[name])
    )
    return {
        key: f'{key} is {found.get(key, "absent")} there and '
        f'{shipped.get(key, "absent")} in {name}'
        for key in dict.fromkeys([*shipped, *found])
        if found.get(key) != shipped.get(key)
    }


def preprocessing(name: str, mean: np.ndarray) -> Preprocessing:
    """What a shipped network does to a photograph.

    Args:
      name: of the network.
      mean: f32[S, S, 3], RGB, for squares of S pixels; or f32[3], one colour.
    """
    data = config(name).data
    colour = mean.shape == (3,)
    stored = data.stored_size if colour else len(mean)
    return Preprocessing(
        stored_size=stored,
        fit=data.fit,
        crop_size=data.crop_size,
        mean='colour' if colour else data.mean,
        mean_image=one_colour(mean, stored) if colour else mean,
        scale=scales(data.scale),
    )


def scales(scale: float | Sequence[float]) -> tuple[float, float, float]:
    """`config.data.scale`, for R, G and B."""
    red, green, blue = scale if isinstance(scale, Sequence) else (scale,) * 3
    return float(red), float(green), float(blue)


def check_caffes(weights: Weights, format: str) -> None:
    """Refuses what a format for Caffe's two networks, without settings, cannot hold.

    Raises:
      ValueError: of another network, or one that sees its images in another way: a
        reader of the file could not know.
    """
    untold = {'features', 'width', 'dropout'}
    found = [n for n in named(weights.table, but=untold) if n in ('caffe', 'caffenet')]
    if not found:
        raise ValueError(
            f'{format} has no settings of layers, so that it holds the networks caffe '
            f'and caffenet alone, and {weights.source} is another'
        )
    wanted, seen = config(found[0]).data, weights.preprocessing
    for key, own, theirs in (
        ('crop_size', seen.crop_size, wanted.crop_size),
        ('scale', seen.scale, scales(wanted.scale)),
    ):
        if own != theirs:
            raise ValueError(
                f'{format} does not say {key}, and readers take {theirs}: '
                f'{weights.source} has {own}'
            )


def with_shapes(shapes: Mapping[str, Shape], crop_size: int = 0) -> list[str]:
    """The shipped networks with exactly these shapes, whatever their steps.

    Args:
      shapes: by our names and in our layout; the last layer's tell the classes.
      crop_size: of the images; 0 for each network's own.
    """
    return [
        name
        for name in NAMES
        if (network := _for_shapes(name, shapes, crop_size))
        and shapes_of(network) == dict(shapes)
    ]


def shipped_as(
    table: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    source: str,
    *,
    but: Collection[str] = (),
) -> str:
    """The shipped network that a file holds, in its own or other widths.

    Args:
      table: what the file says of the layers, in our terms.
      shapes: of its arrays, by our names and in our layout.
      source: names the file in messages.
      but: keys that the file does not tell.

    Raises:
      UnknownNetworkError: no shipped network has these shapes.
      ValueError: one has, and is another function of its images.
    """
    if names := named(table, but=but) or named(table, but={*but, 'features'}):
        return names[0]
    but = {*but, 'features'}
    nearest = min(NAMES, key=lambda name: len(_differences(table, name, but)))
    differences = _differences(table, nearest, but)
    if any(key.rpartition('.')[2] in _OF_SHAPE for key in differences):
        raise refuse(shapes, source)
    raise ValueError(
        f'{source} is {nearest} in its shapes, but computes another function: '
        + next(iter(differences.values()))
    )


def refuse(
    shapes: Mapping[str, Shape], source: str, candidates: tuple[str, ...] = NAMES
) -> UnknownNetworkError:
    """The error for shapes of no known network, beside those of the nearest one."""
    tables = {
        name: shapes_of(network)
        for name in candidates
        if (network := _for_shapes(name, shapes, 0) or _own(name))
    }
    nearest = max(
        tables,
        key=lambda name: sum(
            shapes.get(key) == shape for key, shape in tables[name].items()
        ),
    )
    return UnknownNetworkError(
        f'{source} holds none of the networks that are known here ('
        f'{", ".join(candidates)}); the nearest is {nearest}',
        side_by_side(shapes, tables[nearest], (source, nearest)),
    )


def _for_shapes(
    name: str, shapes: Mapping[str, Shape], crop_size: int
) -> model.Network | None:
    """A shipped network with as many classes as the shapes have, or None."""
    table, shipped = _tables()[name], config(name)
    bias = shapes.get(f'{table["layers"][-1]}/bias', ())
    if len(bias) != 1 or not bias[0]:
        return None
    try:
        return model.network_from_config(
            table, crop_size or shipped.data.crop_size, bias[0]
        )
    except ValueError:  # not for crops of this size
        return None


def _own(name: str) -> model.Network:
    shipped = config(name)
    return model.network_from_config(
        shipped.model, shipped.data.crop_size, shipped.model.num_classes or 10
    )


@functools.cache
def types() -> dict[str, type]:
    """The type of each key of a table, of the layers' rows and the steps' settings."""
    found = {}

    def add(table: Mapping[str, Any]) -> None:
        for key, value in table.items():
            if isinstance(value, Mapping):
                add(value)
            else:
                found[key] = type(value)

    for table in _tables().values():
        add(table)
    return found


@functools.cache
def _tables() -> dict[str, dict[str, Any]]:
    return {name: table_of(config(name)) for name in NAMES}


def _function(table: Mapping[str, Any], but: Collection[str] = ()) -> Any:
    """What of a table decides the trained function, to compare."""
    unread = {*_NOT_THE_FUNCTION, *but}
    if table.get('towers') == 1:  # which is all there is to read and to norm across
        unread |= {'across_towers', 'reads'}
    return {
        key: _function(value, unread) if isinstance(value, Mapping) else plain(value)
        for key, value in table.items()
        if key not in unread
    }


def plain(value: Any) -> Any:
    """Dicts and tuples in place of what JSON or ConfigDict makes of them."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value
