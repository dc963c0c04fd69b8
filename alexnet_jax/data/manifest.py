"""What a prepared set says of itself, `set.json`: its source, its files, their digests.

It is all that opening a set believes, and only after looking: names are plain names of
files within the folder, sizes and digests are compared, and nothing in it is code.
TFDS's metadata lie beside it for other readers.
"""

import dataclasses
import hashlib
import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alexnet_jax.system.files import write_atomically

FORMAT = 1
NAME = 'set.json'
# A name of a file that lies in the folder itself, and no longer than file systems take.
_PLAIN = re.compile(r'[\w@+=,-][\w@+=,.-]{0,250}')


class DamagedError(ValueError):
    """A set is not as `prepare` left it."""


@dataclasses.dataclass(frozen=True)
class File:
    """A file of the set."""

    name: str
    num_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class RecordFile(File):
    """A file of a split's records."""

    records: int


@dataclasses.dataclass(frozen=True)
class Split:
    """A split that is done."""

    shards: tuple[RecordFile, ...]
    others: tuple[File, ...]  # statistics and the arrays that slices need

    @property
    def size(self) -> int:
        """How many images it has."""
        return sum(shard.records for shard in self.shards)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of `set.json`."""

    source: str  # a TFDS name, or 'folder'
    path: str  # the folder, or the data_dir that TFDS was given
    fingerprint: str  # of the source's content, SHA-256
    stored: Mapping[str, Any]  # images.Stored
    class_names: tuple[str, ...]
    splits: Mapping[str, Split]
    # TFDS's; none while a split is being added, which changes them.
    metadata: tuple[File, ...] = ()


def write(directory: Path, manifest: Manifest) -> None:
    """Writes it whole; a split is done once it is named here."""
    content = {'format': FORMAT} | dataclasses.asdict(manifest)
    # In ASCII: a path need not be UTF-8.
    text = json.dumps(content | {'sha256': _digest(content)}, indent=1)
    write_atomically(directory / NAME, text + '\n')


def read(directory: Path) -> Manifest:
    """Reads it, and believes no name that leads out of the folder.

    Raises:
      FileNotFoundError: there is none.
      DamagedError: it is not one that `write` has written.
    """
    path = directory / NAME
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        found = content.pop('format'), content.pop('sha256')
        if found != (FORMAT, _digest({'format': FORMAT} | content)):
            raise DamagedError(f'{path} is of another version or was changed')
        manifest = Manifest(
            **content
            | {
                'class_names': tuple(map(str, content['class_names'])),
                'splits': {
                    name: Split(
                        tuple(RecordFile(**shard) for shard in split['shards']),
                        tuple(File(**file) for file in split['others']),
                    )
                    for name, split in content['splits'].items()
                },
                'metadata': tuple(File(**file) for file in content['metadata']),
            }
        )
        for name, split in manifest.splits.items():
            files = (*split.shards, *split.others, *manifest.metadata)
            for plain in (name, *(file.name for file in files)):
                if not _PLAIN.fullmatch(plain):
                    raise DamagedError(f'{path} names {plain!r}, which is no file here')
            if any(shard.records < 0 for shard in split.shards):
                raise DamagedError(f'{path} has a file of fewer than 0 records')
    except (FileNotFoundError, NotADirectoryError, DamagedError):
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedError(f'{path} cannot be read: {_in_short(error)}') from error
    return manifest


def describe(path: Path) -> File:
    """A file as it is."""
    return File(path.name, path.stat().st_size, digest(path))


def digest(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def check_size(directory: Path, file: File) -> Path:
    """Where a file lies: in the folder, as long as it was.

    Raises:
      DamagedError: it is missing, or longer or shorter, or lies elsewhere.
    """
    path = directory / file.name
    try:
        found = path.stat()
        # A link to another name in the folder is good, one that leads out is not.
        inside = not path.is_symlink() or path.resolve().is_relative_to(
            directory.resolve()
        )
    except OSError as error:
        raise DamagedError(f'{path}: {error.strerror or error}') from error
    if not stat.S_ISREG(found.st_mode) or not inside:
        raise DamagedError(f'{path} is not a file of this folder')
    if found.st_size != file.num_bytes:
        raise DamagedError(
            f'{path} has {found.st_size:,} bytes instead of {file.num_bytes:,}'
        )
    return path


def check_digest(directory: Path, file: File) -> None:
    """Checks a file's content, and its size before that.

    Raises:
      DamagedError: as `check_size`, or the content is another.
    """
    path = check_size(directory, file)
    if digest(path) != file.sha256:
        raise DamagedError(f'{path} is not as it was written')


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _in_short(error: Exception) -> str:
    return ' '.join(str(error).split())[:100] or type(error).__name__
