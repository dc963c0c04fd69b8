"""The features of files or of a split, at any layers, into files."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from alexnet_jax import model
from alexnet_jax.analysis import feature_files, streams
from alexnet_jax.analysis.net import Net
from alexnet_jax.data import images, photographs
from alexnet_jax.data.photographs import Photograph


def shapes(net: Net, taps: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The shape of each tap's values for one image: (H, W, C) or (N,).

    Raises:
      ValueError: there is no such tap.
    """
    net.tapped(taps)  # knows the names
    size = net.network.image_size

    def activations(params: model.Params, images: jax.Array) -> dict[str, jax.Array]:
        return model.merge(net.network, params).activations(images)

    image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    made = jax.eval_shape(activations, net.params, image)
    return {tap: made[tap].shape[1:] for tap in taps}


def files_of(net: Net, paths: Sequence[Path]) -> tuple[int, Iterable[Photograph]]:
    """How many files there are, and each as preparation would store it.

    Raises:
      ValueError: a file or folder is not there, or has no images.
    """
    # Counted first, so that the time left is known without keeping 10^5 names.
    count = sum(1 for _ in photographs.find(paths))
    stored = images.stored(net.config.data)
    found = photographs.read(photographs.find(paths), stored, ahead=2 * net.batch_size)
    return count, found


def write(
    net: Net,
    taps: Sequence[str],
    pictures: Iterable[Photograph],
    count: int,
    folder: Path,
    *,
    form: str,
    views: int,
    memory_bytes: float,
) -> tuple[feature_files.FeatureFiles, int]:
    """Writes the features of all images in one pass.

    Images that cannot be read are named on stderr, and the others are done.

    Args:
      net: the network.
      taps: some of `net.taps`.
      pictures: their pixels are squares as preparation stores them.
      count: how many there are.
      folder: where the files go.
      form: a key of `feature_files.WRITERS`.
      views: 1, the centre crop, or 10, whose features are averaged.
      memory_bytes: of the features that are held before a part is written.

    Returns:
      the files, and how many images could not be read.

    Raises:
      ValueError: there is no such tap; the folder cannot be used.
    """
    of_one = shapes(net, taps)
    writer = feature_files.FeatureFiles(
        folder, form, of_one, memory_bytes=memory_bytes, expected=count
    )
    bad = 0
    compiled = net.tapped(taps, views)
    with progress_bar(count) as bar:
        for batch, made in streams.batches(compiled, pictures, net.batch_size):
            good = [picture for picture in batch if picture.pixels is not None]
            for picture in batch:
                if picture.pixels is None:
                    bad += 1
                    name = photographs.name(picture.path)
                    bar.write(f'skipped {name}: {picture.problem}', file=sys.stderr)
            if made is not None:
                writer.add(made, _rows(good, net.class_names))
            bar.update(len(batch))
    writer.close(
        {
            'workdir': str(net.workdir),
            'step': net.step,
            'layers': {
                feature_files.tap_name(tap): list(shape)
                for tap, shape in of_one.items()
            },
            'views': views,
            'not_read': bad,
        }
    )
    return writer, bad


def _rows(
    pictures: Sequence[Photograph], class_names: Sequence[str]
) -> dict[str, list[str]]:
    rows = {'image': [photographs.name(picture.path) for picture in pictures]}
    classes = [class_names[p.label] for p in pictures if p.label is not None]
    if classes:
        rows['class'] = classes
    return rows


def progress_bar(count: int) -> tqdm:
    """Images done and time left, on a terminal."""
    quiet = not sys.stderr.isatty()
    return tqdm(total=count, unit=' images', disable=quiet, leave=False)
