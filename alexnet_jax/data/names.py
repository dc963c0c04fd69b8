"""What each example of a prepared split is called where it comes from."""

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import folders, pipeline, prepare, prepared, sources


def of_split(
    dataset: prepared.PreparedDataset, data: ConfigDict, instruction: str
) -> list[str]:
    """Names of the examples of a split, in the order in which they are evaluated.

    Args:
      dataset: the prepared set.
      data: config.data, which says where its source is.
      instruction: a split, with a slice or without.

    Returns:
      `<split>/<class>/<file>` where the source is a folder that is there; otherwise
      `<split>[<index>]`, TFDS's own instruction for the one example.
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
    left_out = prepared.undecodable(prepared.statistics(dataset.directory, split))
    count = dataset.split_sizes[split] + len(left_out)
    if isinstance(source, folders.FolderSource) and source.split_sizes[split] == count:
        paths = source.files[split].paths(0, count)
        names = [f'{split}/{path}' for path in paths]
    else:
        names = [f'{split}[{i}]' for i in range(count)]
    if left_out:  # lines that begin with the name
        names = [
            name
            for name in names
            if not any(line.startswith((f'{name}: ', f'{name} ')) for line in left_out)
        ]
    return names
