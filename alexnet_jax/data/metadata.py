"""TFDS's metadata of a prepared set, for readers without this package.

`tfds.builder_from_directory` opens the set by them. This package writes them and never
reads them: TFDS imports whatever module `features.json` names, and opens records
wherever `dataset_info.json` says that they are.
"""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_info

from alexnet_jax.data import manifest


def features(size: int, encoding: str, **classes: Any) -> tfds.features.FeaturesDict:
    """TFDS features of the prepared records.

    Args:
      size: side of the squares.
      encoding: one of images.ENCODINGS.
      classes: of tfds.features.ClassLabel, `names=…` or `num_classes=…`.
    """
    shape = (size, size, 3)
    if encoding == 'raw':
        image = tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding='bytes')
    else:
        image = tfds.features.Image(shape=shape, encoding_format='jpeg')
    label = tfds.features.ClassLabel(**classes)
    return tfds.features.FeaturesDict({'image': image, 'label': label})


def template(
    source_name: str, split: str, directory: Path
) -> tfds.core.ShardedFileTemplate:
    """Names of the files of a split's records."""
    return tfds.core.ShardedFileTemplate(
        data_dir=tfds.core.Path(directory),
        dataset_name=re.sub(r'\W', '_', source_name),
        split=split,
        filetype_suffix='array_record',
    )


def splits_of(
    directory: Path, records: Mapping[str, Sequence[manifest.RecordFile]]
) -> tfds.core.splits.SplitDict:
    """The splits with their lengths, in which TFDS's slices are worked out."""
    return tfds.core.splits.SplitDict(
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[shard.records for shard in shards],
            num_bytes=sum(shard.num_bytes for shard in shards),
            filename_template=template('of', split, directory),
        )
        for split, shards in records.items()
    )


def write(
    directory: Path,
    name: str,
    features: tfds.features.FeaturesDict,
    records: Mapping[str, Sequence[manifest.RecordFile]],
) -> tuple[manifest.File, ...]:
    """Writes TFDS's metadata of the splits that are done.

    Args:
      directory: of the set.
      name: of the source.
      features: of the records, with the names of the classes.
      records: the files of each split.
    """
    # tfds.folder_dataset.write_metadata does the same, but not in a temporary folder.
    info = tfds.core.DatasetInfo(
        builder=dataset_info.DatasetIdentity(
            name=template(name, 'train', directory).dataset_name,
            version=tfds.core.Version(directory.name),
            data_dir=str(directory),
            module_name='',
        ),
        features=features,
        description=f'{name} in square records, by alexnet_jax.prepare',
    )
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    info.set_splits(
        tfds.core.splits.SplitDict(
            split_info.replace(filename_template=template(name, split, directory))
            for split, split_info in sorted(splits_of(directory, records).items())
        )
    )
    temporary = directory / '.metadata'
    temporary.mkdir(exist_ok=True)
    info.write_to_directory(temporary)
    names = sorted(
        (file.name for file in temporary.iterdir()),
        key=lambda name: name == 'dataset_info.json',
    )
    for name in names:
        os.replace(temporary / name, directory / name)
    shutil.rmtree(temporary)
    return tuple(manifest.describe(directory / name) for name in names)
