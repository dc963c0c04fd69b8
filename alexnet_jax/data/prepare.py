"""Turn a data set into square records of one size, with its mean image and colour PCA.

    python -m alexnet_jax.data.prepare --source=imagenet2012 --workers=8
    python -m alexnet_jax.data.prepare --config=configs/cifar10.py --workers=2

One of the two is needed: --config=FILE prepares what the `data` part of a config
describes; --source=NAME (a TFDS name, or 'folder' with --config.data.data_dir=DIR)
alone takes the rest from configs/paper.py. Either goes with --config.data.KEY=VALUE.

The short side is resized to config.data.stored_size (Pillow's bicubic filter, which
widens with the reduction and so does not alias) and the central square kept, as §2 of
the paper does; a square image of that size passes unchanged. config.data.fit='warp'
resizes both sides instead. The result is a TFDS set in array_record files:

    <prepared_dir>/<source>-<size>-<encoding>-<fingerprint>/1.0.0/

A killed preparation goes on where it stood: a shard is written under a temporary name,
its sums beside it, and `statistics-<split>.npz` when the whole split is done.
docs/preparation.md has the formats, the decoders and the checks.
"""

import concurrent.futures
import concurrent.futures.process
import contextlib
import dataclasses
import fcntl
import hashlib
import io
import itertools
import json
import math
import multiprocessing
import multiprocessing.connection
import os
import re
import shutil
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import app, flags
from array_record.python import array_record_module
from ml_collections import ConfigDict
from PIL import Image, ImageOps, UnidentifiedImageError
from tensorflow_datasets.core import dataset_info
from tqdm import tqdm

from alexnet_jax.data import folders, sources, splits, tfds_sets
from alexnet_jax.system import command_line

ENCODINGS = ('raw', 'jpeg')
FITS = ('crop', 'warp')
SHARD_BYTES = 256e6
SHARD_EXAMPLES = 10_000  # fewer files to redo after a kill when records are small
# A small set has this many shards, or there would be nothing for a second worker; but
# none with fewer examples than the second number.
SMALL_SET_SHARDS, SMALLEST_SHARD = 16, 128
# 256×256 photographs at quality 95 take about 50 kB, a quarter of their pixels.
JPEG_FRACTION = 0.25
PUBLISHED_COUNTS = {
    'imagenet2012': {'train': 1_281_167, 'validation': 50_000, 'classes': 1000},
}

SOURCE_RECORD = 'source.json'

_PAPER_CONFIG = 'paper'


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
    left_out: dict[str, int]  # images of each split that could not be decoded

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
    found = [
        path
        for path in sorted(_root(data).glob(_name(data, '*/1.0.0')))
        if _complete(path, data)
    ]
    if data.source == 'folder' and data.data_dir:
        folder = Path(data.data_dir).expanduser().resolve()
        for directory in found:
            record = directory / SOURCE_RECORD
            if record.exists() and folders.unchanged(
                json.loads(record.read_text()), folder
            ):
                return _open(directory, data)
    try:
        source = open_source(
            data, largest_gb=data.auto_prepare_gb if prepare_missing else 0.0
        )
    except sources.SourceNotFoundError:
        # Once prepared, the source is needed no more.
        if len(found) != 1:
            raise
        return _open(found[0], data)
    directory = _directory(data, source)
    if _complete(directory, data):
        with contextlib.suppress(OSError):  # the set of someone else
            _record_source(directory, source)
    else:
        gigabytes = _record_bytes(data) / 1e9
        gigabytes *= sum(source.split_sizes[s] for s in splits.named_splits(data))
        if not prepare_missing or gigabytes > data.auto_prepare_gb:
            raise ValueError(
                f'{data.source} is not prepared at {data.stored_size} pixels; it would '
                f'take about {gigabytes:.2g} GB in {directory}; prepare it with: '
                f'{sources.prepare_command(data)}'
            )
        prepare(data, source)
    return _open(directory, data)


def open_source(data: ConfigDict, *, largest_gb: float = math.inf) -> sources.Source:
    """The source that config.data names.

    Args:
      data: config.data.
      largest_gb: TFDS downloads or generates no larger set than this on the way.

    Raises:
      SourceNotFoundError: there is none.
      ValueError: it is no set of images with classes, or lacks a split or its images.
    """
    _check(data)
    if data.source == 'folder':
        source = folders.open_folder(data)
    else:
        source = tfds_sets.open_tfds(data, largest_gb)
    for split in splits.named_splits(data):
        if split not in source.split_sizes:
            raise ValueError(
                f'{data.source} has no split {split!r}; it has '
                f'{", ".join(source.split_sizes)}; choose with '
                "--config.data.train_split=…, validation_split, test_split ('': none)"
            )
        if not source.split_sizes[split]:
            raise ValueError(f'the split {split!r} of {data.source} has no images')
    return source


def prepare(
    data: ConfigDict,
    source: sources.Source,
    *,
    workers: int = 1,
    skip_bad: bool = False,
) -> Path:
    """Write what is missing of the records that config.data names; their directory.

    Args:
      data: config.data.
      source: what `open_source` found for it.
      workers: processes that decode and resize.
      skip_bad: leave images out that cannot be decoded, instead of stopping.

    Raises:
      ValueError: one line; among the reasons are a full disk, images that cannot be
        decoded, and records that are not as many as the examples of the source.
    """
    _check(data)
    directory = _directory(data, source)
    named = splits.named_splits(data)
    to_write = sum(
        shard.stop - shard.start
        for split in named
        if not _statistics(directory, split).exists()
        for shard in _shards(data, source, split, directory)
        if not shard.done
    )
    sources.check_free_disk(
        directory, to_write * _record_bytes(data), 'config.data.prepared_dir'
    )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory / '.lock'):
            _remove_temporaries(directory)
            for split in named:
                if not _statistics(directory, split).exists():
                    _prepare_split(data, source, split, directory, workers, skip_bad)
            dataset = _open(directory, data)
            _write_plain_files(dataset, data)
            _record_source(directory, source)
    except OSError as error:
        raise ValueError(
            f'cannot write {directory}: {error.strerror or error} '
            '(config.data.prepared_dir says where prepared sets go)'
        ) from error
    for line in _differences_from_published(dataset, data):
        print(f'warning: {line}', file=sys.stderr)
    return directory


def square(encoded: bytes, size: int, fit: str = 'crop') -> Image.Image:
    """Decode any image to RGB and make a square of it.

    Args:
      encoded: a file of any format that Pillow reads.
      size: side of the square.
      fit: 'crop' brings the short side to `size` and keeps the central square; 'warp'
        brings both sides to `size`.
    """
    image = Image.open(io.BytesIO(encoded))
    # A JPEG decodes at 1/2, 1/4 or 1/8 while that leaves twice the pixels needed.
    image.draft(None, (2 * size, 2 * size))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I'):  # 16 bits; Pillow would clip them, not scale
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == 'P':
        # Its transparent colours count like the others, here as in RGBA.
        image.info.pop('transparency', None)
    image = image.convert('RGB')
    if fit == 'warp':
        return image.resize((size, size), Image.Resampling.BICUBIC)
    side = min(image.size)
    # On whole pixels, so that nothing is resampled where the size is right already.
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box)


def features_of(
    size: int, encoding: str, class_names: Sequence[str]
) -> tfds.features.FeaturesDict:
    """TFDS features of the prepared records."""
    return _features(size, encoding, names=list(class_names))


def _features(size: int, encoding: str, **classes: Any) -> tfds.features.FeaturesDict:
    shape = (size, size, 3)
    if encoding == 'raw':
        image = tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding='bytes')
    else:
        image = tfds.features.Image(shape=shape, encoding_format='jpeg')
    label = tfds.features.ClassLabel(**classes)
    return tfds.features.FeaturesDict({'image': image, 'label': label})


@dataclasses.dataclass(frozen=True)
class _Shard:
    """Examples [start, stop) of a split, which go into one file."""

    split: str
    start: int
    stop: int
    path: Path

    @property
    def sums(self) -> Path:
        """Written last: the shard is done where it exists."""
        return self.path.with_name(f'.{self.path.name}.npz')

    @property
    def done(self) -> bool:
        # A power cut can leave the name without the content.
        return self.path.exists() and zipfile.is_zipfile(self.sums)


@dataclasses.dataclass(frozen=True)
class _Task:
    """What a process needs to write a shard, and no more: it is pickled."""

    shard: _Shard
    rows: sources.Rows
    classes: int
    size: int
    fit: str
    encoding: str
    jpeg_quality: int
    skip_bad: bool


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What came of a shard."""

    examples: int  # that the source had
    left_out: list[int]  # those that cannot be decoded, counted within the split
    undecodable: list[str]  # a line for each: its key and what is wrong


def _write_shard(task: _Task, advance: Callable[[], object] = lambda: None) -> _Outcome:
    """Write a shard and its sums; nothing if it has images that stop the run."""
    shard = task.shard
    features = _features(task.size, task.encoding, num_classes=task.classes)
    shape = (task.size, task.size, 3)
    pixel_sum = np.zeros(shape, np.uint64)
    product_sum = np.zeros((3, 3), np.int64)
    temporary = shard.path.with_name(f'.{shard.path.name}.{os.getpid()}')
    # Decompressing would be most of the reader's work, and JPEG gains nothing.
    writer = array_record_module.ArrayRecordWriter(
        str(temporary), 'group_size:1,uncompressed'
    )
    examples, left_out, undecodable = 0, [], []
    try:
        for key, encoded, label in task.rows.read():
            examples += 1
            advance()
            try:
                record, pixels = _encode(encoded, task)
            except Exception as error:  # Pillow raises many kinds for a damaged file
                left_out.append(shard.start + examples - 1)
                undecodable.append(f'{key}: {_reason(error)}')
                continue
            writer.write(features.serialize_example({'image': record, 'label': label}))
            pixel_sum += pixels
            flat = pixels.reshape(-1, 3).astype(np.float64)  # exact below 2**53
            product_sum += (flat.T @ flat).astype(np.int64)
        writer.close()
        outcome = _Outcome(examples, left_out, undecodable)
        if examples != shard.stop - shard.start:
            return outcome
        if undecodable and not task.skip_bad:
            return outcome
        num_bytes = temporary.stat().st_size
        os.replace(temporary, shard.path)
    finally:
        temporary.unlink(missing_ok=True)
    _save_npz(
        shard.sums,
        count=examples - len(undecodable),
        num_bytes=num_bytes,
        pixel_sum=pixel_sum,
        product_sum=product_sum,
        left_out=np.array(left_out, np.int64),
        undecodable=np.array(undecodable, np.str_),
    )
    return outcome


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # whose text is an address
        return 'no image format that Pillow knows'
    return ' '.join(str(error).split())[:200] or type(error).__name__


def _encode(encoded: bytes, task: _Task) -> tuple[np.ndarray | bytes, np.ndarray]:
    """The image as stored, and its pixels uint8[S,S,3]."""
    image = square(encoded, task.size, task.fit)
    if task.encoding == 'raw':
        pixels = np.asarray(image)
        return pixels, pixels
    original = Image.open(io.BytesIO(encoded))
    untouched = (
        original.format == 'JPEG'
        and original.mode == 'RGB'
        and original.size == (task.size, task.size)
        and original.getexif().get(0x0112, 1) == 1  # not rotated
    )
    if not untouched:
        buffer = io.BytesIO()
        image.save(buffer, 'JPEG', quality=task.jpeg_quality)
        encoded = buffer.getvalue()
    return encoded, np.asarray(Image.open(io.BytesIO(encoded)))


def _prepare_split(
    data: ConfigDict,
    source: sources.Source,
    split: str,
    directory: Path,
    workers: int,
    skip_bad: bool,
) -> None:
    shards = _shards(data, source, split, directory)
    left_out, undecodable = _write_shards(data, source, shards, workers, skip_bad)
    _report_undecodable(directory, source, split, undecodable, skip_bad)
    counts, num_bytes, pixel_sum, product_sum = [], 0, 0, 0
    for shard in shards:
        with np.load(shard.sums) as sums:
            counts.append(int(sums['count']))
            num_bytes += int(sums['num_bytes'])
            pixel_sum = pixel_sum + sums['pixel_sum']
            product_sum = product_sum + sums['product_sum']
        if (found := _num_records(shard.path)) != counts[-1]:
            raise ValueError(
                f'{shard.path} holds {found} records instead of {counts[-1]}; remove '
                'it and run the same command again'
            )
    expected = source.split_sizes[split] - len(undecodable)
    if sum(counts) != expected:
        raise ValueError(
            f'{sum(counts):,} records were written for the split {split!r} of '
            f'{source.name}, which has {expected:,} images that can be decoded; remove '
            f'{directory} and prepare it again'
        )
    for name, array in source.arrangement(split, left_out).items():
        _save_npy(directory / f'{name}-{split}.npy', array)
    _write_metadata(data, source, directory, {split: (counts, num_bytes)})
    _save_npz(
        _statistics(directory, split),
        shard_counts=np.array(counts),
        num_bytes=num_bytes,
        pixel_sum=pixel_sum,
        product_sum=product_sum,
        undecodable=np.array(undecodable, np.str_),
    )
    for shard in shards:
        shard.sums.unlink()


def _write_shards(
    data: ConfigDict,
    source: sources.Source,
    shards: list[_Shard],
    workers: int,
    skip_bad: bool,
) -> tuple[list[int], list[str]]:
    """Write the shards that are not done.

    Returns:
      The examples of all shards that cannot be decoded, and a line on each.
    """
    outcomes = {}
    for shard in shards:
        if shard.done:
            with np.load(shard.sums) as sums:
                left_out = sums['left_out'].tolist() if 'left_out' in sums else []
            lines = _undecodable(shard.sums)
            outcomes[shard] = _Outcome(shard.stop - shard.start, left_out, lines)
    todo = [s for s in shards if s not in outcomes]
    total = sum(s.stop - s.start for s in shards)
    workers = min(workers, len(todo))

    def task(shard: _Shard) -> _Task:
        return _Task(
            shard=shard,
            rows=source.rows(shard.split, shard.start, shard.stop),
            classes=len(source.class_names),
            size=data.stored_size,
            fit=data.fit,
            encoding=data.encoding,
            jpeg_quality=data.jpeg_quality,
            skip_bad=skip_bad,
        )

    with tqdm(
        total=total,
        initial=total - sum(s.stop - s.start for s in todo),
        desc=f'preparing {source.name} {shards[0].split}',
        unit=' images',
        mininterval=0.5,
    ) as bar:
        if workers <= 1:
            outcomes |= {shard: _write_shard(task(shard), bar.update) for shard in todo}
        else:
            outcomes |= _write_with_workers(todo, task, workers, bar)
    all_left_out, all_lines = [], []
    for shard in shards:
        outcome = outcomes[shard]
        if outcome.examples != shard.stop - shard.start:
            raise ValueError(
                f'{source.name} gave {outcome.examples:,} examples for '
                f'{shard.split}[{shard.start}:{shard.stop}] where its metadata '
                f'promises {shard.stop - shard.start:,}; remove it and get it again'
            )
        all_left_out += outcome.left_out
        all_lines += outcome.undecodable
    return all_left_out, all_lines


def _write_with_workers(
    todo: list[_Shard], task: Callable[[_Shard], _Task], workers: int, bar: tqdm
) -> dict[_Shard, _Outcome]:
    # Forking a process that has started JAX or TensorFlow can deadlock.
    context = multiprocessing.get_context('spawn')
    images_read = context.Value('q', 0)
    written = {}
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, _start_worker, (images_read,)
    )
    waiting = iter(todo)
    futures = {}
    try:
        while True:
            # Few at a time, since a task holds its rows: those of all do not fit.
            for shard in itertools.islice(waiting, 2 * workers - len(futures)):
                futures[pool.submit(_write_shard_in_worker, task(shard))] = shard
            if not futures:
                break
            done, _ = concurrent.futures.wait(
                futures, 0.5, concurrent.futures.FIRST_COMPLETED
            )
            bar.update(images_read.value - (bar.n - bar.initial))
            written |= {futures.pop(future): future.result() for future in done}
    except sources.SourceReadError as error:  # without the worker's traceback
        raise sources.SourceReadError(str(error)) from None
    except concurrent.futures.process.BrokenProcessPool as error:
        raise ValueError(
            'a worker was killed, perhaps for its memory; run the same command again '
            f'with fewer than --workers={workers}, it goes on from here'
        ) from error
    finally:  # what waits is dropped, or Ctrl-C would wait for the whole data set
        pool.shutdown(cancel_futures=True)
    return written


_images_read: Any = None  # in a worker: what all workers have read, for the bar


def _start_worker(images_read: Any) -> None:
    global _images_read
    _images_read = images_read
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Idle workers of a killed preparation would otherwise wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _write_shard_in_worker(task: _Task) -> _Outcome:
    return _write_shard(task, _count_one)


def _count_one() -> None:
    with _images_read.get_lock():
        _images_read.value += 1


def _report_undecodable(
    directory: Path,
    source: sources.Source,
    split: str,
    undecodable: list[str],
    skip_bad: bool,
) -> None:
    """List the images in a file; raise if they stop the run."""
    report = _report(directory, split)
    if not undecodable:
        report.unlink(missing_ok=True)  # of an earlier attempt
        return
    report.write_text('\n'.join(undecodable) + '\n')
    if len(undecodable) == source.split_sizes[split]:
        raise ValueError(
            f'no image of the split {split!r} of {source.name} can be decoded, e.g. '
            f'{undecodable[0]} (all in {report})'
        )
    if not skip_bad:
        more = ', …' if len(undecodable) > 3 else ''
        raise ValueError(
            f'{len(undecodable)} images of {source.name} cannot be decoded; replace or '
            f'remove them, or leave them out with --skip_bad: '
            f'{", ".join(undecodable[:3])}{more} (all in {report})'
        )


def _num_records(path: Path) -> int:
    """The records that a reader finds in a file; -1 if it is damaged."""
    try:
        reader = array_record_module.ArrayRecordReader(str(path))
        count = reader.num_records()
        reader.close()  # raises what is wrong with the file
    except Exception:  # its kinds differ between versions
        return -1
    return count


def _shards(
    data: ConfigDict,
    source: sources.Source,
    split: str,
    directory: Path,
) -> list[_Shard]:
    size = source.split_sizes[split]
    per_shard = min(SHARD_EXAMPLES, max(1, int(SHARD_BYTES / _record_bytes(data))))
    count = -(-size // per_shard)
    count = max(count, min(SMALL_SET_SHARDS, size // SMALLEST_SHARD))
    bounds = [size * i // count for i in range(count + 1)]
    template = _template(source, split, directory)
    return [
        _Shard(
            split=split,
            start=bounds[i],
            stop=bounds[i + 1],
            path=Path(template.sharded_filepath(shard_index=i, num_shards=count)),
        )
        for i in range(count)
    ]


def _template(
    source: sources.Source, split: str, directory: Path
) -> tfds.core.ShardedFileTemplate:
    return tfds.core.ShardedFileTemplate(
        data_dir=tfds.core.Path(directory),
        dataset_name=re.sub(r'\W', '_', source.name),
        split=split,
        filetype_suffix='array_record',
    )


def _write_metadata(
    data: ConfigDict,
    source: sources.Source,
    directory: Path,
    written: dict[str, tuple[list[int], int]],
) -> None:
    """TFDS's metadata of the splits done before and of `written`: (counts, bytes)."""
    written = dict(written)
    for split in source.split_sizes:
        if (path := _statistics(directory, split)).exists():
            with np.load(path) as done:
                written[split] = done['shard_counts'].tolist(), int(done['num_bytes'])
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


def _open(directory: Path, data: ConfigDict) -> PreparedDataset:
    count = 0
    pixel_sum = np.zeros((data.stored_size, data.stored_size, 3), np.int64)
    product_sum = np.zeros((3, 3))
    for split in splits.base_splits(data.train_split):
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
        left_out={s: len(_undecodable(_statistics(directory, s))) for s in sizes},
    )


def _undecodable(path: Path) -> list[str]:
    """The images that were left out of a shard or split; those of before have none."""
    with np.load(path) as sums:
        return sums['undecodable'].tolist() if 'undecodable' in sums else []


def _write_plain_files(dataset: PreparedDataset, data: ConfigDict) -> None:
    """The mean image and the colour components for readers without this package."""
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
            temporary = path.with_name(f'.{path.name}.{os.getpid()}')
            temporary.write_bytes(content)
            os.replace(temporary, path)


def _differences_from_published(
    dataset: PreparedDataset, data: ConfigDict
) -> Iterator[str]:
    """A line for each count that is not the one that the data set is known by."""
    published = PUBLISHED_COUNTS.get(data.source)
    if not published:
        return
    for split in splits.named_splits(data):
        found, expected = dataset.split_sizes[split], published.get(split)
        left_out = dataset.left_out[split]
        if expected and found + left_out != expected:
            more = f' and {left_out:,} left out as undecodable' if left_out else ''
            yield (
                f'{data.source} is published with {expected:,} images in {split}, '
                f'{found:,} were prepared{more}: not the whole data set'
            )
    if dataset.num_classes != published['classes']:
        yield (
            f'{data.source} is published with {published["classes"]:,} classes, '
            f'{dataset.num_classes:,} were found'
        )


def _complete(directory: Path, data: ConfigDict) -> bool:
    # A folder was prepared in the order of its classes before, without hashes.
    kinds = [_statistics]
    kinds += [_hashes] if data.source == 'folder' else []
    named = splits.named_splits(data)
    return all(kind(directory, split).exists() for split in named for kind in kinds)


def _statistics(directory: Path, split: str) -> Path:
    return directory / f'statistics-{split}.npz'


def _hashes(directory: Path, split: str) -> Path:
    return directory / f'hashes-{split}.npy'


def _report(directory: Path, split: str) -> Path:
    return directory / f'undecodable-{split}.txt'


def _remove_temporaries(directory: Path) -> None:
    """Files `.NAME.PID` of a preparation that was killed; called with the lock held."""
    for path in directory.glob('.*'):
        if re.fullmatch(r'\..+\.\d+(\.npz)?', path.name):
            path.unlink()


def _save_npz(path: Path, **arrays: Any) -> None:
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.npz')
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, path)


def _save_npy(path: Path, array: np.ndarray) -> None:
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    with temporary.open('wb') as file:
        np.save(file, array)
    os.replace(temporary, path)


def _record_source(directory: Path, source: sources.Source) -> None:
    """Keep what tells later that a folder has not changed."""
    if isinstance(source, folders.FolderSource):
        path = directory / SOURCE_RECORD
        content = json.dumps(source.record(), indent=1) + '\n'
        if path.exists() and path.read_text() == content:
            return
        temporary = path.with_name(f'.{path.name}.{os.getpid()}')
        temporary.write_text(content)
        os.replace(temporary, path)


def _root(data: ConfigDict) -> Path:
    if data.prepared_dir:
        return Path(data.prepared_dir).expanduser().absolute()
    return sources.tfds_directory().absolute() / 'alexnet_jax'


def _directory(data: ConfigDict, source: sources.Source) -> Path:
    digest = hashlib.sha256(source.fingerprint.encode()).hexdigest()[:8]
    return _root(data) / _name(data, digest) / '1.0.0'


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


def _record_bytes(data: ConfigDict) -> float:
    """Bytes of a record, estimated: pixels, or a quarter of them as JPEG."""
    fraction = JPEG_FRACTION if data.encoding == 'jpeg' else 1.0
    return data.stored_size**2 * 3 * fraction


def _check(data: ConfigDict) -> None:
    if data.encoding not in ENCODINGS:
        raise ValueError(
            f'config.data.encoding={data.encoding!r}; one of {", ".join(ENCODINGS)}'
        )
    if data.fit not in FITS:
        raise ValueError(f'config.data.fit={data.fit!r}; one of {", ".join(FITS)}')
    if data.stored_size < 1:
        raise ValueError(f'config.data.stored_size={data.stored_size}; at least 1')
    if not 1 <= data.jpeg_quality <= 100:
        raise ValueError(f'config.data.jpeg_quality={data.jpeg_quality}; 1 to 100')
    for key in ('data_dir', 'prepared_dir'):
        if re.match(r'\w+://', data[key]):
            raise ValueError(
                f'config.data.{key}={data[key]!r} is a URL; only folders of this '
                'machine are read and written: copy it here, or mount it'
            )
    for split in (data.train_split, data.validation_split, data.test_split):
        if split:
            splits.base_splits(split)
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


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses the flags; --source without --config stands on configs/paper.py."""
    names = [a.lstrip('-').partition('=')[0] for a in argv[1:] if a.startswith('-')]
    if 'source' in names and 'config.data.source' in names:
        sys.exit(
            'error: --source and --config.data.source name the same thing; give one'
        )
    if 'source' in names and 'config' not in names:
        argv = [argv[0], f'--config={_PAPER_CONFIG}', *argv[1:]]
    return command_line.parse_flags(argv)


def main(argv: Sequence[str]) -> None:
    """Prepare what the flags describe and print what there is."""
    command_line.reject_positionals(argv)
    if _WORKERS.value < 1:
        raise SystemExit(
            f'error: --workers={_WORKERS.value} is not allowed; at least 1'
        )
    if _CONFIG.value is None:
        raise SystemExit(
            'error: --source=NAME or --config=FILE is needed, e.g. '
            '--source=imagenet2012 or --config=configs/cifar10.py'
        )
    data = _CONFIG.value.data  # the network need not fit it
    if _SOURCE.value is not None:
        data.source = _SOURCE.value
    with command_line.user_errors():
        _check(data)
        prepare(
            data,
            open_source(data),
            workers=_WORKERS.value,
            skip_bad=_SKIP_BAD.value,
        )
        dataset = open_prepared(data, prepare_missing=False)
    for split, count in sorted(dataset.split_sizes.items()):
        report = _report(dataset.directory, split)
        left_out = dataset.left_out[split]
        more = f', {left_out:,} left out, listed in {report}' if left_out else ''
        print(f'{split}: {count:,} images{more}')
    print(f'classes: {dataset.num_classes}')
    colour = ', '.join(f'{c:.1f}' for c in dataset.mean_image.mean((0, 1)))
    print(f'mean colour (RGB): {colour}')
    print(f'directory: {dataset.directory}')
    if not _PARTIAL.value and any(_differences_from_published(dataset, data)):
        raise SystemExit(
            f'error: this is not the whole of {data.source}, see the warnings; the '
            'records are good, and --partial accepts them'
        )


if __name__ == '__main__':
    _CONFIG = command_line.define_config()
    _SOURCE = flags.DEFINE_string(
        'source',
        None,
        "A TFDS name, or 'folder' with --config.data.data_dir=DIR; without --config "
        'the rest is that of configs/paper.py.',
    )
    _WORKERS = flags.DEFINE_integer('workers', 1, 'Processes that decode and resize.')
    _SKIP_BAD = flags.DEFINE_bool(
        'skip_bad',
        False,
        'Leave images out that cannot be decoded, instead of stopping; either way '
        'undecodable-<split>.txt lists them.',
    )
    _PARTIAL = flags.DEFINE_bool(
        'partial', False, 'Accept fewer images than the source is published with.'
    )
    app.run(main, flags_parser=parse_flags)
