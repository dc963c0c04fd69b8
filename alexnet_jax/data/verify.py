"""Reads a whole prepared set and compares it with what was written."""

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from alexnet_jax.data import manifest, pipeline, prepared
from alexnet_jax.data.prepared import PreparedDataset
from alexnet_jax.system import bars


def verify(dataset: PreparedDataset, data: ConfigDict) -> int:
    """Reads every file and every record of a set; how many records there are.

    The digest of each file must be that of the day it was written; each record must
    have a label of a class and an image of the stored size; and the sums over all
    pixels must be those that the mean image is made of.

    Raises:
      ValueError: the first thing that is wrong, and how to make the set again.
    """
    directory = dataset.directory
    try:
        for split, known in manifest.read(directory).splits.items():
            for file in (*known.shards, *known.others):
                manifest.check_digest(directory, file)
            _check_records(dataset, split)
    except manifest.DamagedError as error:
        raise prepared.damaged(error, directory, data) from error
    return sum(dataset.split_sizes.values())


def _check_records(dataset: PreparedDataset, split: str) -> None:
    shape = (dataset.stored_size, dataset.stored_size, 3)
    buffer, pixel_sum = np.empty(shape, np.uint8), np.zeros(shape, np.uint64)
    read = pipeline.record_reader(dataset, split)
    path = prepared.statistics(dataset.directory, split)
    for index in tqdm(
        range(dataset.split_sizes[split]),
        desc=f'verifying {split}',
        unit=' images',
        mininterval=bars.interval(),
    ):
        try:
            pixels, _ = pipeline.decode(read(index), dataset, buffer)
        except Exception as error:  # of array_record, the parser or the decoder
            reason = ' '.join(str(error).split())[:200]
            raise manifest.DamagedError(f'{split}[{index}]: {reason}') from error
        pixel_sum += pixels
    sums = prepared.read_sums(path, dataset.stored_size)
    if not np.array_equal(sums['pixel_sum'], pixel_sum):
        raise manifest.DamagedError(f'{path} has not the sums of the records')
