r"""Makes the folder that the studies of transfer read: half of a set's classes, or few.

    python -m experiments.few_images --of=cifar10_half --data_dir=TFDS_DIR \
        --out=runs/few_images/cifar10

The classes of even labels are for pre-training, those of odd labels come after it. The
folder has `<split>/<class>/<image>.png`, with the pixels that the base config stores;
every split is a part of the base's split of the same purpose:

- `pretrain`, `pretrain_validation`, `pretrain_test`: all images of the even labels;
- `validation`, `test`: all images of the odd labels;
- `few10_s0`, `few30_s0`, `few100_s0`, and so for each of ten seeds: 10, 30 and 100
  training images of each odd label, drawn by the seed, the 10 among the 30 and the 30
  among the 100.

A choice of classes and of images is a folder here, not a key of the config: the classes
of a set are in its manifest, its statistics and every workdir, so that a key would have
to reach all that reads them, and a folder does already.
"""

import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict
from PIL import Image

from alexnet_jax import randomness
from alexnet_jax.data import pipeline, prepare
from alexnet_jax.data.prepared import PreparedDataset
from alexnet_jax.system import command_line
from experiments.studies import transfer
from experiments.studies.bases import CIFAR10_HALF, PHOTOGRAPHS
from experiments.studies.study import MOST_SEEDS

BASES = {base.name: base for base in (CIFAR10_HALF, PHOTOGRAPHS)}


def make(
    data: ConfigDict,
    out: Path,
    counts: Sequence[int] = transfer.COUNTS,
    seeds: int = MOST_SEEDS,
) -> dict[str, int]:
    """Writes the folder.

    Args:
      data: config.data of the base.
      out: the folder, which must not be there yet.
      counts: images of a class in the small splits.
      seeds: how many draws of them there are.

    Returns:
      The number of images of each split.

    Raises:
      ValueError: the folder is there, or a class has too few images.
    """
    if out.exists():
        raise ValueError(f'--out={out} is there already; remove it or name another')
    dataset = prepare.open_prepared(data)
    # Half of a folder would be taken for all of it.
    unfinished = out.with_name(f'{out.name}.unfinished')
    shutil.rmtree(unfinished, ignore_errors=True)
    sizes = {}
    for purpose, instruction in (
        ('train', data.train_split),
        ('validation', data.validation_split),
        ('test', data.test_split),
    ):
        labels = [label for _, label in examples(dataset, data, instruction)]
        split_of = parts(np.array(labels), purpose, counts, seeds)
        sizes |= {split: len(indices) for split, indices in split_of.items()}
        wanted: dict[int, list[str]] = {}
        for split, indices in split_of.items():
            for index in indices.tolist():
                wanted.setdefault(index, []).append(split)
        for index, (pixels, label) in enumerate(examples(dataset, data, instruction)):
            for split in wanted.get(index, ()):
                folder = unfinished / split / dataset.class_names[label]
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f'{purpose}_{index:05}.png'
                Image.fromarray(pixels).save(path, compress_level=1)
    unfinished.rename(out)
    return sizes


def examples(
    dataset: PreparedDataset, data: ConfigDict, instruction: str
) -> Iterator[tuple[np.ndarray, int]]:
    """The pixels uint8[S, S, 3] and the label of each image of a split, in order."""
    batches = pipeline.eval_batches(dataset, data, split=instruction, batch_size=100)
    pairs = (
        zip(batch['image'], batch['label'].tolist(), strict=True) for batch in batches
    )
    count = pipeline.num_examples(dataset, instruction)  # the last batch is filled up
    return itertools.islice(itertools.chain.from_iterable(pairs), count)


def parts(
    labels: np.ndarray, purpose: str, counts: Sequence[int], seeds: int
) -> dict[str, np.ndarray]:
    """Which images of a split go where.

    Args:
      labels: int[N].
      purpose: 'train', 'validation' or 'test'.
      counts: images of a class in the small splits.
      seeds: how many draws of them there are.

    Returns:
      The indices of each split of the folder, int[M].

    Raises:
      ValueError: a class has too few images.
    """
    even, odd = (np.flatnonzero(labels % 2 == rest) for rest in (0, 1))
    if purpose != 'train':
        return {f'pretrain_{purpose}': even, purpose: odd}
    by_class = [np.flatnonzero(labels == label) for label in np.unique(labels[odd])]
    if (least := min(map(len, by_class))) < max(counts):
        raise ValueError(
            f'a class has {least} training images; {max(counts)} of each are wanted'
        )
    found = {'pretrain': even}
    for seed in range(seeds):
        rng = randomness.generator(seed, 'few images')
        drawn = [rng.permutation(indices) for indices in by_class]
        for count in counts:
            of_all = np.concatenate([indices[:count] for indices in drawn])
            found[f'few{count}_s{seed}'] = of_all
    return found


def main(argv: Sequence[str]) -> None:
    """Makes the folder and says what is in it."""
    command_line.reject_positionals(argv)
    logging.set_verbosity(logging.WARNING)  # TFDS tells of every range that it reads
    out = command_line.local_path('out', _OUT.value)
    base = BASES[_OF.value]
    config = base.load()
    config.data.data_dir = _DATA_DIR.value
    config.data.prepared_dir = _PREPARED_DIR.value
    if base.folder:
        config.data.source = 'folder'
    with command_line.user_errors():
        sizes = make(config.data, out)
    for split, count in sizes.items():
        print(f'{split}: {count:,} images')


if __name__ == '__main__':
    _OF = flags.DEFINE_enum(
        'of', None, list(BASES), 'A base of studies.', required=True
    )
    _DATA_DIR = flags.DEFINE_string('data_dir', '', 'config.data.data_dir of the base.')
    _PREPARED_DIR = flags.DEFINE_string('prepared_dir', '', 'config.data.prepared_dir.')
    _OUT = flags.DEFINE_string('out', None, 'The folder to make.', required=True)
    app.run(main, flags_parser=command_line.parse_flags)
