"""The files of a split's records, each written by one process.

A shard is written under a temporary name; its sums beside it say that it is done, so
that a killed preparation goes on where it stood.
"""

import concurrent.futures
import concurrent.futures.process
import dataclasses
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python import array_record_module
from ml_collections import ConfigDict
from tqdm import tqdm

from alexnet_jax.data import disk, duplicates, images, manifest, metadata, sources
from alexnet_jax.system import bars, signals

SHARD_BYTES = 256e6
SHARD_EXAMPLES = 10_000  # fewer files to redo after a kill when records are small
# A small set has this many shards, or there would be nothing for a second worker; but
# none with fewer examples than the second number.
SMALL_SET_SHARDS, SMALLEST_SHARD = 16, 128


@dataclasses.dataclass(frozen=True)
class Shard:
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
        """Whether the shard and its sums are there, and whole."""
        # A power cut can leave a name without its content, and a process that finishes
        # the split takes the sums away.
        try:
            if not zipfile.is_zipfile(self.sums):
                return False
            with np.load(self.sums) as sums:
                return self.path.stat().st_size == int(sums['num_bytes'])
        except FileNotFoundError:
            return False


@dataclasses.dataclass(frozen=True)
class Task:
    """What a process needs to write a shard, and no more: it is pickled."""

    shard: Shard
    rows: sources.Rows
    classes: int
    stored: images.Stored
    skip_bad: bool


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a shard."""

    examples: int  # that the source had
    left_out: list[int]  # those that cannot be decoded, counted within the split
    undecodable: list[str]  # a line for each: its key and what is wrong


def _write_shard(task: Task, advance: Callable[[], object] = lambda: None) -> Outcome:
    """Writes a shard and its sums; nothing if it has images that stop the run."""
    shard = task.shard
    features = metadata.features(
        task.stored.size, task.stored.encoding, num_classes=task.classes
    )
    shape = (task.stored.size, task.stored.size, 3)
    pixel_sum = np.zeros(shape, np.uint64)
    product_sum = np.zeros((3, 3), np.int64)
    temporary = disk.temporary_name(shard.path)
    # Decompressing would be most of the reader's work, and JPEG gains nothing.
    writer = array_record_module.ArrayRecordWriter(
        str(temporary), 'group_size:1,uncompressed'
    )
    examples, left_out, undecodable, contents = 0, [], [], []
    try:
        for key, encoded, label in task.rows.read():
            examples += 1
            advance()
            try:
                record, pixels = images.encode(encoded, task.stored)
            except Exception as error:  # Pillow raises many kinds for a damaged file
                left_out.append(shard.start + examples - 1)
                undecodable.append(f'{key}: {images.why_undecodable(error)}')
                continue
            with disk.library_errors(shard.path):
                example = {'image': record, 'label': label}
                writer.write(features.serialize_example(example))
            pixel_sum += pixels
            contents.append(duplicates.number(encoded))
            flat = pixels.reshape(-1, 3).astype(np.float64)  # exact below 2**53
            product_sum += (flat.T @ flat).astype(np.int64)
        with disk.library_errors(shard.path):
            writer.close()
        outcome = Outcome(examples, left_out, undecodable)
        if examples != shard.stop - shard.start:
            return outcome
        if undecodable and not task.skip_bad:
            return outcome
        file = manifest.describe(temporary)
        disk.sync(temporary)
        os.replace(temporary, shard.path)
    finally:
        temporary.unlink(missing_ok=True)
    disk.write_npz(
        shard.sums,
        count=examples - len(undecodable),
        num_bytes=file.num_bytes,
        sha256=np.array(file.sha256),
        contents=np.array(contents, np.uint64),
        pixel_sum=pixel_sum,
        product_sum=product_sum,
        left_out=np.array(left_out, np.int64),
        undecodable=np.array(undecodable, np.str_),
    )
    return outcome


def plan(
    data: ConfigDict,
    source: sources.Source,
    split: str,
    directory: Path,
) -> list[Shard]:
    """The files that a split is written in."""
    size = source.split_sizes[split]
    per_shard = min(
        SHARD_EXAMPLES, max(1, int(SHARD_BYTES / images.stored(data).record_bytes))
    )
    count = -(-size // per_shard)
    count = max(count, min(SMALL_SET_SHARDS, size // SMALLEST_SHARD))
    bounds = [size * i // count for i in range(count + 1)]
    template = metadata.template(source.name, split, directory)
    return [
        Shard(
            split=split,
            start=bounds[i],
            stop=bounds[i + 1],
            path=Path(template.sharded_filepath(shard_index=i, num_shards=count)),
        )
        for i in range(count)
    ]


def write(
    data: ConfigDict,
    source: sources.Source,
    shards: list[Shard],
    workers: int,
    skip_bad: bool,
) -> tuple[list[int], list[str]]:
    """Writes the shards that are not done.

    Returns:
      The examples of all shards that cannot be decoded, and a line on each.
    """
    outcomes = {}
    for shard in shards:
        if shard.done:
            with np.load(shard.sums) as sums:
                outcomes[shard] = Outcome(
                    shard.stop - shard.start,
                    sums['left_out'].tolist(),
                    sums['undecodable'].tolist(),
                )
    todo = [s for s in shards if s not in outcomes]
    total = sum(s.stop - s.start for s in shards)
    workers = min(workers, len(todo))

    def task(shard: Shard) -> Task:
        return Task(
            shard=shard,
            rows=source.rows(shard.split, shard.start, shard.stop),
            classes=len(source.class_names),
            stored=images.stored(data),
            skip_bad=skip_bad,
        )

    with tqdm(
        total=total,
        initial=total - sum(s.stop - s.start for s in todo),
        desc=f'preparing {source.name} {shards[0].split}',
        unit=' images',
        mininterval=bars.interval(),
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
    todo: list[Shard], task: Callable[[Shard], Task], workers: int, bar: tqdm
) -> dict[Shard, Outcome]:
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
                # Ctrl-C is the command's; the workers, started here, end with it.
                with signals.blocked():
                    future = pool.submit(_write_shard_in_worker, task(shard))
                futures[future] = shard
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
    # The pool ends its workers so where one of them was killed.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Idle workers of a killed preparation would otherwise wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _write_shard_in_worker(task: Task) -> Outcome:
    return _write_shard(task, _count_one)


def _count_one() -> None:
    with _images_read.get_lock():
        _images_read.value += 1


def num_records(path: Path) -> int:
    """The records that a reader finds in a file; -1 if it is damaged."""
    try:
        reader = array_record_module.ArrayRecordReader(str(path))
        count = reader.num_records()
        reader.close()  # raises what is wrong with the file
    except Exception:  # its kinds differ between versions
        return -1
    return count
