"""The pictures that a run makes of itself: first kernels, augmented images."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from alexnet_jax import mesh as mesh_lib
from alexnet_jax.model import Network, Params
from alexnet_jax.run import writers
from alexnet_jax.system import files


def show_parameters(
    params: Params, network: Network, now: int, writer: writers.MetricWriter
) -> None:
    """Writes the histograms of every parameter and the picture of the first kernels."""
    on_host = jax.tree.map(mesh_lib.to_host, params)
    values = {
        f'{layer}/{name}': value
        for layer, weights in on_host.items()
        for name, value in weights.items()
    }
    writer.histograms(now, values)
    writer.images(now, {'conv1_kernels': first_kernels(params, network)[None]})


def show_batch(
    batch: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    writer: writers.MetricWriter,
) -> None:
    """Writes 16 images of the first batch as the network sees them, with their classes.

    Args:
      batch: `image`, `label` and `colour_shift`, see `step.make_train_step`.
      class_names: by label.
      writer: of the run.
    """
    shift = batch['colour_shift'][:16, None, None]
    shown = np.clip(batch['image'][:16] + shift, 0, 255).astype(np.uint8)
    labels = [class_names[label] for label in batch['label'][:16]]
    writer.images(0, {'augmented_batch': labelled_grid(shown, labels)[None]})


def labelled_grid(
    images: np.ndarray, labels: Sequence[str], *, columns: int = 4, side: int = 128
) -> np.ndarray:
    """Lays images out in rows, each above its label.

    Args:
      images: u8[N, S, S, 3].
      labels: one each; what does not fit under an image is cut.
      columns: images in a row.
      side: of an image in the picture, pixels; small images are enlarged by whole
        pixels.

    Returns:
      u8[H, W, 3].
    """
    zoom = max(1, side // images.shape[1])
    side, text, gap = images.shape[1] * zoom, 16, 4
    rows = -(-len(images) // columns)
    picture = Image.new(
        'RGB', (columns * (side + gap) + gap, rows * (side + text + gap) + gap), 'white'
    )
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=12)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        row, column = divmod(i, columns)
        left, top = gap + column * (side + gap), gap + row * (side + text + gap)
        enlarged = image.repeat(zoom, axis=0).repeat(zoom, axis=1)
        picture.paste(Image.fromarray(enlarged), (left, top))
        while label and draw.textlength(label, font) > side:
            label = label[:-1]
        draw.text((left, top + side), label, 'black', font)
    return np.asarray(picture)


def first_kernels(params: Params, network: Network) -> np.ndarray:
    """The picture of the first layer's kernels, u8[H, W, 3]; all processes call it."""
    kernels = mesh_lib.to_host(params[network.layers[0].name]['kernel'])
    return kernel_grid(kernels, network.towers)


def kernel_grid(kernels: np.ndarray, towers: int) -> np.ndarray:
    """Lays kernels out as Figure 3 of the paper does: tower by tower.

    Each kernel is scaled by its own largest weight, so that middle grey is 0 and every
    kernel uses the full range; sizes cannot be compared between kernels.

    Args:
      kernels: [h, w, 3, F], tower 0's first.
      towers: rows of tower 0 come on top, a wider gap, then tower 1's.

    Returns:
      uint8 [H, W, 3], enlarged by whole pixels.
    """
    height, width, channels, count = kernels.shape
    if channels != 3 or count % towers:
        raise ValueError(
            f'kernels are {kernels.shape} for {towers} towers; they must be '
            f'[h, w, 3, F] with F a multiple of the towers'
        )
    kernels = np.nan_to_num(np.asarray(kernels, np.float32), posinf=0.0, neginf=0.0)
    largest = np.abs(kernels).max(axis=(0, 1, 2))
    scaled = 0.5 + 0.5 * kernels / np.where(largest > 0, largest, 1.0)
    pixels = np.round(255 * scaled).astype(np.uint8).transpose(3, 0, 1, 2)
    zoom = max(1, 44 // height)
    pixels = pixels.repeat(zoom, axis=1).repeat(zoom, axis=2)

    gap = 4
    per_tower = count // towers
    columns = min(16, per_tower)  # the paper's
    rows = -(-per_tower // columns)
    row_height, column_width = height * zoom + gap, width * zoom + gap
    tower_height = rows * row_height + 4 * gap
    image = np.full(
        (towers * tower_height - 3 * gap, columns * column_width + gap, 3),
        255,
        np.uint8,
    )
    for i, kernel in enumerate(pixels):
        tower, place = divmod(i, per_tower)
        row, column = divmod(place, columns)
        y = gap + tower * tower_height + row * row_height
        x = gap + column * column_width
        image[y : y + height * zoom, x : x + width * zoom] = kernel
    return image


def save_png(path: str | Path, image: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] as a PNG file."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, format='PNG', optimize=True)
    files.write_atomically(Path(path), content.getvalue())
