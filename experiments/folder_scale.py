"""What a folder of millions of photographs costs to list, hand out and open again.

    python -m experiments.folder_scale --out=experiments/records/folder_scale

Names are generated and given to the functions that read a folder: of 1.3 million files
in 1,000 classes, as ImageNet has, and of 14 million in 21,841. Each repetition is a
process of its own, for its memory. Beside them stands what 0.1 did: sorted paths as
strings, all of them in every worker's task. Starts are measured on small real trees
that differ in files and classes. Nothing else should run on the machine meanwhile.
"""

import collections
import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import pickle
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from absl import app, flags
from ml_collections import ConfigDict
from PIL import Image

from alexnet_jax.configs import paper
from alexnet_jax.data import folders, prepare
from alexnet_jax.system import command_line
from experiments import report
from experiments.benchmark import rounds

SIZES = ((1_300_000, 1_000), (14_000_000, 21_841))  # files, classes
TREES = ((1_000, 20), (8_000, 20), (8_000, 1_000))
TASK = 5_208  # photographs of a shard of paper.py: shards.SHARD_BYTES of JPEG
WAYS = ('by hash', 'as strings')


def generated(files: int, classes: int) -> Iterator[folders.ClassFiles]:
    """Names such as ImageNet's, class by class, as a listing gives them."""
    for label in range(classes):
        synset = f'n{label:08}'
        prefix = f'{synset}_'.encode()
        start, stop = files * label // classes, files * (label + 1) // classes
        yield (
            synset,
            [(b'%s%d.JPEG' % (prefix, i), 110_000) for i in range(start, stop)],
        )


def list_names(way: str, files: int, classes: int) -> dict[str, float]:
    """Orders generated names and takes their fingerprint; run in a fresh process.

    Returns:
      seconds, without those that generating takes; peak_bytes, over what the process
      held before; task_bytes, pickled, of one shard; names_seconds, of generating.
    """
    before = peak_bytes()
    start = time.perf_counter()
    collections.deque(generated(files, classes), maxlen=0)
    names_seconds = time.perf_counter() - start
    start = time.perf_counter()
    if way == 'by hash':
        ordered, _ = folders.order(generated(files, classes))
        seconds = time.perf_counter() - start
        peak = peak_bytes() - before
        source = folders.FolderSource(
            name='photographs',
            directory=Path('/photographs'),
            class_names=ordered.classes,
            files={'train': ordered},
            places={'train': 'train'},
            notes=(),
            fingerprint='',
            directories={},
        )
        task = pickle.dumps(source.rows('train', 0, min(TASK, files)))
    else:
        found = sorted(
            (f'train/{name}/{os.fsdecode(file)}', size)
            for name, entries in generated(files, classes)
            for file, size in entries
        )
        hashlib.sha256(repr(found).encode()).hexdigest()
        paths = tuple(path for path, _ in found)
        seconds = time.perf_counter() - start
        peak = peak_bytes() - before
        task = pickle.dumps(paths)
    return {
        'seconds': seconds - names_seconds,
        'names_seconds': names_seconds,
        'peak_bytes': peak,
        'task_bytes': len(task),
    }


def peak_bytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make_tree(root: Path, files: int, classes: int) -> ConfigDict:
    """A prepared folder of links to one small image, and the config that names it."""
    image = root / 'image.png'
    Image.new('RGB', (1, 1)).save(image)
    folder = root / 'photographs'
    for label in range(classes):
        directory = folder / 'train' / f'n{label:08}'
        directory.mkdir(parents=True)
        for i in range(files * label // classes, files * (label + 1) // classes):
            os.link(image, directory / f'{i}.png')
    for directory in (folder, folder / 'train', *(folder / 'train').iterdir()):
        os.utime(directory, (1e9, 1e9))  # long ago, as of a set that is in use
    data = paper.get_config().data
    data.update(source='folder', data_dir=str(folder), encoding='raw', stored_size=1)
    data.update(validation_split='', prepared_dir=str(root / 'prepared'))
    prepare.open_prepared(data)
    return data


def start(data: ConfigDict, repetitions: int) -> dict[str, Any]:
    """Seconds and system calls of a start on a prepared folder.

    Returns:
      seconds, of each repetition; stat and scandir, calls of a start in the folder.
    """
    seconds = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        prepare.open_prepared(data)
        seconds.append(time.perf_counter() - begin)
    folder = Path(data.data_dir)
    counts = dict.fromkeys(('stat', 'scandir'), 0)

    def counting(name: str) -> Any:
        call = getattr(os, name)

        def counted(path: Any = '.', *args: Any, **kwargs: Any) -> Any:
            counts[name] += Path(os.fspath(path)).is_relative_to(folder)
            return call(path, *args, **kwargs)

        return mock.patch.object(os, name, counted)

    with counting('stat'), counting('scandir'):
        prepare.open_prepared(data)
    return {'seconds': seconds, **counts}


def measure(
    sizes: Sequence[tuple[int, int]],
    trees: Sequence[tuple[int, int]],
    repetitions: int,
) -> dict[str, Any]:
    """All of it; sizes and trees are pairs of files and classes."""
    spawn = multiprocessing.get_context('spawn')
    cases = [(way, *size) for size in sizes for way in WAYS]
    found = {case: [] for case in cases}
    for _ in range(repetitions):
        for case in cases:
            with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
                found[case].append(pool.submit(list_names, *case).result())
            print(f'{case}: {found[case][-1]["seconds"]:.3g} s', flush=True)
    listings = [
        {
            'files': files,
            'classes': classes,
            'way': way,
            **{key: [of[key] for of in results] for key in results[0]},
        }
        for (way, files, classes), results in found.items()
    ]
    starts = []
    for files, classes in trees:
        with tempfile.TemporaryDirectory() as root:
            data = make_tree(Path(root), files, classes)
            starts.append(
                {'files': files, 'classes': classes, **start(data, repetitions)}
            )
    return {'listings': listings, 'starts': starts}


def table(record: dict[str, Any]) -> str:
    """Both tables of a record; medians, with the least and the most in brackets."""
    listings = [
        [
            f'{row["files"]:,} in {row["classes"]:,}',
            row['way'],
            rounds.spread(row['seconds']),
            f'{max(row["peak_bytes"]) / rounds.MIB:,.0f}',
            f'{statistics.median(row["task_bytes"]) / rounds.MIB:.3g}',
        ]
        for row in record['listings']
    ]
    starts = [
        [
            f'{row["files"]:,} in {row["classes"]:,}',
            rounds.spread(row['seconds']),
            str(row['stat']),
            str(row['scandir']),
        ]
        for row in record['starts']
    ]
    return '\n\n'.join(
        [
            'Names in memory, ordered, with their fingerprint (the disk is not read)',
            report.markdown_table(
                ['files in classes', 'way', 'seconds', 'peak, MiB', 'a task, MiB'],
                listings,
            ),
            'A start on a prepared folder (files in the page cache)',
            report.markdown_table(
                ['files in classes', 'seconds', 'stat calls', 'scandir calls'], starts
            ),
        ]
    )


def main(argv: Sequence[str]) -> None:
    """Measures, prints the tables and writes the record."""
    command_line.reject_positionals(argv)
    out = command_line.local_path('out', _OUT.value)
    about = rounds.machine()
    record = {
        'benchmark': 'folder_scale',
        'rounds': _ROUNDS.value,
        **about,
        **measure(SIZES, TREES, _ROUNDS.value),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / 'record.json').write_text(json.dumps(record, indent=1) + '\n')
    text = f'{rounds.heading(record)}\n\n{table(record)}\n'
    (out / 'table.md').write_text(text)
    print(text)


if __name__ == '__main__':
    _OUT = flags.DEFINE_string('out', 'runs/folder_scale', 'Where the record goes.')
    _ROUNDS = flags.DEFINE_integer('rounds', 3, 'Repetitions of each.', lower_bound=1)
    app.run(main, flags_parser=command_line.parse_flags)
