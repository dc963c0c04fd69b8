"""Tables and shapes as aligned text."""

from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Lays rows out in columns of equal width, two spaces apart.

    Args:
      rows: of equally many cells; the first is the heading.
      left: columns that are aligned to the left; the others are numbers.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
        '  '.join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def shape(extents: Sequence[int]) -> str:
    """A shape as `11×11×3×96`."""
    return '×'.join(map(str, extents))
