"""Turn a data set into square records of one size, with its mean image and colour PCA.

    python -m alexnet_jax.data.prepare --config=configs/cifar10.py --workers=2

The short side is resized to config.data.stored_size (Pillow's bicubic filter, which
widens with the reduction and so does not alias) and the central square kept, as §2 of
the paper does; a square image of that size passes unchanged. The result is a TFDS set
in array_record files:

    <prepared_dir>/<source>-<size>-<encoding>-<fingerprint>/1.0.0/

A killed preparation goes on where it stood: a shard is written under a temporary name,
its sums beside it, and `statistics-<split>.npz` when the whole split is done.
"""

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import hashlib
import io
import json
import multiprocessing
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import app, flags
from array_record.python import array_record_module
from ml_collections import ConfigDict
from PIL import Image, ImageOps
from tensorflow_datasets.core import dataset_info
from tqdm import tqdm

from alexnet_jax import command_line
from alexnet_jax.data import sources

ENCODINGS = ('raw', 'jpeg')
SHARD_BYTES = 256e6
SHARD_EXAMPLES = 10_000  # fewer files to redo after a kill when records are small
# 256×256 photographs at quality 95 take about 50 kB, a quarter of their pixels.
JPEG_FRACTION = 0.25


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
    """A prepared set on disk and the statistics of its training pixels."""

    directory: Path
    class_names: tuple[str, ...]
    stored_size: int
    encoding: str  # 'raw' or 'jpeg'
    mean_image: np.ndarray  # float32[S,S,3]
    colour_std: (
        np.ndarray
    )  # float32[3], of the pixels along each component, largest first
    colour_components: np.ndarray  # float32[3,3], unit vectors as columns
    split_sizes: dict[str, int]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


def open_prepared(data: ConfigDict, *, prepare_missing: bool = True) -> PreparedDataset:
    """Open the prepared set of config.data, preparing it first if it is a small one.

    Args:
      data: config.data.
      prepare_missing: prepare what is missing if that takes no more than
        data.auto_prepare_gb; otherwise the error says how to.

    Raises:
      ValueError: one line on what is missing or wrong.
    """
    _check(data)
    try:
        source = sources.open_source(
            data, largest_gb=data.auto_prepare_gb if prepare_missing else 0.0
        )
    except sources.SourceNotFoundError:
        # Once prepared, the source is needed no more.
        found = [
            d for d in _root(data).glob(_name(data, '*/1.0.0')) if _complete(d, data)
        ]
        if len(found) != 1:
            raise
        return _open(found[0], data)
    directory = _directory(data, source)
    if not _complete(directory, data):
        gigabytes = _record_bytes(data) / 1e9
        gigabytes *= sum(source.split_sizes[s] for s in sources.named_splits(data))
        if not prepare_missing or gigabytes > data.auto_prepare_gb:
            raise ValueError(
                f'{data.source} is not prepared at {data.stored_size} pixels; it would '
                f'take about {gigabytes:.2g} GB in {directory}; prepare it with: '
                f'{sources.prepare_command(data)}'
            )
        prepare(data, source)
    return _open(directory, data)


def prepare(
    data: ConfigDict,
    source: sources.FolderSource | sources.TfdsSource,
    *,
    workers: int = 1,
) -> Path:
    """Write what is missing of the records that config.data names; their directory."""
    _check(data)
    directory = _directory(data, source)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory / '.lock'):
            for split in sources.named_splits(data):
                if not _statistics(directory, split).exists():
                    _prepare_split(data, source, split, directory, workers)
    except OSError as error:
        raise ValueError(
            f'cannot write {directory}: {error.strerror or error} '
            '(config.data.prepared_dir says where prepared sets go)'
        ) from error
    return directory


def square(encoded: bytes, size: int) -> Image.Image:
    """Decode any image to RGB, short side to `size`, centre square."""
    image = Image.open(io.BytesIO(encoded))
    # A JPEG decodes at 1/2, 1/4 or 1/8 while that leaves twice the pixels needed.
    image.draft(None, (2 * size, 2 * size))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I'):  # 16 bits; Pillow would clip them, not scale
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert('RGB')
    side = min(image.size)
    # On whole pixels, so that nothing is resampled where the size is right already.
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box)


def features_of(
    size: int, encoding: str, class_names: Sequence[str]
) -> tfds.features.FeaturesDict:
    """TFDS features of the prepared records."""
    shape = (size, size, 3)
    if encoding == 'raw':
        image = tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding='bytes')
    else:
        image = tfds.features.Image(shape=shape, encoding_format='jpeg')
    label = tfds.features.ClassLabel(names=list(class_names))
    return tfds.features.FeaturesDict({'image': image, 'label': label})


@dataclasses.dataclass(frozen=True)
class _Shard:
    """The work of one process: examples [start, stop) of a split into one file."""

    source: sources.FolderSource | sources.TfdsSource
    split: str
    start: int
    stop: int
    path: Path
    size: int
    encoding: str
    jpeg_quality: int

    @property
    def sums(self) -> Path:
        """Written last: the shard is done where it exists."""
        return self.path.with_name(f'.{self.path.name}.npz')


def _write_shard(
    shard: _Shard, advance: Callable[[], object] = lambda: None
) -> list[str]:
    """Write a shard and its sums, or return the keys of the images it cannot decode."""
    features = features_of(shard.size, shard.encoding, shard.source.class_names)
    shape = (shard.size, shard.size, 3)
    pixel_sum = np.zeros(shape, np.uint64)
    product_sum = np.zeros((3, 3), np.int64)
    temporary = shard.path.with_name(f'.{shard.path.name}.{os.getpid()}')
    # Decompressing would be most of the reader's work, and JPEG gains nothing.
    writer = array_record_module.ArrayRecordWriter(
        str(temporary), 'group_size:1,uncompressed'
    )
    undecodable = []
    try:
        examples = shard.source.read(shard.split, shard.start, shard.stop)
        for key, encoded, label in examples:
            advance()
            try:
                record, pixels = _encode(encoded, shard)
            except (
                OSError,
                ValueError,
                SyntaxError,
                Image.DecompressionBombError,
            ) as e:
                undecodable.append(f'{key} ({str(e)[:60] or type(e).__name__})')
                continue
            writer.write(features.serialize_example({'image': record, 'label': label}))
            pixel_sum += pixels
            flat = pixels.reshape(-1, 3).astype(np.float64)  # exact below 2**53
            product_sum += (flat.T @ flat).astype(np.int64)
        writer.close()
        if undecodable:
            return undecodable
        num_bytes = temporary.stat().st_size
        os.replace(temporary, shard.path)
    finally:
        temporary.unlink(missing_ok=True)
    _save_npz(
        shard.sums,
        count=shard.stop - shard.start,
        num_bytes=num_bytes,
        pixel_sum=pixel_sum,
        product_sum=product_sum,
    )
    return []


def _encode(encoded: bytes, shard: _Shard) -> tuple[np.ndarray | bytes, np.ndarray]:
    """The image as stored, and its pixels uint8[S,S,3]."""
    image = square(encoded, shard.size)
    if shard.encoding == 'raw':
        pixels = np.asarray(image)
        return pixels, pixels
    original = Image.open(io.BytesIO(encoded))
    untouched = (
        original.format == 'JPEG'
        and original.mode == 'RGB'
        and original.size == (shard.size, shard.size)
        and original.getexif().get(0x0112, 1) == 1  # not rotated
    )
    if not untouched:
        buffer = io.BytesIO()
        image.save(buffer, 'JPEG', quality=shard.jpeg_quality)
        encoded = buffer.getvalue()
    return encoded, np.asarray(Image.open(io.BytesIO(encoded)))


def _prepare_split(
    data: ConfigDict,
    source: sources.FolderSource | sources.TfdsSource,
    split: str,
    directory: Path,
    workers: int,
) -> None:
    shards = _shards(data, source, split, directory)
    todo = [s for s in shards if not (s.sums.exists() and s.path.exists())]
    undecodable = []
    with tqdm(
        total=source.split_sizes[split],
        initial=source.split_sizes[split] - sum(s.stop - s.start for s in todo),
        desc=f'preparing {source.name} {split}',
        unit=' images',
        mininterval=0.5,
    ) as bar:
        if workers == 1:
            for shard in todo:
                undecodable += _write_shard(shard, bar.update)
        else:
            # Forking a process that has started JAX or TensorFlow can deadlock.
            with concurrent.futures.ProcessPoolExecutor(
                workers, multiprocessing.get_context('spawn')
            ) as pool:
                futures = {pool.submit(_write_shard, shard): shard for shard in todo}
                for future in concurrent.futures.as_completed(futures):
                    undecodable += future.result()
                    bar.update(futures[future].stop - futures[future].start)
    if undecodable:
        listed = directory / f'undecodable-{split}.txt'
        listed.write_text('\n'.join(sorted(undecodable)) + '\n')
        more = f', … (all in {listed})' if len(undecodable) > 3 else ''
        raise ValueError(
            f'{len(undecodable)} images of {source.name} cannot be decoded; replace or '
            f'remove them: {", ".join(sorted(undecodable)[:3])}{more}'
        )
    counts, num_bytes, pixel_sum, product_sum = [], 0, 0, 0
    for shard in shards:
        with np.load(shard.sums) as sums:
            counts.append(int(sums['count']))
            num_bytes += int(sums['num_bytes'])
            pixel_sum = pixel_sum + sums['pixel_sum']
            product_sum = product_sum + sums['product_sum']
    _write_metadata(data, source, directory, {split: (counts, num_bytes)})
    _save_npz(
        _statistics(directory, split),
        shard_counts=np.array(counts),
        num_bytes=num_bytes,
        pixel_sum=pixel_sum,
        product_sum=product_sum,
    )
    for shard in shards:
        shard.sums.unlink()


def _shards(
    data: ConfigDict,
    source: sources.FolderSource | sources.TfdsSource,
    split: str,
    directory: Path,
) -> list[_Shard]:
    size = source.split_sizes[split]
    per_shard = min(SHARD_EXAMPLES, max(1, int(SHARD_BYTES / _record_bytes(data))))
    count = -(-size // per_shard)
    bounds = [size * i // count for i in range(count + 1)]
    template = _template(source, split, directory)
    return [
        _Shard(
            source=source,
            split=split,
            start=bounds[i],
            stop=bounds[i + 1],
            path=Path(template.sharded_filepath(shard_index=i, num_shards=count)),
            size=data.stored_size,
            encoding=data.encoding,
            jpeg_quality=data.jpeg_quality,
        )
        for i in range(count)
    ]


def _template(
    source: sources.FolderSource | sources.TfdsSource, split: str, directory: Path
) -> tfds.core.ShardedFileTemplate:
    return tfds.core.ShardedFileTemplate(
        data_dir=tfds.core.Path(directory),
        dataset_name=re.sub(r'\W', '_', source.name),
        split=split,
        filetype_suffix='array_record',
    )


def _write_metadata(
    data: ConfigDict,
    source: sources.FolderSource | sources.TfdsSource,
    directory: Path,
    splits: dict[str, tuple[list[int], int]],
) -> None:
    """TFDS's metadata of the splits done before and of `splits`: (counts, bytes)."""
    splits = dict(splits)
    for split in source.split_sizes:
        if (path := _statistics(directory, split)).exists():
            with np.load(path) as done:
                splits[split] = done['shard_counts'].tolist(), int(done['num_bytes'])
    # tfds.folder_dataset.write_metadata does the same, but not in a temporary folder.
    info = tfds.core.DatasetInfo(
        builder=dataset_info.DatasetIdentity(
            name=_template(source, 'train', directory).dataset_name,
            version=tfds.core.Version(directory.name),
            data_dir=str(directory),
            module_name='',
        ),
        features=features_of(data.stored_size, data.encoding, source.class_names),
        description=f'{source.name} in square records, by alexnet_jax.data.prepare',
    )
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    info.set_splits(
        tfds.core.splits.SplitDict(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=counts,
                num_bytes=num_bytes,
                filename_template=_template(source, split, directory),
            )
            for split, (counts, num_bytes) in sorted(splits.items())
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


def _open(directory: Path, data: ConfigDict) -> PreparedDataset:
    count = 0
    pixel_sum = np.zeros((data.stored_size, data.stored_size, 3), np.int64)
    product_sum = np.zeros((3, 3))
    for split in sources.base_splits(data.train_split):
        with np.load(_statistics(directory, split)) as sums:
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
    return PreparedDataset(
        directory=directory,
        class_names=tuple((directory / 'label.labels.txt').read_text().splitlines()),
        stored_size=data.stored_size,
        encoding=data.encoding,
        mean_image=mean_image.astype(np.float32),
        colour_std=np.sqrt(np.maximum(variances, 0)).astype(np.float32),
        colour_components=components.astype(np.float32),
        split_sizes={
            s['name']: sum(map(int, s['shardLengths'])) for s in info['splits']
        },
    )


def _complete(directory: Path, data: ConfigDict) -> bool:
    splits = sources.named_splits(data)
    return all(_statistics(directory, split).exists() for split in splits)


def _statistics(directory: Path, split: str) -> Path:
    return directory / f'statistics-{split}.npz'


def _save_npz(path: Path, **arrays: Any) -> None:
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.npz')
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, path)


def _root(data: ConfigDict) -> Path:
    if data.prepared_dir:
        return Path(data.prepared_dir).expanduser().absolute()
    return sources.tfds_directory().absolute() / 'alexnet_jax'


def _directory(
    data: ConfigDict, source: sources.FolderSource | sources.TfdsSource
) -> Path:
    digest = hashlib.sha256(source.fingerprint.encode()).hexdigest()[:8]
    return _root(data) / _name(data, digest) / '1.0.0'


def _name(data: ConfigDict, digest: str) -> str:
    name = (
        Path(data.data_dir).expanduser().resolve().name
        if data.source == 'folder'
        else data.source
    )
    encoding = f'jpeg{data.jpeg_quality}' if data.encoding == 'jpeg' else 'raw'
    name = re.sub(r'[^\w.]', '_', name)
    return f'{name}-{data.stored_size}-{encoding}-{digest}'


def _record_bytes(data: ConfigDict) -> float:
    """Bytes of a record, estimated: pixels, or a quarter of them as JPEG."""
    fraction = JPEG_FRACTION if data.encoding == 'jpeg' else 1.0
    return data.stored_size**2 * 3 * fraction


def _check(data: ConfigDict) -> None:
    if data.encoding not in ENCODINGS:
        raise ValueError(
            f'config.data.encoding={data.encoding!r}; one of {", ".join(ENCODINGS)}'
        )
    if data.stored_size < 1:
        raise ValueError(f'config.data.stored_size={data.stored_size}; at least 1')
    if not 1 <= data.jpeg_quality <= 100:
        raise ValueError(f'config.data.jpeg_quality={data.jpeg_quality}; 1 to 100')
    for split in (data.train_split, data.validation_split, data.test_split):
        if split:
            sources.base_splits(split)
    if not data.train_split:
        raise ValueError("config.data.train_split=''; it must name a split")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file lock, which the system lets go when a process dies."""
    with path.open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                f'waiting for another process to prepare {path.parent}', file=sys.stderr
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(argv: Sequence[str]) -> None:
    """Prepare what the flags describe and print what there is."""
    command_line.reject_positionals(argv)
    if _WORKERS.value < 1:
        raise SystemExit(
            f'error: --workers={_WORKERS.value} is not allowed; at least 1'
        )
    if _CONFIG.value is None:
        raise SystemExit(
            'error: --config=FILE is needed, e.g. --config=configs/paper.py'
        )
    data = _CONFIG.value.data  # the network need not fit it
    with command_line.user_errors():
        _check(data)
        prepare(data, sources.open_source(data), workers=_WORKERS.value)
        dataset = open_prepared(data, prepare_missing=False)
    for split, count in sorted(dataset.split_sizes.items()):
        print(f'{split}: {count:,} images')
    print(f'classes: {dataset.num_classes}')
    colour = ', '.join(f'{c:.1f}' for c in dataset.mean_image.mean((0, 1)))
    print(f'mean colour (RGB): {colour}')
    print(f'directory: {dataset.directory}')


if __name__ == '__main__':
    _CONFIG = command_line.define_config()
    _WORKERS = flags.DEFINE_integer('workers', 1, 'Processes that decode and resize.')
    app.run(main, flags_parser=command_line.parse_flags)
