"""Everything about an evaluation in one folder, and the predictions as a file."""

import csv
import io
import json
from pathlib import Path

import numpy as np

from alexnet_jax.analysis import calibration, confusion, drawing, panels, prediction
from alexnet_jax.analysis.ensembles import Evaluation
from alexnet_jax.system import command_line

TOP = 5
MISTAKES, SHOWN, COLUMNS = 100, 12, 6  # listed, and drawn in rows
FILES = (
    'per_class.csv', 'confusion.csv', 'confusion.png', 'calibration.csv',
    'reliability.png', 'mistakes.csv', 'mistakes.png',
)  # fmt: skip
PREDICTIONS = ('.csv', '.jsonl', '.npz')


def check(folder: Path) -> None:
    """Refuses a folder that cannot be made, or pictures that cannot be drawn."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f'--report={folder}: {error.strerror}') from None
    drawing.check(folder / FILES[-1])


def check_predictions(path: Path) -> None:
    """Refuses a name that says no format, or a file that could not be written."""
    if path.suffix not in PREDICTIONS:
        raise ValueError(
            f'--predictions={path}: its suffix says the format: '
            f'{", ".join(PREDICTIONS)}'
        )
    command_line.check_output('predictions', path)


def write(evaluation: Evaluation, folder: Path) -> str:
    """Writes FILES; the text says the worst of them.

    Args:
      evaluation: of a split.
      folder: see `check`.

    Returns:
      The classes, the worst pairs and the calibration as text.
    """
    found, class_names = evaluation.predictions, evaluation.class_names
    per_class = confusion.per_class(found, class_names)
    counts = confusion.matrix(found)
    of_bins = calibration.bins(found)
    confusion.write_per_class(folder / 'per_class.csv', per_class)
    confusion.write_csv(folder / 'confusion.csv', counts, class_names)
    confusion.draw(counts, class_names, folder / 'confusion.png')
    calibration.write_csv(folder / 'calibration.csv', of_bins)
    calibration.draw(of_bins, folder / 'reliability.png')
    _write_mistakes(evaluation, folder)
    pairs = confusion.worst_pairs(counts, class_names)
    lines = [confusion.table(per_class), '']
    lines += [f'{count:,} × {name} taken for {other}' for name, other, count in pairs]
    error = calibration.expected_error(of_bins)
    lines += ['', f'expected calibration error: {error:.2%} ({len(of_bins)} bins)']
    return '\n'.join(lines)


def worst_mistakes(found: prediction.Predictions, count: int) -> np.ndarray:
    """Places of the wrong guesses with the lowest probability of the true class."""
    rows = np.arange(len(found.labels))
    of_label = found.log_probabilities[rows, found.labels]
    wrong = np.flatnonzero(found.log_probabilities.argmax(1) != found.labels)
    return wrong[np.argsort(of_label[wrong], kind='stable')[:count]]


def _write_mistakes(evaluation: Evaluation, folder: Path) -> None:
    found, class_names = evaluation.predictions, evaluation.class_names
    places = worst_mistakes(found, MISTAKES).tolist()
    names = evaluation.split.names()
    classes, probabilities = _best(found.log_probabilities[places])
    titles = [class_names[label] for label in found.labels[places]]
    with (folder / 'mistakes.csv').open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(['id', 'label', 'guess', 'probability'])
        for row, place in enumerate(places):
            guess, p = class_names[classes[row, 0]], probabilities[row, 0]
            writer.writerow([names[place], titles[row], guess, f'{p:.6g}'])
    (folder / 'mistakes.png').unlink(missing_ok=True)
    if shown := places[:SHOWN]:
        panels.draw(
            list(evaluation.split.images(shown)),
            titles[:SHOWN],
            [True] * len(shown),
            [[class_names[c] for c in row[:3]] for row in classes[:SHOWN]],
            [row[:3] for row in probabilities[:SHOWN]],
            folder / 'mistakes.png',
            heading='The worst mistakes: true class, and the best three guesses',
            columns=COLUMNS,
        )


def _best(log_probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best classes of each row and their probabilities, [N, up to TOP]."""
    best = np.argsort(-log_probabilities, axis=1, kind='stable')[:, :TOP]
    return best, np.exp(np.take_along_axis(log_probabilities, best, axis=1))


def write_predictions(evaluation: Evaluation, path: Path) -> None:
    """Writes a line per example, or arrays: id, label, top five, probabilities.

    `.csv` and `.jsonl` have the five best with their probabilities, `.npz` besides the
    probability of every class: `id`, `label` i32[N], `top` i32[N, 5], `probability`
    f32[N, classes] and `class_names`.
    """
    found, class_names = evaluation.predictions, evaluation.class_names
    ids = evaluation.split.names()
    classes, probabilities = _best(found.log_probabilities)
    if path.suffix == '.npz':
        content = io.BytesIO()
        np.savez(
            content,
            id=np.array(ids),
            label=found.labels,
            top=classes.astype(np.int32),
            probability=found.probabilities,
            class_names=np.array(class_names),
        )
        path.write_bytes(content.getvalue())
        return
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        ranks = range(1, classes.shape[1] + 1)
        if path.suffix == '.csv':
            pairs = [f'{what}_{i}' for i in ranks for what in ('class', 'probability')]
            writer.writerow(['id', 'label', *pairs])
        for name, label, best, of_best in zip(
            ids, found.labels, classes, probabilities.tolist(), strict=True
        ):
            guesses = [(class_names[c], p) for c, p in zip(best, of_best, strict=True)]
            if path.suffix == '.csv':
                flat = [cell for c, p in guesses for cell in (c, f'{p:.6g}')]
                writer.writerow([name, class_names[label], *flat])
                continue
            line = {
                'id': name,
                'label': class_names[label],
                'top': [{'class': c, 'probability': p} for c, p in guesses],
            }
            file.write(json.dumps(line, ensure_ascii=False) + '\n')
