"""Images with a network's guesses beside them, as Figure 4 (left) of the paper."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet_jax.analysis import drawing
from alexnet_jax.analysis.guesses import Guess
from alexnet_jax.analysis.net import Net
from alexnet_jax.data import images

COLUMNS = 4
SIDE = 256  # pixels of an image that is drawn from its file, at most
NAME = 18  # characters


def draw_guesses(guesses: Sequence[Guess], net: Net, path: Path) -> None:
    """Draws each file's image above the bars of its guesses, and its class if known."""
    draw(
        [_square(g.path, net.config.data.fit) for g in guesses],
        [g.label or g.path.stem for g in guesses],
        [bool(g.label) for g in guesses],
        [[net.class_names[c] for c in g.classes] for g in guesses],
        [g.probabilities for g in guesses],
        path,
    )


def _square(file: Path, fit: str) -> np.ndarray:
    """The file's square, made no larger than it is."""
    encoded = file.read_bytes()
    with Image.open(io.BytesIO(encoded)) as image:
        side = min(SIDE, *image.size)
    return np.asarray(images.square(encoded, side, fit))


def draw(
    pixels: Sequence[np.ndarray],
    titles: Sequence[str],
    known: Sequence[bool],
    classes: Sequence[Sequence[str]],
    probabilities: Sequence[np.ndarray],
    path: Path,
    heading: str = '',
    columns: int = COLUMNS,
) -> None:
    """Draws images in rows, each above the bars of its guesses.

    Args:
      pixels: u8[S, S, 3] each.
      titles: below each image: its true class, or the name of its file.
      known: whether the title is the true class, whose bar then is dark.
      classes: the guesses of each image, the best first.
      probabilities: of the same.
      path: of the picture.
      heading: of the whole.
      columns: images in a row.
    """
    columns = min(columns, len(pixels))
    rows = -(-len(pixels) // columns)
    bars = max(map(len, classes))
    figure = drawing.figure(2.6 * columns, rows * (2.3 + 0.2 * bars) + 0.3)
    if heading:
        figure.suptitle(heading, x=0.01, ha='left', fontsize=11, color=drawing.INK)
    grid = figure.add_gridspec(
        2 * rows, columns, height_ratios=[2.0, 0.2 * bars] * rows
    )
    for i, image in enumerate(pixels):
        row, column = divmod(i, columns)
        axes = figure.add_subplot(grid[2 * row, column])
        drawing.show_image(axes, image)
        axes.set_title(
            drawing.shortened(titles[i], 24),
            y=-0.14,
            fontsize=10,
            fontweight='bold' if known[i] else 'normal',
            color=drawing.INK,
        )
        axes = figure.add_subplot(grid[2 * row + 1, column])
        drawing.plain(axes)
        places = np.arange(len(classes[i]))
        right = [known[i] and name == titles[i] for name in classes[i]]
        colours = [drawing.DARK if is_right else drawing.LIGHT for is_right in right]
        axes.barh(places, probabilities[i], color=colours, height=0.75)
        for place, p in enumerate(probabilities[i].tolist()):
            axes.text(p + 0.02, place, f'{p:.0%}', va='center', fontsize=7,
                      color=drawing.INK)  # fmt: skip
        names = [drawing.shortened(name, NAME) for name in classes[i]]
        axes.set_yticks(places, names)
        axes.set_ylim(bars - 0.5, -0.5)
        axes.set_xlim(0, 1.2)
        axes.set_xticks([])
    figure.savefig(path)
