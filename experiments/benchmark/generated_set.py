"""Prepared sets of generated records, of any size, as `prepare` would write them."""

import os
import shutil
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from alexnet_jax.data import prepared, shards

# Of a generated image, so small that 10⁶ are written in seconds and take 0.3 GB.
SIZE, CLASSES = 8, 100


def shard_count(examples: int) -> int:
    """Files of a set of so many small records, as `prepare` divides it."""
    smallest = min(shards.SMALL_SET_SHARDS, examples // shards.SMALLEST_SHARD)
    return max(-(-examples // shards.SHARD_EXAMPLES), smallest)


def contents(shard: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What the records of a file hold: images uint8[count,S,S,3], labels."""
    rng = np.random.default_rng(shard)
    images = rng.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    return images, rng.integers(0, CLASSES, count, np.uint8)


def generate(root: Path, examples: int) -> Path:
    """Writes a set as `prepare` would, if it is not there; its directory."""
    directory = root / str(examples) / '1.0.0'
    if directory.exists():
        return directory
    temporary = root / f'.{examples}.{os.getpid()}' / '1.0.0'
    temporary.mkdir(parents=True)
    names = [str(i) for i in range(CLASSES)]
    features = prepared.features(SIZE, 'raw', names=names)
    # Serialising each takes minutes for 10⁶. All have the bytes of this one but for
    # pixels and label, which is a single byte below 128.
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    record, other = (
        features.serialize_example({'image': pixels, 'label': label})
        for label in (1, 2)
    )
    image_at = record.index(pixels.tobytes())
    (label_at,) = (i for i in range(len(record)) if record[i] != other[i])
    template = np.frombuffer(record, np.uint8)
    count = shard_count(examples)
    bounds = [examples * i // count for i in range(count + 1)]
    lengths = [bounds[i + 1] - bounds[i] for i in range(count)]
    names_of_files = tfds.core.ShardedFileTemplate(
        data_dir=tfds.core.Path(temporary), dataset_name='generated', split='train',
        filetype_suffix='array_record',
    )  # fmt: skip
    for i, length in enumerate(lengths):
        images, labels = contents(i, length)
        records = np.tile(template, (length, 1))
        records[:, image_at : image_at + pixels.size] = images.reshape(length, -1)
        records[:, label_at] = labels
        path = names_of_files.sharded_filepath(shard_index=i, num_shards=count)
        writer = array_record_module.ArrayRecordWriter(
            str(path), 'group_size:1,uncompressed'
        )
        for row in records:
            writer.write(row.tobytes())
        writer.close()
    split = tfds.core.SplitInfo(
        name='train', shard_lengths=lengths, num_bytes=examples * len(record),
        filename_template=names_of_files,
    )  # fmt: skip
    tfds.folder_dataset.write_metadata(
        data_dir=temporary, features=features, split_infos=[split], check_data=False
    )
    directory.parent.mkdir(exist_ok=True)
    os.replace(temporary, directory)
    shutil.rmtree(temporary.parent)
    return directory
