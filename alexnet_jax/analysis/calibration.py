"""Whether a network is right as often as it says: reliability diagram and ECE.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, 2017.
"""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.analysis import drawing, prediction

BINS = 15  # of that paper


@dataclasses.dataclass(frozen=True)
class Bin:
    """The examples whose best guess has a probability in (low, high]."""

    low: float
    high: float
    examples: int
    confidence: float  # the mean probability of the best guesses; 0 without examples
    accuracy: float  # how many of these guesses are right


def bins(found: prediction.Predictions, count: int = BINS) -> list[Bin]:
    """Bins of equal width; a guess that ties with others is right in part."""
    confidence = found.probabilities.max(1).astype(np.float64)
    _, wrong, _, _ = prediction.rows(found.log_probabilities, found.labels)
    right = 1.0 - wrong.astype(np.float64)
    of_example = np.clip(np.ceil(confidence * count).astype(int) - 1, 0, count - 1)
    made = []
    for i in range(count):
        own = of_example == i
        n = int(own.sum())
        made.append(
            Bin(
                low=i / count,
                high=(i + 1) / count,
                examples=n,
                confidence=float(confidence[own].mean()) if n else 0.0,
                accuracy=float(right[own].mean()) if n else 0.0,
            )
        )
    return made


def expected_error(of_bins: Sequence[Bin]) -> float:
    """ECE: the mean of |accuracy − confidence| over the bins, by their examples."""
    total = sum(b.examples for b in of_bins)
    return sum(b.examples * abs(b.accuracy - b.confidence) for b in of_bins) / total


def write_csv(path: Path, of_bins: Sequence[Bin]) -> None:
    """A line for each bin."""
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow([field.name for field in dataclasses.fields(Bin)])
        writer.writerows(dataclasses.astuple(b) for b in of_bins)


def draw(of_bins: Sequence[Bin], path: Path) -> None:
    """Draws accuracy against confidence, above the number of examples of each bin."""
    width = of_bins[0].high - of_bins[0].low
    centres = [(b.low + b.high) / 2 for b in of_bins]
    figure = drawing.figure(5.2, 6.2)
    top, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    top.plot([0, 1], [0, 1], color=drawing.INK, linewidth=1, linestyle='--',
             label='as often as it says')  # fmt: skip
    filled = [b for b in of_bins if b.examples]
    top.bar([(b.low + b.high) / 2 for b in filled], [b.accuracy for b in filled],
            width=0.92 * width, color=drawing.LIGHT, label='accuracy')  # fmt: skip
    top.plot([b.confidence for b in filled], [b.accuracy for b in filled], 'o',
             color=drawing.DARK, markersize=5, label='mean of the bin')  # fmt: skip
    top.set_title(
        f'expected calibration error {expected_error(of_bins):.1%}', loc='left',
        fontsize=11, color=drawing.INK,
    )  # fmt: skip
    top.set_ylabel('accuracy', color=drawing.INK)
    top.set_ylim(0, 1)
    figure.legend(loc='outside lower center', ncols=3, frameon=False, fontsize=9,
                  labelcolor=drawing.INK)  # fmt: skip
    below.bar(centres, [b.examples for b in of_bins], width=0.92 * width,
              color=drawing.DARK)  # fmt: skip
    below.set_ylabel('examples', color=drawing.INK)
    below.set_xlabel('probability of the best guess', color=drawing.INK)
    below.set_xlim(0, 1)
    for axes in (top, below):
        drawing.plain(axes)
        axes.grid(axis='y', color=drawing.RULE, linewidth=0.6)
        axes.set_axisbelow(True)
    figure.savefig(path)
