"""Turn a data set into square records of one size, with its mean image and colour PCA.

The short side is resized to config.data.stored_size (Pillow's bicubic filter, which
widens with the reduction and so does not alias) and the central square kept, as §2 of
the paper does; a square image of that size passes unchanged. config.data.fit='warp'
resizes both sides instead. A killed preparation goes on where it stood.
"""

import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import (
    disk,
    folders,
    images,
    listing,
    manifest,
    metadata,
    plain_files,
    prepared,
    shards,
    sources,
    splits,
    tfds_sets,
)
from alexnet_jax.data.prepared import PreparedDataset
from alexnet_jax.system import locks
from alexnet_jax.system.files import read_json, write_atomically


def open_prepared(data: ConfigDict, *, prepare_missing: bool = True) -> PreparedDataset:
    """Opens the prepared set of config.data, preparing it first if it is a small one.

    Args:
      data: config.data.
      prepare_missing: prepare what is missing if that takes no more than
        data.auto_prepare_gb; otherwise the error says how to.

    Raises:
      ValueError: one line on what is missing or wrong.
    """
    found = prepared.find(data)
    for directory in found:
        if _unchanged(directory, data):
            return prepared.load(directory, data)
    try:
        source = open_source(
            data, largest_gb=data.auto_prepare_gb if prepare_missing else 0.0
        )
    except sources.SourceNotFoundError:
        # Once prepared, the source is needed no more; of a folder that grew there are
        # several sets.
        if not found:
            raise
        return prepared.load(max(found, key=prepared.finished_at), data)
    directory = prepared.directory_of(data, source)
    if prepared.done(directory, data).keys() >= {*splits.named_splits(data)}:
        with contextlib.suppress(OSError):  # the set of someone else
            _record_source(directory, source)
    else:
        gigabytes = images.stored(data).record_bytes / 1e9
        gigabytes *= sum(source.split_sizes[s] for s in splits.named_splits(data))
        if not prepare_missing or gigabytes > data.auto_prepare_gb:
            raise ValueError(
                f'{data.source} is not prepared at {data.stored_size} pixels; it would '
                f'take about {gigabytes:.2g} GB in {directory}; prepare it with: '
                f'{sources.prepare_command(data)}'
            )
        prepare(data, source)
    return prepared.load(directory, data, source)


def open_source(data: ConfigDict, *, largest_gb: float = math.inf) -> sources.Source:
    """The source that config.data names.

    Args:
      data: config.data.
      largest_gb: TFDS downloads or generates no larger set than this on the way, and
        none at 0.

    Raises:
      SourceNotFoundError: there is none.
      ValueError: it is no set of images with classes, or lacks a split or its images.
    """
    if data.source == 'folder':
        source = listing.open_folder(data)
    else:
        source = tfds_sets.open_tfds(data, largest_gb)
    for split in splits.named_splits(data):
        if split not in source.split_sizes:
            keys = ('train_split', 'validation_split', 'test_split')
            key = next(
                k for k in keys if data[k] and split in splits.base_splits(data[k])
            )
            without = f' (--config.data.{key}= for none)' if key == keys[-1] else ''
            raise ValueError(
                f'{data.source} has no split {split!r}; it has '
                f'{", ".join(source.split_sizes)}; choose with '
                f'--config.data.{key}=…{without}'
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
    """Writes what is missing of the records that config.data names; their directory.

    Args:
      data: config.data.
      source: what `open_source` found for it.
      workers: processes that decode and resize.
      skip_bad: leave images out that cannot be decoded, instead of stopping.

    Raises:
      ValueError: one line; among the reasons are a full disk, images that cannot be
        decoded, and records that are not as many as the examples of the source.
    """
    directory = prepared.directory_of(data, source)
    named = splits.named_splits(data)
    done = prepared.done(directory, data)
    to_write = sum(
        shard.stop - shard.start
        for split in named
        if split not in done
        for shard in shards.plan(data, source, split, directory)
        if not shard.done
    )
    disk.check_free_disk(
        directory,
        to_write * images.stored(data).record_bytes,
        'config.data.prepared_dir',
    )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with locks.held(directory / '.lock', waiting=f'to prepare {directory}'):
            disk.remove_temporaries(directory)
            for split in named:
                if split not in prepared.done(directory, data):
                    _prepare_split(data, source, split, directory, workers, skip_bad)
            _record_source(directory, source)
            dataset = prepared.load(directory, data, source)
            plain_files.write(dataset, data)
    except OSError as error:
        raise ValueError(
            f'cannot write {directory}: {error.strerror or error}; the same command '
            'goes on from here (config.data.prepared_dir says where prepared sets go)'
        ) from error
    for line in differences_from_published(dataset, data):
        print(f'warning: {line}', file=sys.stderr)
    return directory


def _prepare_split(
    data: ConfigDict,
    source: sources.Source,
    split: str,
    directory: Path,
    workers: int,
    skip_bad: bool,
) -> None:
    planned = shards.plan(data, source, split, directory)
    left_out, undecodable = shards.write(data, source, planned, workers, skip_bad)
    _report_undecodable(data, directory, source, split, undecodable, skip_bad)
    records, contents, pixel_sum, product_sum = [], [], 0, 0
    for shard in planned:
        with np.load(shard.sums) as sums:
            file = manifest.RecordFile(
                name=shard.path.name,
                num_bytes=int(sums['num_bytes']),
                sha256=str(sums['sha256']),
                records=int(sums['count']),
            )
            contents.append(sums['contents'])
            pixel_sum = pixel_sum + sums['pixel_sum']
            product_sum = product_sum + sums['product_sum']
        if (found := shards.num_records(shard.path)) != file.records:
            raise ValueError(
                f'{shard.path} holds {found} records instead of {file.records}; remove '
                'it and run the same command again'
            )
        records.append(file)
    counts = [file.records for file in records]
    expected = source.split_sizes[split] - len(undecodable)
    if sum(counts) != expected:
        raise ValueError(
            f'{sum(counts):,} records were written for the split {split!r} of '
            f'{source.name}, which has {expected:,} images that can be decoded; remove '
            f'{directory} and prepare it again'
        )
    arrays = source.arrangement(split, left_out) | {
        'contents': np.concatenate(contents)
    }
    others = [directory / f'{name}-{split}.npy' for name in arrays]
    for path, array in zip(others, arrays.values(), strict=True):
        disk.write_npy(path, array)
    others.append(prepared.statistics(directory, split))
    disk.write_npz(
        others[-1],
        shard_counts=np.array(counts),
        pixel_sum=pixel_sum,
        product_sum=product_sum,
        undecodable=np.array(undecodable, np.str_),
    )
    done = prepared.done(directory, data)
    known = manifest.Manifest(
        source=data.source,
        path=prepared.path_of(data),
        fingerprint=prepared.fingerprint_of(source),
        stored=dataclasses.asdict(images.stored(data)),
        class_names=source.class_names,
        splits=done,
    )
    # Several files cannot change at once: while TFDS's do, the manifest names none.
    manifest.write(directory, known)
    more = manifest.Split(tuple(records), tuple(map(manifest.describe, others)))
    written = metadata.write(
        directory,
        source.name,
        metadata.features(
            data.stored_size, data.encoding, names=list(source.class_names)
        ),
        {name: of.shards for name, of in (done | {split: more}).items()},
    )
    manifest.write(
        directory,
        dataclasses.replace(known, splits=done | {split: more}, metadata=written),
    )
    for shard in planned:
        shard.sums.unlink()


def _report_undecodable(
    data: ConfigDict,
    directory: Path,
    source: sources.Source,
    split: str,
    undecodable: list[str],
    skip_bad: bool,
) -> None:
    """Lists the images in a file; raises if they stop the run."""
    report = prepared.undecodable_report(directory, split)
    if not undecodable:
        report.unlink(missing_ok=True)  # of an earlier attempt
        return
    lines = '\n'.join(undecodable) + '\n'  # of names that need not be UTF-8
    report.write_text(lines, encoding='utf-8', errors='backslashreplace')
    if len(undecodable) == source.split_sizes[split]:
        raise ValueError(
            f'no image of the split {split!r} of {source.name} can be decoded, e.g. '
            f'{undecodable[0]} (all in {report})'
        )
    if not skip_bad:
        more = ', …' if len(undecodable) > 3 else ''
        anew = ''
        if data.source == 'folder':
            anew = f', which makes another set from its start ({directory} can go then)'
        raise ValueError(
            f'{len(undecodable)} images of {source.name} cannot be decoded: '
            f'{", ".join(undecodable[:3])}{more} (all in {report}); replace or remove '
            f'them{anew}, or leave them out: {sources.prepare_command(data)} --skip_bad'
        )


def differences_from_published(
    dataset: PreparedDataset, data: ConfigDict
) -> Iterator[str]:
    """A line for each count that is not the one that the data set is known by."""
    published = sources.PUBLISHED_COUNTS.get(data.source)
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


def _unchanged(directory: Path, data: ConfigDict) -> bool:
    """Whether config.data's folder is as it was when this set was made of it."""
    if data.source != 'folder' or not data.data_dir:
        return False
    record = read_json(prepared.source_record(directory))
    return folders.unchanged(record, Path(prepared.path_of(data)))


def _record_source(directory: Path, source: sources.Source) -> None:
    """Keeps what tells later that a folder has not changed."""
    if isinstance(source, folders.FolderSource):
        path = prepared.source_record(directory)
        # In ASCII: a name need not be UTF-8.
        content = json.dumps(source.record(), indent=1) + '\n'
        if not path.exists() or path.read_text() != content:
            write_atomically(path, content)
