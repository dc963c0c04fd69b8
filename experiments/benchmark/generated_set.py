"""The records of prepared sets, generated, of any size."""

import os
import shutil
from pathlib import Path

import numpy as np
from array_record.python import array_record_module

from alexnet_jax.data import manifest, metadata, shards

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


def files(examples: int) -> tuple[manifest.RecordFile, ...]:
    """The files of a set, whose sizes and digests nothing here reads."""
    count = shard_count(examples)
    bounds = [examples * i // count for i in range(count + 1)]
    names = metadata.template('generated', 'train', Path('.'))
    return tuple(
        manifest.RecordFile(
            name=Path(names.sharded_filepath(shard_index=i, num_shards=count)).name,
            num_bytes=0,
            sha256='',
            records=bounds[i + 1] - bounds[i],
        )
        for i in range(count)
    )


def generate(root: Path, examples: int) -> Path:
    """Writes records as `prepare` would, if they are not there; their directory."""
    directory = root / str(examples) / '1.0.0'
    if directory.exists():
        return directory
    temporary = root / f'.{examples}.{os.getpid()}' / '1.0.0'
    temporary.mkdir(parents=True)
    names = [str(i) for i in range(CLASSES)]
    features = metadata.features(SIZE, 'raw', names=names)
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
    for i, file in enumerate(files(examples)):
        images, labels = contents(i, file.records)
        records = np.tile(template, (file.records, 1))
        records[:, image_at : image_at + pixels.size] = images.reshape(len(images), -1)
        records[:, label_at] = labels
        writer = array_record_module.ArrayRecordWriter(
            str(temporary / file.name), 'group_size:1,uncompressed'
        )
        for row in records:
            writer.write(row.tobytes())
        writer.close()
    directory.parent.mkdir(exist_ok=True)
    os.replace(temporary, directory)
    shutil.rmtree(temporary.parent)
    return directory
