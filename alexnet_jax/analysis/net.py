"""A network with all that it needs to see images: `alexnet_jax.load`, `.network`.

import alexnet_jax
net = alexnet_jax.load('runs/demo')
probabilities = net.predict(images)
"""

import dataclasses
import difflib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image

from alexnet_jax import mesh as mesh_lib
from alexnet_jax import model, summary, train_state
from alexnet_jax import step as step_lib
from alexnet_jax import taps as taps_lib
from alexnet_jax.analysis import streams
from alexnet_jax.analysis import views as views_lib
from alexnet_jax.data import augment
from alexnet_jax.data import images as images_lib
from alexnet_jax.data.photographs import Photograph
from alexnet_jax.run import trained
from alexnet_jax.system import config_arguments

# u8[H, W, 3], u8[N, H, W, 3], or a sequence of u8[H, W, 3] of any sizes.
Images = np.ndarray | Sequence[np.ndarray]

Made = TypeVar('Made')
GREY = 127.5  # the mean image of a network that has seen no images


@dataclasses.dataclass(frozen=True)
class Net:
    """A network and how it sees images; it computes on one device.

    Attributes:
      config: of the run, or the shipped one.
      network: the table of layers; `taps` names what they make.
      params: `params['conv1']['kernel']` and `['bias']`, f32. Convolution kernels are
        [rows, columns, inputs of one tower, outputs], dense ones [inputs, outputs].
      class_names: in the order of the probabilities.
      mean_image: f32[S, S, 3] in RGB, 0–255, of squares of `config.data.stored_size`.
      batch_size: images that are computed together.
      workdir: where it comes from; None for random weights.
      step: of the run, after which the weights were saved.
    """

    config: ConfigDict
    network: model.Network
    params: model.Params
    class_names: tuple[str, ...]
    mean_image: np.ndarray
    batch_size: int = 64
    workdir: Path | None = None
    step: int = 0

    @property
    def taps(self) -> tuple[str, ...]:
        """The names that `activations` takes, in the order in which they are computed.

        `conv1/linear` is the weighted sum of a layer, `conv1/lrn` what one of its steps
        makes of it, `conv1` the layer's output.
        """
        return self.network.taps

    def predict(self, images: Images, *, views: int = 1) -> np.ndarray:
        """The probability of each class.

        Args:
          images: RGB, uint8, of any size: [H, W, 3], [N, H, W, 3] or a sequence of
            [H, W, 3].
          views: 1, the centre crop, or 10: the corners and the centre with their
            mirrors, probabilities averaged (§4.1).

        Returns:
          f32[N, classes], in the order of `class_names`; N is 1 for one image.

        Raises:
          ValueError: the images are of another kind, or `views` is another number.
        """
        squares = self.squares(images)
        parts = [
            np.exp(part) for part in self._run(self.log_probabilities(views), squares)
        ]
        return np.concatenate(parts)

    def activations(
        self, images: Images, taps: str | Sequence[str], *, views: int = 1
    ) -> dict[str, np.ndarray]:
        """What the network makes of images, at as many places as are named.

        Args:
          images: as for `predict`.
          taps: one or several of `taps`.
          views: 1, the centre crop, or 10, whose activations are averaged.

        Returns:
          f32[N, rows, columns, channels] or f32[N, units] by tap, the channels of the
          first tower first.

        Raises:
          ValueError: as for `predict`, or there is no such tap.
        """
        named = (taps,) if isinstance(taps, str) else tuple(taps)
        squares = self.squares(images)
        parts = list(self._run(self.tapped(named, views), squares))
        return {tap: np.concatenate([part[tap] for part in parts]) for tap in named}

    def squares(self, images: Images) -> np.ndarray:
        """Images as they are stored for training: resized and cropped to squares.

        A square of the stored size passes unchanged, others by the filter of
        preparation. (Where records are JPEG, preparation compresses its squares; this
        does not, since the pixels may come from such a record.)

        Args:
          images: as for `predict`.

        Returns:
          u8[N, S, S, 3], S = `config.data.stored_size`.
        """
        data = self.config.data
        found = [
            np.asarray(
                images_lib.resized(Image.fromarray(image), data.stored_size, data.fit)
            )
            for image in _each(images)
        ]
        if not found:
            raise ValueError('there are no images: expected one or more')
        return np.stack(found)

    def log_probabilities(self, views: int = 1) -> Callable[[np.ndarray], jax.Array]:
        """Compiled: from u8[B, S, S, 3], squares, to f32[B, classes].

        The result may still be on its way when this returns; `np.asarray` waits.
        """
        step = _predict_step(
            self.network,
            self._mesh,
            views_lib.views(self.config.data, views),
            self.config.data.scale,
        )
        return functools.partial(self._apply, step)

    def tapped(
        self, taps: Sequence[str], views: int = 1
    ) -> Callable[[np.ndarray], dict[str, jax.Array]]:
        """Compiled: from u8[B, S, S, 3], squares, to f32[B, …] by tap, as above."""
        for tap in taps:
            if tap not in self.taps:
                near = difflib.get_close_matches(tap, self.taps, n=1, cutoff=0.0)
                raise ValueError(
                    f'there is no tap {tap!r}; the nearest is {near[0]!r}; there are '
                    f'{", ".join(self.taps)}'
                )
        step = _activations_step(
            self.network,
            self._mesh,
            views_lib.views(self.config.data, views),
            tuple(taps),
            self.config.data.scale,
        )
        return functools.partial(self._apply, step)

    def _apply(
        self,
        step: Callable[[model.Params, jax.Array, jax.Array], Made],
        squares: np.ndarray,
    ) -> Made:
        mean = jax.numpy.asarray(
            augment.mean_to_subtract(self.mean_image, self.config.data)
        )
        return step(
            self.params, jax.device_put(squares, self._mesh.devices.flat[0]), mean
        )

    def _run(
        self, compiled: Callable[[np.ndarray], Made], squares: np.ndarray
    ) -> Iterator[Made]:
        pictures = (Photograph(Path(), square) for square in squares)
        for _, made in streams.batches(compiled, pictures, self.batch_size):
            assert made is not None
            yield made

    @property
    def _mesh(self) -> Mesh:
        return mesh_lib.make_mesh(
            data=1, tower=1, towers=self.network.towers, batch_size=1
        )


def load(workdir: str | os.PathLike[str], *, checkpoint: str = 'best') -> Net:
    """The network of a workdir; its data set is not needed.

    Args:
      workdir: of a run, finished or not, or made by `alexnet_jax.export_workdir`.
      checkpoint: 'best', by validation error, or 'latest'.

    Raises:
      ValueError: there is no such network, or it is damaged.
    """
    if checkpoint not in ('best', 'latest'):
        raise ValueError(f"checkpoint={checkpoint!r}: expected 'best' or 'latest'")
    found = trained.load(Path(workdir), which=checkpoint)
    return Net(
        config=found.config,
        network=found.network,
        params=found.params,
        class_names=found.class_names,
        mean_image=found.mean_image,
        workdir=found.workdir,
        step=found.step,
    )


def network(config: str | ConfigDict, *, seed: int = 0) -> Net:
    """A network with the random weights with which its training begins.

    Its mean image is grey, 127.5 everywhere, and its classes have numbers: as many as
    its config says, or as its data set is known to have, otherwise 10.

    Args:
      config: the name of a shipped config ('paper', 'one_tower:torchvision'), the path
        of a file with a `get_config()`, or a ConfigDict.
      seed: of the weights.

    Raises:
      ValueError: there is no such config.
    """
    if not isinstance(config, ConfigDict):
        config = config_arguments.load(config_arguments.to_file(config))
    table = summary.network_of(config)
    size = config.data.stored_size
    return Net(
        config=config,
        network=table,
        params=train_state.initial_params(table, seed),
        class_names=tuple(map(str, range(table.num_classes))),
        mean_image=np.full((size, size, 3), GREY, np.float32),
    )


def _each(images: Images) -> Iterator[np.ndarray]:
    """The images one by one, checked."""
    of_one = getattr(images, 'ndim', 0) == 3
    for image in [images] if of_one else images:
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(
                f'an image is {pixels.dtype}{list(pixels.shape)}; expected RGB as '
                'uint8[H, W, 3], 0–255, such as np.asarray(Image.open(file).convert('
                "'RGB'))"
            )
        if not pixels.size:
            raise ValueError(f'an image is empty: {list(pixels.shape)}')
        yield pixels


# Compiled once for each network, however many `Net`s have it.
@functools.cache
def _predict_step(
    network: model.Network,
    mesh: Mesh,
    views: tuple[step_lib.View, ...],
    scale: step_lib.Scale,
) -> Callable[[model.Params, jax.Array, jax.Array], jax.Array]:
    return step_lib.make_predict_step(network, mesh, views, scale)


@functools.cache
def _activations_step(
    network: model.Network,
    mesh: Mesh,
    views: tuple[step_lib.View, ...],
    taps: tuple[str, ...],
    scale: step_lib.Scale,
) -> Callable[[model.Params, jax.Array, jax.Array], dict[str, jax.Array]]:
    return taps_lib.make_activations_step(network, mesh, views, taps, scale)
