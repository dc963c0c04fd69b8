"""What travels with a trained network, whatever file it is in."""

import dataclasses
import functools
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_jax import model
from alexnet_jax.system import tables

Shape = tuple[int, ...]
Params = Mapping[str, Mapping[str, np.ndarray]]  # by layer, then `kernel` and `bias`


class UnknownNetworkError(ValueError):
    """A file's shapes are not the network's; `table` has both side by side."""

    def __init__(self, message: str, table: str):
        super().__init__(message)
        self.table = table


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a photograph becomes the network's input; the fields are keys of config.data.

    It is made a square of `stored_size` pixels, RGB at the 0–255 scale; the mean is
    taken from a crop of it, and the rest is multiplied by `scale`.
    """

    stored_size: int  # pixels
    fit: str  # 'crop': short side, centre square; 'warp': both sides
    crop_size: int  # pixels
    mean: str  # as config.data.mean says where the mean image is taken from a crop
    mean_image: np.ndarray  # f32[stored, stored, 3], RGB, 0–255
    scale: tuple[float, float, float]  # of R, G and B, after the mean

    def __post_init__(self) -> None:
        shape = (self.stored_size, self.stored_size, 3)
        if self.mean_image.shape != shape or self.mean_image.dtype != np.float32:
            raise ValueError(
                f'the mean image is {self.mean_image.dtype} of '
                f'{tables.shape(self.mean_image.shape)}, expected float32 of '
                f'{tables.shape(shape)}'
            )
        if not np.isfinite(self.mean_image).all():
            raise ValueError('the mean image has values that are not finite')
        if not all(math.isfinite(s) and s > 0 for s in self.scale):
            raise ValueError(f'scale={self.scale}: expected three numbers > 0')
        if not 0 < self.crop_size <= self.stored_size:
            raise ValueError(
                f'crop_size={self.crop_size}: expected 1 to {self.stored_size}, the '
                'side of the stored squares'
            )

    @property
    def centre_mean(self) -> np.ndarray:
        """What is taken from the centre crop, f32[crop, crop, 3], whatever `mean`."""
        if self.mean == 'colour':
            colour = self.mean_image.mean((0, 1), np.float64).astype(np.float32)
            return np.tile(colour, (self.crop_size, self.crop_size, 1))
        start = (self.stored_size - self.crop_size) // 2
        stop = start + self.crop_size
        return self.mean_image[start:stop, start:stop]


@dataclasses.dataclass(frozen=True)
class Weights:
    """A trained network that can be used where neither its run nor its data are.

    Raises:
      UnknownNetworkError: the parameters are not those of the table.
      ValueError: they are not float32 or not finite, or the classes are not as many as
        the last layer's outputs.
    """

    table: Mapping[str, Any]  # config.model, in plain dicts and tuples
    params: Params  # conv1 … fc8, float32, as `model.AlexNet` has them
    class_names: tuple[str, ...]  # by label; () where the file does not name them
    preprocessing: Preprocessing
    source: str  # one line: the file or run that they come from
    # Measured with these very weights, by the names of a run's metrics: `val/loss` …
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # The rest of the run's config (`run_config.of`); {} where the file does not say.
    run_config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        last = self.table['layers'][-1]
        if 'bias' not in self.params.get(last, {}):
            raise ValueError(f'{self.source}: there is no layer {last!r} with a bias')
        check_params(self.params, self.network, self.source)
        if self.class_names and len(self.class_names) != self.network.num_classes:
            raise ValueError(
                f'{self.source}: {len(self.class_names)} class names for '
                f'{self.network.num_classes} outputs'
            )

    @functools.cached_property
    def network(self) -> model.Network:
        """The network of the table, for these classes and crops."""
        classes = len(self.params[self.table['layers'][-1]]['bias'])
        return model.network_from_config(
            self.table, self.preprocessing.crop_size, classes
        )

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over names, shapes and values of the parameters, in layer order."""
        return digest(self.params, [layer.name for layer in self.network.layers])


def check_names(names: Sequence[str], what: str) -> None:
    """Refuses names that two classes share: classes are found by their names.

    Args:
      names: of the classes.
      what: they come from, for messages.

    Raises:
      ValueError: some are repeated.
    """
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f'{what}: {len(repeated)} class names are repeated, such as '
            f'{repeated[0]!r:.60}; give each class a name of its own in --classes=FILE'
        )


def one_colour(colour: np.ndarray, size: int) -> np.ndarray:
    """An image f32[size, size, 3] of one colour f32[3]."""
    return np.broadcast_to(colour.astype(np.float32), (size, size, 3))


def colour_of(image: np.ndarray) -> np.ndarray | None:
    """The colour f32[3] of an image that has but one, else None."""
    return image[0, 0].copy() if (image == image[0, 0]).all() else None


def digest(params: Params, layers: Sequence[str]) -> str:
    """SHA-256 over the parameters of some layers: names, shapes, float32 values."""
    sha = hashlib.sha256()
    for layer in layers:
        for name in ('kernel', 'bias'):
            value = np.ascontiguousarray(params[layer][name], '<f4')
            sha.update(f'{layer}/{name} {value.shape} '.encode())
            sha.update(value.data)
    return sha.hexdigest()


def array_digest(value: np.ndarray) -> str:
    """SHA-256 of the bytes of an array, little-endian, rows first."""
    little = np.ascontiguousarray(value, value.dtype.newbyteorder('<'))
    return hashlib.sha256(little.data).hexdigest()


def shapes_of(network: model.Network) -> dict[str, Shape]:
    """`conv1/kernel` and its shape, for every parameter in order."""
    return {
        f'{layer.name}/{name}': shape
        for layer in model.layer_shapes(network)
        for name, shape in (('kernel', layer.kernel), ('bias', layer.bias))
    }


def check_params(params: Params, network: model.Network, source: str) -> None:
    """Refuses parameters that are not those of a network, or not finite.

    Raises:
      UnknownNetworkError: other names or shapes.
      ValueError: another dtype, or values that are not finite.
    """
    flat = {
        f'{layer}/{name}': value
        for layer, of_layer in params.items()
        for name, value in of_layer.items()
    }
    check_shapes({name: value.shape for name, value in flat.items()}, network, source)
    for name, value in flat.items():
        if value.dtype != np.float32:
            raise ValueError(f'{source}: {name} is {value.dtype}, expected float32')
        if bad := value.size - int(np.isfinite(value).sum()):
            raise ValueError(
                f'{source}: {bad:,} of the {value.size:,} values of {name} are not '
                'finite'
            )


def check_shapes(
    found: Mapping[str, Shape], network: model.Network, source: str
) -> None:
    """Refuses shapes that are not those of a network.

    Args:
      found: in a file, by our names (`conv1/kernel`) and in our layout.
      network: the one it should be.
      source: names the file in the message.

    Raises:
      UnknownNetworkError: with both shape tables side by side.
    """
    wanted = shapes_of(network)
    if dict(found) != wanted:
        different = sorted(
            name
            for name in found.keys() | wanted.keys()
            if found.get(name) != wanted.get(name)
        )
        raise UnknownNetworkError(
            f'{source} holds another network: {len(different)} of '
            f'{len(found.keys() | wanted.keys())} shapes differ, the first '
            f'{different[0]} ({_shape(found.get(different[0]))} there, '
            f'{_shape(wanted.get(different[0]))} expected)',
            side_by_side(found, wanted, (source, 'expected')),
        )


def side_by_side(
    found: Mapping[str, Shape], wanted: Mapping[str, Shape], headings: tuple[str, str]
) -> str:
    """Two tables of shapes as text: rows of the same name on one line, `≠` between."""
    rows = [('', headings[0], '', headings[1])]
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        left, right = found.get(name), wanted.get(name)
        rows.append((name, _shape(left), '=' if left == right else '≠', _shape(right)))
    return tables.aligned(rows, left=(0, 1, 2, 3))


def _shape(shape: Shape | None) -> str:
    return 'not there' if shape is None else tables.shape(shape)
