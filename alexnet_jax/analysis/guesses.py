"""A network's best guesses for files, as a table, CSV, JSON lines or for ILSVRC."""

import csv
import dataclasses
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from tqdm import tqdm

from alexnet_jax.analysis import streams
from alexnet_jax.analysis.net import Net
from alexnet_jax.data import images, photographs

FORMATS = ('table', 'csv', 'jsonl', 'ilsvrc')
ILSVRC_GUESSES = 5
WIDEST_NAME = 100  # of a file in the table; longer ones push their row aside


@dataclasses.dataclass(frozen=True)
class Guess:
    """What a network says of one file."""

    path: Path
    label: str  # the class that the file's folder is named after, or ''
    classes: np.ndarray  # i32[k], the most probable first
    probabilities: np.ndarray  # f32[k]


@dataclasses.dataclass(frozen=True)
class Problem:
    """A file that could not be read."""

    path: Path
    reason: str


def of_files(
    net: Net, files: Iterable[Path], *, top: int, views: int
) -> Iterator[Guess | Problem]:
    """Guesses for files in their order, decoded as preparation does.

    Args:
      net: the network.
      files: of images, see `photographs.find`.
      top: how many classes of each.
      views: 1 or 10.
    """
    read = photographs.read(
        files, images.stored(net.config.data), ahead=2 * net.batch_size
    )
    return of_photographs(net, read, top=top, views=views)


def of_photographs(
    net: Net, read: Iterable[photographs.Photograph], *, top: int, views: int
) -> Iterator[Guess | Problem]:
    """Guesses for what is decoded already; arguments as for `of_files`."""
    names = frozenset(net.class_names)
    found = streams.batches(net.log_probabilities(views), read, net.batch_size)
    for batch, log_probs in found:
        rows = iter(() if log_probs is None else np.asarray(log_probs))
        for photograph in batch:
            path = photograph.path
            if photograph.pixels is None:
                yield Problem(path, photograph.problem)
                continue
            row = next(rows)
            # Stable, so that the first of equal classes comes first.
            best = np.argsort(-row, kind='stable')[:top]
            folder = path.absolute().parent.name
            yield Guess(
                path, folder if folder in names else '', best, np.exp(row[best])
            )


@dataclasses.dataclass(frozen=True)
class Counted:
    """How many files there are, and the letters of the longest name.

    Counted first, so that the time left is known and columns are aligned, without
    keeping the names of 10^5 files.
    """

    total: int
    widest: int


def count(paths: Sequence[Path]) -> Counted:
    """Counts what is predicted for files and folders.

    Raises:
      ValueError: as `photographs.find`.
    """
    total = widest = 0
    for path in photographs.find(paths):
        total, widest = total + 1, max(widest, len(photographs.name(path)))
    return Counted(total, widest)


def write(
    net: Net,
    paths: Sequence[Path],
    counted: Counted,
    file: TextIO,
    *,
    how: str,
    top: int = 5,
    views: int = 1,
    numbers: Sequence[int] | None = None,
    shown: int = 0,
) -> tuple[list[Guess], int]:
    """Writes the guesses for files and folders as they come, a line each.

    Files that cannot be read are named on stderr, and the others are done, but for
    'ilsvrc', whose lines have no names.

    Args:
      net: the network.
      paths: files and folders.
      counted: see `count`.
      file: where the lines go.
      how: one of FORMATS.
      top: how many classes of each.
      views: 1 or 10.
      numbers: for 'ilsvrc', the number of each class; None for 1, 2, … in order.
      shown: how many guesses to hand back, evenly spread over the files.

    Returns:
      the guesses that are to be shown, and how many files could not be read.

    Raises:
      ValueError: for 'ilsvrc', a file could not be read.
    """
    total = counted.total
    top = min(ILSVRC_GUESSES if how == 'ilsvrc' else top, len(net.class_names))
    line = {
        'table': _table(net.class_names, top, min(counted.widest, WIDEST_NAME)),
        'csv': _csv(net.class_names, top),
        'jsonl': _jsonl(net.class_names),
        'ilsvrc': _ilsvrc(numbers or range(1, len(net.class_names) + 1)),
    }[how]
    wanted = {int(i) for i in np.linspace(0, total - 1, min(shown, total))}
    kept: list[Guess] = []
    bad = 0
    quiet = not sys.stderr.isatty() or total < 2 * net.batch_size
    with tqdm(total=total, unit=' images', disable=quiet, leave=False) as bar:
        if header := line(None):
            bar.write(header, file=file, end='')
        guesses = of_files(net, photographs.find(paths), top=top, views=views)
        for index, guess in enumerate(guesses):
            bar.update()
            if isinstance(guess, Problem):
                if how == 'ilsvrc':
                    raise ValueError(
                        f'{photographs.name(guess.path)}: {guess.reason}; the lines of '
                        'ilsvrc have no names, so that each image needs its own: mend '
                        'or remove the file, or take --format=csv'
                    )
                bad += 1
                bar.write(
                    f'skipped {photographs.name(guess.path)}: {guess.reason}',
                    file=sys.stderr,
                )
                continue
            bar.write(line(guess), file=file, end='')
            # The next good one stands for one that cannot be read.
            if len(kept) < sum(i <= index for i in wanted):
                kept.append(guess)
    return kept, bad


Line = Callable[[Guess | None], str]  # None: the heading


def _table(names: Sequence[str], top: int, width: int) -> Line:
    of_name = max(map(len, names))

    def line(guess: Guess | None) -> str:
        if guess is None:
            cells = ['file'.ljust(width)]
            cells += [f'{i + 1}'.ljust(of_name + 8) for i in range(top)]
        else:
            cells = [photographs.name(guess.path).ljust(width)]
            for best, p in zip(guess.classes, guess.probabilities, strict=True):
                cells.append(f'{names[best].ljust(of_name)} {p:7.2%}')
        return '  '.join(cells).rstrip() + '\n'

    return line


def _csv(names: Sequence[str], top: int) -> Line:
    def line(guess: Guess | None) -> str:
        if guess is None:
            ranks = range(1, top + 1)
            cells = ['file', 'label']
            cells += [f'{what}_{i}' for i in ranks for what in ('class', 'probability')]
        else:
            pairs = zip(guess.classes, guess.probabilities, strict=True)
            cells = [photographs.name(guess.path), guess.label]
            cells += itertools.chain(*((names[c], f'{p:.6g}') for c, p in pairs))
        text = io.StringIO()
        csv.writer(text, lineterminator='\n').writerow(cells)
        return text.getvalue()

    return line


def _jsonl(names: Sequence[str]) -> Line:
    def line(guess: Guess | None) -> str:
        if guess is None:
            return ''
        pairs = zip(guess.classes, guess.probabilities.tolist(), strict=True)
        content = {
            'file': photographs.name(guess.path),
            'label': guess.label or None,
            'top': [{'class': names[c], 'probability': p} for c, p in pairs],
        }
        return json.dumps(content, ensure_ascii=False) + '\n'

    return line


def _ilsvrc(numbers: Sequence[int]) -> Line:
    def line(guess: Guess | None) -> str:
        if guess is None:
            return ''
        return ' '.join(str(numbers[best]) for best in guess.classes) + '\n'

    return line


def ilsvrc_numbers(file: Path, class_names: Sequence[str]) -> list[int]:
    """The numbers of classes in ILSVRC's development kit.

    Args:
      file: its map_clsloc.txt, or any with lines `n02119789 1 kit_fox`.
      class_names: WordNet's numbers, such as n02119789.

    Raises:
      ValueError: the file cannot be read or lacks a class.
    """
    try:
        lines = file.read_text(encoding='utf-8').splitlines()
        found = {
            line.split()[0]: int(line.split()[1]) for line in lines if line.strip()
        }
    except (OSError, ValueError, IndexError) as error:
        raise ValueError(
            f'--class_numbers={file}: expected lines such as "n02119789 1 kit_fox" '
            f'({error})'
        ) from None
    if missing := [name for name in class_names if name not in found]:
        raise ValueError(
            f'--class_numbers={file} has no number for {", ".join(missing[:3])}'
            + (f' and {len(missing) - 3} more' if len(missing) > 3 else '')
        )
    return [found[name] for name in class_names]
