"""What each example of a prepared split is called where it comes from."""

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import (
    folders,
    photographs,
    pipeline,
    prepare,
    prepared,
    sources,
)


def of_split(
    dataset: prepared.PreparedDataset, data: ConfigDict, instruction: str
) -> list[str]:
    """Names of the examples of a split, in the order in which they are evaluated.

    Args:
      dataset: the prepared set.
      data: config.data, which says where its source is.
      instruction: a split, with a slice or without.

    Returns:
      The file below config.data.data_dir where that is a folder that is there,
      `test/cat/1.jpg` (see `photographs.name`); otherwise `test[17]`, TFDS's own
      instruction for one example.
    """
    source = None
    if data.source == 'folder':
        try:
            source = prepare.open_source(data)
        except sources.SourceNotFoundError:
            source = None
    names = []
    for part in pipeline.read_ranges(dataset, instruction):
        of_records = _of_records(dataset, source, part.split)
        places = np.arange(part.start, part.stop)
        permutation = prepared.permutation(dataset.directory, part.split)
        if permutation.exists():
            places = np.load(permutation, mmap_mode='r')[places]
        names += [of_records[place] for place in places.tolist()]
    return names


def _of_records(
    dataset: prepared.PreparedDataset, source: sources.Source | None, split: str
) -> list[str]:
    """Names of a whole split's records, without the images that were left out."""
    path = prepared.statistics(dataset.directory, split)
    left_out = prepared.read_sums(path, dataset.stored_size)['undecodable'].tolist()
    count = dataset.split_sizes[split] + len(left_out)
    names = keys = [f'{split}[{i}]' for i in range(count)]
    ends = (': ', ' ')
    if isinstance(source, folders.FolderSource) and source.split_sizes[split] == count:
        place = source.places[split]
        paths = source.files[split].paths(0, count)
        names = [f'{place}/{path}' if place else path for path in paths]
        names = [n if n.isascii() else photographs.name(n) for n in names]
        keys = [f'{(source.directory / place).name}/{path}' for path in paths]
        ends = (': ',)  # a file's name may go on with a space
    # Each line on an image that was left out begins with its key.
    return [
        name
        for name, key in zip(names, keys, strict=True)
        if not any(line.startswith(f'{key}{end}') for line in left_out for end in ends)
    ]
