"""What a benchmark found, as paragraphs and tables, for a file and for a terminal."""

from collections.abc import Sequence

from alexnet_jax.system import tables

Table = list[list[str]]  # the first row is the heading
Report = list[str | Table]


def as_markdown(report: Sequence[str | Table]) -> str:
    """The report as its record keeps it."""
    return '\n\n'.join(
        part if isinstance(part, str) else markdown_table(part[0], part[1:])
        for part in report
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def as_text(report: Sequence[str | Table]) -> str:
    """The report as a terminal shows it."""
    return '\n\n'.join(
        part if isinstance(part, str) else tables.aligned(part) for part in report
    )
