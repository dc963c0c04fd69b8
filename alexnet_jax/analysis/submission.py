"""Guesses for a split without labels, as ILSVRC takes them: five numbers a line."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from alexnet_jax.analysis import guesses, net, prediction
from alexnet_jax.data import images, photographs, prepare, tfds_sets
from alexnet_jax.system import files


def write(
    workdir: Path,
    out: Path,
    *,
    split: str,
    which: str,
    views: int,
    changes: Mapping[str, Any],
    class_numbers: Path | None,
) -> tuple[int, bool]:
    """Writes a line per image, in the order of the images' names, the best class first.

    The images are read from their TFDS set and not prepared.

    Args:
      workdir: of a run.
      out: the file.
      split: 'validation', 'test' or 'train'.
      which: checkpoint, 'best' or 'latest'.
      views: 1 or 10.
      changes: of config.data, see `prediction.data_for`.
      class_numbers: see `guesses.ilsvrc_numbers`; None for 1, 2, … in order.

    Returns:
      how many images there were, and whether the classes have ILSVRC's numbers.

    Raises:
      ValueError: an image cannot be read, or the classes are others.
    """
    trained = net.load(workdir, checkpoint=which)
    name = changes.get(f'{split}_split', trained.config.data[f'{split}_split'])
    # Only this split is looked for.
    data = prediction.data_for(
        trained.config, split, {**changes, f'{split}_split': name}, workdir
    )
    source = prepare.open_source(data)
    if not isinstance(source, tfds_sets.TfdsSource) or name not in source.split_sizes:
        raise ValueError(
            f'guesses for a split without labels need a whole split of a TFDS set; for '
            f'{data.source} {name!r} use python -m alexnet_jax.predict --format=ilsvrc'
        )
    prediction.matched_labels(source.class_names, trained.class_names, data.source)
    numbers = (
        guesses.ilsvrc_numbers(class_numbers, trained.class_names)
        if class_numbers
        else range(1, len(trained.class_names) + 1)
    )
    count = source.split_sizes[name]
    rows = dataclasses.replace(source.rows(name, 0, count), unlabelled=True)

    def encoded() -> Iterator[tuple[str, bytes]]:
        for key, content, _ in rows.read():
            yield key.split()[-1], content  # the file's name, where TFDS has it

    read = photographs.decode(
        encoded(), images.stored(data), ahead=2 * trained.batch_size
    )
    lines = []
    found = guesses.of_photographs(
        trained, read, top=guesses.ILSVRC_GUESSES, views=views
    )
    for guess in tqdm(found, total=count, unit=' images', disable=None, leave=False):
        if isinstance(guess, guesses.Problem):
            raise ValueError(
                f'{data.source}, {name}: {guess.path} cannot be read ({guess.reason}), '
                'and a file without its line would be wrong'
            )
        ranked = ' '.join(str(numbers[c]) for c in guess.classes.tolist())
        lines.append((_order(str(guess.path)), ranked))
    text = ''.join(f'{line}\n' for _, line in sorted(lines))
    files.write_atomically(out, text)
    return count, class_numbers is not None


def _order(name: str) -> tuple[str, int]:
    """File names by their letters, `test[10]` after `test[9]`."""
    head, bracket, index = name.partition('[')
    return head, int(index.rstrip(']')) if bracket and index[:-1].isdigit() else 0
