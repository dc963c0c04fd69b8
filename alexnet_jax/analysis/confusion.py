"""Which classes a network takes for which: per class, as a matrix, the worst pairs."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.analysis import drawing, prediction
from alexnet_jax.system import tables

WORST_PAIRS = 10
NAMED = 24  # classes whose names fit beside the matrix
COUNTED = 15  # classes whose counts fit into it


@dataclasses.dataclass(frozen=True)
class PerClass:
    """How a network does on the examples of one class."""

    name: str
    examples: int
    top1_error: float
    top5_error: float
    taken_for: str  # the class that it is most often taken for, '' if it never is


def matrix(found: prediction.Predictions) -> np.ndarray:
    """i64[classes, classes]: examples by their class (row) and best guess (column)."""
    guesses = found.log_probabilities.argmax(1)
    classes = found.log_probabilities.shape[1]
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (found.labels, guesses), 1)
    return counts


def per_class(
    found: prediction.Predictions, class_names: Sequence[str]
) -> list[PerClass]:
    """A row for each class that has examples, in the order of the labels.

    The errors are those of the totals, where ties count in part.
    """
    _, top1, top5, _ = prediction.rows(found.log_probabilities, found.labels)
    counts = matrix(found)
    rows = []
    for label, name in enumerate(class_names):
        own = found.labels == label
        if not own.any():
            continue
        others = counts[label].copy()
        others[label] = 0
        rows.append(
            PerClass(
                name=name,
                examples=int(own.sum()),
                top1_error=float(top1[own].mean(dtype=np.float64)),
                top5_error=float(top5[own].mean(dtype=np.float64)),
                taken_for=class_names[others.argmax()] if others.any() else '',
            )
        )
    return rows


def table(rows: Sequence[PerClass], most: int = 20) -> str:
    """The classes as aligned text, the worst first and no more than `most` of them."""
    worst = sorted(rows, key=lambda row: -row.top1_error)
    cells = [['class', 'examples', 'accuracy', 'most often taken for']]
    cells += [
        [r.name, f'{r.examples:,}', f'{1 - r.top1_error:.1%}', r.taken_for]
        for r in worst[:most]
    ]
    text = tables.aligned(cells, left=(0, 3))
    left_out = len(worst) - most
    return text + (f'\n… and {left_out:,} better ones' if left_out > 0 else '')


def worst_pairs(
    counts: np.ndarray, class_names: Sequence[str]
) -> list[tuple[str, str, int]]:
    """(class, taken for, how often), the most frequent mistakes first."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind='stable')[:WORST_PAIRS]
    places = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        (class_names[row], class_names[column], int(wrong[row, column]))
        for row, column in places
        if wrong[row, column]
    ]


def write_csv(
    path: Path,
    counts: np.ndarray,
    class_names: Sequence[str],
) -> None:
    """A row per class, a column per guess."""
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(['class', *class_names])
        for name, row in zip(class_names, counts.tolist(), strict=True):
            writer.writerow([name, *row])


def write_per_class(path: Path, rows: Sequence[PerClass]) -> None:
    """A line for each class."""
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow([field.name for field in dataclasses.fields(PerClass)])
        writer.writerows(dataclasses.astuple(row) for row in rows)


def draw(counts: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Draws the matrix, each row as shares of its class, and the worst pairs beside."""
    present = np.flatnonzero(counts.sum(1) + counts.sum(0))
    counts = counts[np.ix_(present, present)]
    names = [class_names[i] for i in present.tolist()]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    pairs = worst_pairs(counts, names)
    figure = drawing.figure(11, 6.2)
    left, right = figure.subplots(1, 2, width_ratios=[3, 1.5])
    # From white to dark: the same in grey.
    left.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    drawing.plain(left)
    left.set_xlabel('guess', color=drawing.INK)
    left.set_ylabel('class', color=drawing.INK)
    left.set_title('share of each class (%)', loc='left', fontsize=11,
                   color=drawing.INK)  # fmt: skip
    if len(names) <= NAMED:
        short = [drawing.shortened(name, 16) for name in names]
        places = np.arange(len(names))
        left.set_xticks(places, short, rotation=45, ha='right')
        left.set_yticks(places, short)
    else:
        left.set_xticks([])
        left.set_yticks([])
    if len(names) <= COUNTED:
        for (row, column), share in np.ndenumerate(shares):
            if counts[row, column]:
                left.text(column, row, f'{100 * share:.0f}', ha='center', va='center',
                          fontsize=8, color='white' if share > 0.5 else drawing.INK)  # fmt: skip  # noqa: E501
    drawing.plain(right)
    right.set_title('most frequent mistakes', loc='left', fontsize=11,
                    color=drawing.INK)  # fmt: skip
    labels = [
        f'{drawing.shortened(a, 14)} → {drawing.shortened(b, 14)}' for a, b, _ in pairs
    ]
    right.barh(range(len(pairs)), [n for *_, n in pairs], color=drawing.LIGHT,
               height=0.75)  # fmt: skip
    for place, (*_, count) in enumerate(pairs):
        right.text(count, place, f' {count:,}', va='center', fontsize=8,
                   color=drawing.INK)  # fmt: skip
    right.set_yticks(range(len(pairs)), labels)
    right.set_ylim(WORST_PAIRS - 0.5, -0.5)
    right.set_xlim(0, 1.2 * max([n for *_, n in pairs], default=1))
    right.set_xticks([])
    figure.savefig(path)
