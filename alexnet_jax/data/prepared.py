"""A prepared set on disk: where it lies, what is in it, and opening it.

    <prepared_dir>/<source>-<size>-<encoding>-<fingerprint>/1.0.0/

is a TFDS set in array_record files, with the statistics of its pixels and the order of
its examples beside it. docs/preparation.md lists the files.
"""

import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from PIL import Image
from tensorflow_datasets.core import dataset_info

from alexnet_jax.data import sources, splits
from alexnet_jax.system.files import write_atomically


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
    """A prepared set on disk and the statistics of its training pixels."""

    directory: Path
    class_names: tuple[str, ...]
    stored_size: int
    encoding: str  # 'raw' or 'jpeg'
    mean_image: np.ndarray  # float32[S,S,3]
    # Of the pixels' colours, the component of the largest deviation first:
    colour_std: np.ndarray  # float32[3], along each component
    colour_components: np.ndarray  # float32[3,3], unit vectors as columns
    split_sizes: dict[str, int]
    left_out: dict[str, int]  # images of each split that could not be decoded

    @property
    def num_classes(self) -> int:
        """How many classes there are, in the training split or not."""
        return len(self.class_names)


def statistics(directory: Path, split: str) -> Path:
    """Sums over the split's pixels; written last, the split is done where it exists."""
    return directory / f'statistics-{split}.npz'


def hashes(directory: Path, split: str) -> Path:
    """The sorted hashes of a folder's examples, by which percents are cut."""
    return directory / f'hashes-{split}.npy'


def permutation(directory: Path, split: str) -> Path:
    """The record of each place in the order, where records lie in another."""
    return directory / f'permutation-{split}.npy'


def undecodable_report(directory: Path, split: str) -> Path:
    """A line on each image that could not be decoded."""
    return directory / f'undecodable-{split}.txt'


def source_record(directory: Path) -> Path:
    """What tells that a folder has not changed (`folders.unchanged`)."""
    return directory / 'source.json'


def directory_of(data: ConfigDict, source: sources.Source) -> Path:
    """Where the set that config.data makes of a source lies, or would."""
    digest = hashlib.sha256(source.fingerprint.encode()).hexdigest()[:8]
    return _root(data) / _name(data, digest) / '1.0.0'


def find(data: ConfigDict) -> list[Path]:
    """The complete sets of config.data, whatever its source held at the time."""
    found = sorted(_root(data).glob(_name(data, '*/1.0.0')))
    return [directory for directory in found if complete(directory, data)]


def complete(directory: Path, data: ConfigDict) -> bool:
    """Whether a set has all splits that config.data names."""
    # Version 0.1 prepared a folder in the order of its classes, without hashes.
    kinds = [statistics, hashes] if data.source == 'folder' else [statistics]
    named = splits.named_splits(data)
    return all(kind(directory, split).exists() for split in named for kind in kinds)


def load(directory: Path, data: ConfigDict) -> PreparedDataset:
    """Opens a `complete` set; its statistics are those of the training split."""
    count = 0
    pixel_sum = np.zeros((data.stored_size, data.stored_size, 3), np.int64)
    product_sum = np.zeros((3, 3))
    for split in splits.base_splits(data.train_split):
        with np.load(statistics(directory, split)) as sums:
            count += int(sums['shard_counts'].sum())
            pixel_sum = pixel_sum + sums['pixel_sum']
            product_sum = product_sum + sums['product_sum']
    mean_image = pixel_sum / count
    mean_colour = mean_image.mean((0, 1))
    covariance = product_sum / (count * data.stored_size**2)
    covariance = covariance - np.outer(mean_colour, mean_colour)
    variances, components = np.linalg.eigh(covariance)
    variances, components = variances[::-1], components[:, ::-1]
    # An eigenvector's sign is LAPACK's whim; the shift's distribution is symmetric.
    largest = np.abs(components).argmax(0)
    components = components * np.sign(components[largest, range(3)])
    info = json.loads((directory / 'dataset_info.json').read_text())
    sizes = {s['name']: sum(map(int, s['shardLengths'])) for s in info['splits']}
    return PreparedDataset(
        directory=directory,
        class_names=tuple((directory / 'label.labels.txt').read_text().splitlines()),
        stored_size=data.stored_size,
        encoding=data.encoding,
        mean_image=mean_image.astype(np.float32),
        colour_std=np.sqrt(np.maximum(variances, 0)).astype(np.float32),
        colour_components=components.astype(np.float32),
        split_sizes=sizes,
        left_out={s: len(undecodable(statistics(directory, s))) for s in sizes},
    )


def undecodable(path: Path) -> list[str]:
    """The images that were left out of a shard or split; those of before have none."""
    with np.load(path) as sums:
        return sums['undecodable'].tolist() if 'undecodable' in sums else []


def arrays(paths: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """The arrays that exist of those at `paths`, left on disk, by the same keys."""
    return {
        key: np.load(path, mmap_mode='r')
        for key, path in paths.items()
        if path.exists()
    }


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


def write_metadata(
    data: ConfigDict,
    source: sources.Source,
    directory: Path,
    written: dict[str, tuple[list[int], int]],
) -> None:
    """Writes TFDS's metadata of the splits that are done.

    Args:
      data: config.data.
      source: what the set was made of.
      directory: where it lies.
      written: by split, the records of each file and the bytes of all; of the splits
        that were done before, the files say it.
    """
    written = dict(written)
    for split in source.split_sizes:
        if (path := statistics(directory, split)).exists():
            with np.load(path) as done:
                written[split] = done['shard_counts'].tolist(), int(done['num_bytes'])
    # tfds.folder_dataset.write_metadata does the same, but not in a temporary folder.
    info = tfds.core.DatasetInfo(
        builder=dataset_info.DatasetIdentity(
            name=template(source.name, 'train', directory).dataset_name,
            version=tfds.core.Version(directory.name),
            data_dir=str(directory),
            module_name='',
        ),
        features=features(
            data.stored_size, data.encoding, names=list(source.class_names)
        ),
        description=f'{source.name} in square records, by alexnet_jax.prepare',
    )
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    info.set_splits(
        tfds.core.splits.SplitDict(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=counts,
                num_bytes=num_bytes,
                filename_template=template(source.name, split, directory),
            )
            for split, (counts, num_bytes) in sorted(written.items())
        )
    )
    temporary = directory / '.metadata'
    temporary.mkdir(exist_ok=True)
    info.write_to_directory(temporary)
    for file in sorted(
        temporary.iterdir(), key=lambda f: f.name == 'dataset_info.json'
    ):
        os.replace(file, directory / file.name)
    shutil.rmtree(temporary)


def write_plain_files(dataset: PreparedDataset, data: ConfigDict) -> None:
    """Writes mean image and colour components for readers without this package."""
    names = splits.base_splits(data.train_split)
    name = '+'.join(names)
    mean = io.BytesIO()
    np.save(mean, dataset.mean_image)
    picture = io.BytesIO()
    Image.fromarray(np.rint(dataset.mean_image).astype(np.uint8)).save(picture, 'PNG')
    pca = {
        'splits': names,
        'images': sum(dataset.split_sizes[split] for split in names),
        'mean_colour': dataset.mean_image.mean((0, 1), np.float64).tolist(),
        # RGB in grey levels of 0–255; the component of the largest variance first.
        'variances': (dataset.colour_std.astype(np.float64) ** 2).tolist(),
        'standard_deviations': dataset.colour_std.astype(np.float64).tolist(),
        'components': dataset.colour_components.T.astype(np.float64).tolist(),
    }
    for path, content in (
        (dataset.directory / f'mean_image-{name}.npy', mean.getvalue()),
        (dataset.directory / f'mean_image-{name}.png', picture.getvalue()),
        (
            dataset.directory / f'colour_pca-{name}.json',
            (json.dumps(pca, indent=1) + '\n').encode(),
        ),
    ):
        if not path.exists():
            write_atomically(path, content)


def _root(data: ConfigDict) -> Path:
    if data.prepared_dir:
        return Path(data.prepared_dir).expanduser().absolute()
    return sources.tfds_directory().absolute() / 'alexnet_jax'


def _name(data: ConfigDict, digest: str) -> str:
    name = (
        Path(data.data_dir).expanduser().resolve().name
        if data.source == 'folder'
        else data.source
    )
    encoding = f'jpeg{data.jpeg_quality}' if data.encoding == 'jpeg' else 'raw'
    size = f'{data.stored_size}{"" if data.fit == "crop" else data.fit}'
    name = re.sub(r'[^\w.]', '_', name)
    return f'{name}-{size}-{encoding}-{digest}'
