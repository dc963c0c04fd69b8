"""A folder of images `<folder>/<split>/<class>/*.jpg|jpeg|png` as a source.

A split's files lie in the order of a hash of `<class>/<file>` (`hashing`). They are
listed once: later starts compare the directories' times of change alone (`unchanged`).
"""

import dataclasses
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import hashing, images, splits
from alexnet_jax.data.sources import Example, SourceNotFoundError, SourceReadError

# A directory that changed so recently may change again within the same tick of its
# file system's clock, which would not show.
SETTLED_NS = 2 * 10**9

# A class and the names and sizes of its files.
ClassFiles = tuple[str, Sequence[tuple[bytes, int]]]


@dataclasses.dataclass(frozen=True)
class Files:
    """A split's files by their hashes, in 22 bytes each beside the names.

    As Python strings, 14 million names take 1.4 GB and twice that while being sorted.
    """

    classes: tuple[str, ...]
    names: bytes  # of all files, one after the other
    starts: np.ndarray  # int64[N], of a name in `names`
    lengths: np.ndarray  # uint16[N]
    labels: np.ndarray  # int32[N]
    hashes: np.ndarray  # uint64[N], sorted

    def __len__(self) -> int:
        return len(self.hashes)

    def paths(self, start: int, stop: int) -> list[str]:
        """`<class>/<file>` of the files [start, stop)."""
        rows = slice(start, stop)
        return [
            f'{self.classes[label]}/{os.fsdecode(self.names[first : first + length])}'
            for first, length, label in zip(
                self.starts[rows].tolist(),
                self.lengths[rows].tolist(),
                self.labels[rows].tolist(),
                strict=True,
            )
        ]


@dataclasses.dataclass(frozen=True)
class FolderRows:
    """Some of a folder's files and their labels, int32[N]."""

    directory: Path  # of the split
    paths: list[str]
    labels: np.ndarray

    def read(self) -> Iterator[Example]:
        """The encoded images, each with `<split>/<class>/<file>` as its name."""
        for path, label in zip(self.paths, self.labels.tolist(), strict=True):
            file = self.directory / path
            try:
                encoded = file.read_bytes()
            except OSError as error:
                raise SourceReadError(
                    f'cannot read {file}: {error.strerror or error}; '
                    'put it back or remove it, and run the same command again'
                ) from error
            yield f'{self.directory.name}/{path}', encoded, label


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """A folder as it was when its files were listed."""

    name: str
    directory: Path
    class_names: tuple[str, ...]
    files: dict[str, Files]
    fingerprint: str  # of the files' names and sizes and of the order
    # When the folder, splits and classes last changed, in ns; None: too recently.
    directories: dict[str, int | None]

    @property
    def split_sizes(self) -> dict[str, int]:
        """How many images each split has."""
        return {split: len(files) for split, files in self.files.items()}

    def rows(self, split: str, start: int, stop: int) -> FolderRows:
        """Files [start, stop) of a split."""
        files = self.files[split]
        return FolderRows(
            self.directory / split,
            files.paths(start, stop),
            files.labels[start:stop],
        )

    def arrangement(self, split: str, left_out: Sequence[int]) -> dict[str, np.ndarray]:
        """The sorted hashes of the files that have a record, for slices in percents."""
        return {'hashes': np.delete(self.files[split].hashes, left_out)}

    def record(self) -> dict[str, Any]:
        """What `unchanged` compares, for a JSON file."""
        return {
            'path': os.fspath(self.directory),
            'fingerprint': self.fingerprint,
            'directories': self.directories,
        }


def unchanged(record: dict[str, Any], directory: Path) -> bool:
    """Whether no directory of a folder has changed since `FolderSource.record`.

    A directory changes when an entry is added, removed or renamed. No file is looked
    at, so a file that was rewritten in place goes unnoticed.
    """
    return record['path'] == os.fspath(directory) and all(
        changed is not None and _changed(directory / name) == changed
        for name, changed in record['directories'].items()
    )


def open_folder(data: ConfigDict) -> FolderSource:
    """Lists the folder that config.data names.

    Raises:
      SourceNotFoundError: there is none.
      ValueError: it has not the layout above.
    """
    directory = Path(data.data_dir).expanduser()
    layout = f'{directory}/<split>/<class>/*.jpg|jpeg|png'
    if not data.data_dir or not directory.is_dir():
        raise SourceNotFoundError(
            f'no folder of images at {data.data_dir!r} (config.data.data_dir); make '
            '<data_dir>/<split>/<class>/*.jpg|jpeg|png there'
        )
    directory = directory.resolve()
    # Each directory's time is taken before it is read: a later change shows.
    listed_at = time.time_ns()
    directories = {'': _changed(directory)}
    classes = {}
    for split in _subfolders(directory):
        directories[split] = _changed(directory / split)
        if found := _subfolders(directory / split):
            classes[split] = found
    if not classes:
        raise ValueError(f'no splits with classes in {directory}; expected {layout}')
    class_names = _check_classes(data, directory, classes, layout)
    digest = hashlib.sha256(repr(('by hash', class_names)).encode())
    files = {}
    for split, names in classes.items():
        for name in names:
            directories[f'{split}/{name}'] = _changed(directory / split / name)
        files[split], of_split = order(_list(directory / split, names))
        digest.update(split.encode(errors='surrogateescape') + of_split)
    return FolderSource(
        name=directory.name,
        directory=directory,
        class_names=class_names,
        files=files,
        fingerprint=digest.hexdigest(),
        directories={
            name: changed if changed < listed_at - SETTLED_NS else None
            for name, changed in directories.items()
        },
    )


def order(classes: Iterable[ClassFiles]) -> tuple[Files, bytes]:
    """A split's files in the order of their hashes, and a digest of names and sizes."""
    digest = hashlib.sha256()
    class_names, names = [], bytearray()
    lengths, labels, hashes = [], [], []
    for label, (class_name, entries) in enumerate(classes):
        entries = sorted(entries)
        digest.update(repr((class_name, entries)).encode())
        class_names.append(class_name)
        names += b''.join([name for name, _ in entries])
        lengths.append(np.array([len(name) for name, _ in entries], np.uint16))
        labels.append(np.full(len(entries), label, np.int32))
        prefix = os.fsencode(class_name) + b'/'
        hashes.append(hashing.hashes([prefix + name for name, _ in entries]))
    all_lengths, all_hashes = np.concatenate(lengths), np.concatenate(hashes)
    starts = np.cumsum(all_lengths, dtype=np.int64) - all_lengths
    by_hash = np.argsort(all_hashes, kind='stable')
    files = Files(
        classes=tuple(class_names),
        names=bytes(names),
        starts=starts[by_hash],
        lengths=all_lengths[by_hash],
        labels=np.concatenate(labels)[by_hash],
        hashes=all_hashes[by_hash],
    )
    return files, digest.digest()


def _list(split: Path, classes: Iterable[str]) -> Iterator[ClassFiles]:
    for name in classes:
        try:
            with os.scandir(split / name) as entries:
                files = [
                    (os.fsencode(entry.name), entry.stat().st_size)
                    for entry in entries
                    if entry.name.lower().endswith(images.SUFFIXES)
                    and not entry.name.startswith('.')
                ]
        except OSError as error:  # a link to nothing, a file just removed
            raise SourceReadError(
                f'cannot read {error.filename or split / name}: '
                f'{error.strerror or error}; put it back or remove it, and run the '
                'same command again'
            ) from error
        yield name, files


def _check_classes(
    data: ConfigDict, directory: Path, classes: dict[str, list[str]], layout: str
) -> tuple[str, ...]:
    """The classes that all splits have which config.data names."""
    named = [split for split in splits.named_splits(data) if split in classes]
    for split in named:
        names, first = classes[split], classes[named[0]]
        if len(names) < 2:
            raise ValueError(
                f'{directory / split} has one class ({names[0]!r}); a classifier needs '
                f'two or more: {layout}'
            )
        if differing := set(first) ^ set(names):
            raise ValueError(
                f'splits {named[0]!r} and {split!r} of {directory} have different '
                f'classes; only one of them has {", ".join(sorted(differing))}'
            )
    return tuple(classes[(named or list(classes))[0]])


def _subfolders(directory: Path) -> list[str]:
    with os.scandir(directory) as entries:
        return sorted(e.name for e in entries if e.is_dir() and e.name[0] != '.')


def _changed(directory: Path) -> int:
    """When a directory last changed, in ns; 0 if it is not there."""
    try:
        return os.stat(directory).st_mtime_ns
    except OSError:
        return 0
