"""Figure 4 (right) of the paper: queries, and the training images nearest to them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.analysis import drawing
from alexnet_jax.analysis.neighbour_search import Found

SIDE = 0.62  # inches of an image
SAME, OTHER = '#009e73', '#d55e00'  # of the frame: the query's class, another


def spread(found: Found, count: int) -> list[int]:
    """Some of the queries, of as many classes as there are, the first of each first."""
    seen: dict[int | None, int] = {}
    ranks = []
    for i, query in enumerate(found.queries):
        seen[query.label] = seen.get(query.label, -1) + 1
        ranks.append((seen[query.label] if query.label is not None else 0, i))
    return sorted(i for _, i in sorted(ranks)[:count])


def draw(
    found: Found,
    images_at: Callable[[Sequence[int]], np.ndarray],
    class_names: Sequence[str],
    shown: Sequence[int],
    path: Path,
) -> None:
    """Draws a row for each query: the image, then its neighbours of each kind.

    Args:
      found: what `neighbour_search.search` found.
      images_at: the training images u8[n, S, S, 3] at some places.
      class_names: by label.
      shown: which of the queries.
      path: of the picture.
    """
    kinds = list(found.by)
    k = next(iter(found.by.values())).indices.shape[1]
    gap = 0.35  # of an image, between the groups
    widths = [1.0]
    for _ in kinds:
        widths += [gap, *[1.0] * k]
    left, top, between = 0.25, 0.3, 0.06  # inches
    width = SIDE * sum(widths) + between * (len(widths) - 1)
    height = (SIDE + between) * len(shown) - between
    whole_width, whole_height = left + width + 0.05, top + height + 0.05
    figure = drawing.figure(whole_width, whole_height)
    # Laid out by hand: titles are wider than the images below them.
    figure.set_layout_engine('none')
    grid = figure.add_gridspec(
        len(shown),
        len(widths),
        width_ratios=widths,
        left=left / whole_width,
        right=(left + width) / whole_width,
        bottom=0.05 / whole_height,
        top=(0.05 + height) / whole_height,
        wspace=between * len(widths) / (SIDE * sum(widths)),
        hspace=between / SIDE,
    )
    for row, i in enumerate(shown):
        query = found.queries[i]
        axes = figure.add_subplot(grid[row, 0])
        drawing.show_image(axes, query.pixels)
        if row == 0:
            axes.set_title('query', fontsize=8, color=drawing.INK, loc='left')
        name = '' if query.label is None else class_names[query.label]
        if name:
            axes.text(
                -0.06, 0.5, drawing.shortened(name, 16), fontsize=7, ha='right',
                va='center', rotation=90, transform=axes.transAxes, color=drawing.INK,
            )  # fmt: skip
        for group, kind in enumerate(kinds):
            indices = found.by[kind].indices[i]
            pixels = images_at(indices.tolist())
            for place, index in enumerate(indices):
                column = 2 + group * (k + 1) + place
                axes = figure.add_subplot(grid[row, column])
                drawing.show_image(axes, pixels[place])
                if query.label is not None:
                    same = found.labels[index] == query.label
                    frame(axes, SAME if same else OTHER, '-' if same else ':')
                if row == 0 and place == 0:
                    title = f'nearest by {kind}'
                    axes.set_title(title, fontsize=8, color=drawing.INK, loc='left')
    figure.savefig(path)


def frame(axes: 'drawing.Axes', colour: str, style: str) -> None:
    """A frame around an image; its style tells in grey what its colour tells."""
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=1.6, linestyle=style)
