"""What a run says of its data: where they come from, and what is odd about them."""

from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import duplicates, pipeline, prepared
from alexnet_jax.data.prepared import PreparedDataset


def lines(dataset: PreparedDataset, data: ConfigDict) -> Iterator[str]:
    """The source's path and fingerprint, the set's folder, and what is worth a look."""
    where = dataset.source_path or "TFDS's own place"
    yield f'data: {data.source} in {where}, fingerprint {dataset.fingerprint[:16]}'
    yield f'prepared: {dataset.directory}'
    for note in (*dataset.notes, *repeated(dataset, data)):
        yield f'note: {note}'


def repeated(dataset: PreparedDataset, data: ConfigDict) -> Iterator[str]:
    """A line for each split that has images of the training split in it."""
    contents = prepared.arrays_of(dataset, prepared.contents)
    for split, order in prepared.arrays_of(dataset, prepared.permutation).items():
        contents[split] = contents[split][np.asarray(order)]
    training = pipeline.read_ranges(dataset, data.train_split)
    for key in ('validation_split', 'test_split'):
        if not data[key]:
            continue
        ranges = pipeline.read_ranges(dataset, data[key])
        if count := duplicates.shared(training, ranges, contents):
            total = sum(r.stop - r.start for r in ranges)
            yield (
                f'{count:,} of the {total:,} images of data.{key}={data[key]!r} are in '
                f'training too, byte for byte'
            )
