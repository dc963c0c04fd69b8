"""Tables and shapes as aligned text."""

from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Joins rows of cells to lines whose columns have equal widths.

    Args:
      rows: the header first.
      right: columns that are aligned at the right, as numbers are.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
        '  '.join(
            f'{cell:>{width}}' if column in right else f'{cell:<{width}}'
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def shape(extents: Sequence[int]) -> str:
    """A shape as `11×11×3×96`."""
    return '×'.join(map(str, extents))
