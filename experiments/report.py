"""What a benchmark found, as paragraphs and tables, for a file and for a terminal."""

from collections.abc import Sequence

from alexnet_jax.system import tables
from experiments.benchmark import rounds

Table = list[list[str]]  # the first row is the heading
Report = list[str | Table]


def as_markdown(report: Sequence[str | Table]) -> str:
    """The report as its record keeps it."""
    return '\n\n'.join(
        part if isinstance(part, str) else rounds.table(part[0], part[1:])
        for part in report
    )


def as_text(report: Sequence[str | Table]) -> str:
    """The report as a terminal shows it."""
    return '\n\n'.join(
        part if isinstance(part, str) else tables.aligned(part) for part in report
    )
