"""A folder of images as a source, as it was when it was listed (`listing`).

A split's files lie in the order of a hash of `<class>/<file>` (`hashing`). They are
listed once: later starts compare the directories' times of change alone (`unchanged`).
"""

import dataclasses
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.data import hashing
from alexnet_jax.data.sources import Example, SourceReadError

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

    def chosen(self, which: np.ndarray) -> 'Files':
        """Some of the files, in their order; bool[N]."""
        return dataclasses.replace(
            self,
            starts=self.starts[which],
            lengths=self.lengths[which],
            labels=self.labels[which],
            hashes=self.hashes[which],
        )

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

    directory: Path  # of the classes
    paths: list[str]
    labels: np.ndarray

    def read(self) -> Iterator[Example]:
        """The encoded images, each with `<split>/<class>/<file>` as its name."""
        for path, label in zip(self.paths, self.labels.tolist(), strict=True):
            file = self.directory / path
            yield f'{self.directory.name}/{path}', _content(file), label


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """A folder as it was when its files were listed."""

    name: str
    directory: Path
    class_names: tuple[str, ...]
    files: dict[str, Files]
    places: dict[str, str]  # of each split's classes, within the folder
    notes: tuple[str, ...]  # what is not read, and the like
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
            self.directory / self.places[split],
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
            'notes': self.notes,
        }


def unchanged(record: Any, directory: Path) -> bool:
    """Whether no directory of a folder has changed since `FolderSource.record`.

    A directory changes when an entry is added, removed or renamed. No file is looked
    at, so a file that was rewritten in place goes unnoticed.
    """
    match record:
        case {'path': str(path), 'directories': {**times}} if times:
            return path == os.fspath(directory) and all(
                when is not None and changed(directory / name) == when
                for name, when in times.items()
            )
    return False


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


def changed(directory: Path) -> int:
    """When a directory last changed, in ns; 0 if it is not there."""
    try:
        return os.stat(directory).st_mtime_ns
    except OSError:
        return 0


def _content(path: Path) -> bytes:
    """A regular file's bytes; anything else is refused before it is read."""
    try:
        # Without O_NONBLOCK opening a FIFO waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, 'rb') as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(0, 'it is no longer a file')
            return file.read()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str | os.PathLike, error: OSError) -> SourceReadError:
    """Says in one line what is wrong with a file or directory."""
    return SourceReadError(
        f'cannot read {os.fspath(path)!r}: {error.strerror or error}; '
        'put it back or remove it, and run the same command again'
    )
