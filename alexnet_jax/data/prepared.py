"""A prepared set on disk: where it lies, what is in it, and opening it.

    <prepared_dir>/<source>-<size>-<encoding>-<fingerprint>/1.0.0/

holds array_record files, the statistics of their pixels and the order of the examples.
Its `set.json` (`manifest`) says what it was made of and what each file must be;
docs/preparation.md lists the files.
"""

import dataclasses
import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import images, manifest, sources, splits
from alexnet_jax.data.manifest import DamagedError, Manifest
from alexnet_jax.system.files import read_json


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
    records: Mapping[str, tuple[manifest.RecordFile, ...]]  # of each split
    left_out: dict[str, int]  # images of each split that could not be decoded
    source_path: str = ''  # the folder, or the data_dir that TFDS was given
    fingerprint: str = ''  # of the source's content, SHA-256
    again: str = ''  # how to make the set again, where it turns out to be damaged
    notes: tuple[str, ...] = ()  # on the source: what is not read, and the like

    @property
    def num_classes(self) -> int:
        """How many classes there are, in the training split or not."""
        return len(self.class_names)

    @property
    def split_sizes(self) -> dict[str, int]:
        """How many images each split has."""
        return {
            split: sum(shard.records for shard in shards)
            for split, shards in self.records.items()
        }


def statistics(directory: Path, split: str) -> Path:
    """Sums over the split's pixels."""
    return directory / f'statistics-{split}.npz'


def hashes(directory: Path, split: str) -> Path:
    """The sorted hashes of a folder's examples, by which percents are cut."""
    return directory / f'hashes-{split}.npy'


def permutation(directory: Path, split: str) -> Path:
    """The record of each place in the order, where records lie in another."""
    return directory / f'permutation-{split}.npy'


def contents(directory: Path, split: str) -> Path:
    """A number for the encoded image that each record was made of (`duplicates`)."""
    return directory / f'contents-{split}.npy'


def undecodable_report(directory: Path, split: str) -> Path:
    """A line on each image that could not be decoded."""
    return directory / f'undecodable-{split}.txt'


def source_record(directory: Path) -> Path:
    """What tells that a folder has not changed (`folders.unchanged`)."""
    return directory / 'source.json'


def directory_of(data: ConfigDict, source: sources.Source) -> Path:
    """Where the set that config.data makes of a source lies, or would."""
    of = os.fsencode(f'{path_of(data)}\0{source.fingerprint}')
    return _root(data) / _name(data, hashlib.sha256(of).hexdigest()[:8]) / '1.0.0'


def path_of(data: ConfigDict) -> str:
    """The path that sets of config.data belong to; '' is TFDS's own place."""
    if not data.data_dir:
        return ''
    # Unlike Path.resolve, it leaves a loop of links to whoever opens it.
    return os.path.realpath(os.path.expanduser(data.data_dir))


def fingerprint_of(source: sources.Source) -> str:
    """The SHA-256 of what a source says of its content."""
    return hashlib.sha256(os.fsencode(source.fingerprint)).hexdigest()


def find(data: ConfigDict) -> list[Path]:
    """The complete sets of config.data's path, whatever it held at the time."""
    found = []
    for directory in sorted(_root(data).glob(_name(data, '*/1.0.0'))):
        try:
            known = manifest.read(directory)
        except (FileNotFoundError, NotADirectoryError, DamagedError):
            continue  # of another version; or named when it is opened itself
        if known.path == path_of(data) and known.splits.keys() >= {
            *splits.named_splits(data)
        }:
            found.append(directory)
    return found


def finished_at(directory: Path) -> float:
    """When the last split of a set was done, in seconds since 1970."""
    return (directory / manifest.NAME).stat().st_mtime


def done(directory: Path, data: ConfigDict) -> dict[str, manifest.Split]:
    """The splits of a set that are done.

    Raises:
      ValueError: the set is damaged; says how to make it again.
    """
    try:
        return dict(manifest.read(directory).splits)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except DamagedError as error:
        raise damaged(error, directory, data) from error


def again(directory: Path, data: ConfigDict) -> str:
    """How to make a set again."""
    return f'remove {directory} and make it again: {sources.prepare_command(data)}'


def damaged(
    error: Exception | str, directory: Path, data: ConfigDict
) -> manifest.DamagedError:
    """What is wrong with a set, and how to make it again, in one line."""
    return DamagedError(f'damaged prepared set: {error}; {again(directory, data)}')


def load(
    directory: Path, data: ConfigDict, source: sources.Source | None = None
) -> PreparedDataset:
    """Opens a set; its statistics are those of the training split.

    Args:
      directory: that has all splits that config.data names.
      data: config.data.
      source: what the set must have been made of; None where it is not there.

    Raises:
      ValueError: it is not as it was written; says how to make it again.
    """
    try:
        return _load(directory, data, source)
    except (DamagedError, FileNotFoundError) as error:
        raise damaged(error, directory, data) from error


def _load(
    directory: Path, data: ConfigDict, source: sources.Source | None
) -> PreparedDataset:
    known = manifest.read(directory)
    _check_belongs(directory, known, data, source)
    check_files(directory, known)
    count = 0
    pixel_sum = np.zeros((data.stored_size, data.stored_size, 3), np.int64)
    product_sum = np.zeros((3, 3))
    left_out = {}
    for split in known.splits:
        path = statistics(directory, split)
        sums = read_sums(path, data.stored_size)
        left_out[split] = len(sums['undecodable'])
        if split in splits.base_splits(data.train_split):
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
    return PreparedDataset(
        directory=directory,
        class_names=known.class_names,
        stored_size=data.stored_size,
        encoding=data.encoding,
        mean_image=mean_image.astype(np.float32),
        colour_std=np.sqrt(np.maximum(variances, 0)).astype(np.float32),
        colour_components=components.astype(np.float32),
        records={name: split.shards for name, split in known.splits.items()},
        left_out=left_out,
        source_path=known.path,
        fingerprint=known.fingerprint,
        again=again(directory, data),
        notes=_notes(directory),
    )


def _check_belongs(
    directory: Path, known: Manifest, data: ConfigDict, source: sources.Source | None
) -> None:
    """Refuses a set of another source, or stored in another way."""
    wanted = {
        'source': (known.source, data.source),
        'path': (known.path, path_of(data)),
        'way of storing': (
            dict(known.stored),
            dataclasses.asdict(images.stored(data)),
        ),
    }
    if source is not None:
        wanted['content'] = (known.fingerprint, fingerprint_of(source))
    for what, (found, expected) in wanted.items():
        if found != expected:
            raise DamagedError(
                f'{directory} is of another {what}, {found!r} instead of {expected!r}'
            )
    if missing := {*splits.named_splits(data)} - known.splits.keys():
        raise DamagedError(f'{directory} has no split {min(missing)!r}')


def check_files(directory: Path, known: Manifest) -> None:
    """Compares what opening a set can: all sizes, and the digests of small files.

    Raises:
      DamagedError: a file is not as it was written.
    """
    for split in known.splits.values():
        for file in split.shards:
            manifest.check_size(directory, file)
        for file in split.others:
            of_all = file.name.startswith('statistics-')
            check = manifest.check_digest if of_all else manifest.check_size
            check(directory, file)
    for file in known.metadata:
        manifest.check_digest(directory, file)
    for name, split in known.splits.items():
        for kind in (hashes, permutation, contents):
            path = kind(directory, name)
            if path.exists() and len(_array(path)) != split.size:
                raise DamagedError(f'{path} is not of {split.size:,} images')


def read_sums(path: Path, size: int) -> dict[str, np.ndarray]:
    """The sums over a split's pixels.

    Raises:
      DamagedError: there are none in the file, or those of another size.
    """
    shapes = {'pixel_sum': (size, size, 3), 'product_sum': (3, 3)}
    try:
        with np.load(path) as arrays:
            sums = {name: arrays[name] for name in (*shapes, 'shard_counts')}
            sums['undecodable'] = arrays['undecodable']
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedError(f'{path} has no sums: {error}') from error
    if any(sums[name].shape != shape for name, shape in shapes.items()):
        raise DamagedError(f'{path} has sums of another size')
    return sums


def _array(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode='r')
    except (OSError, ValueError, EOFError) as error:
        raise DamagedError(f'{path} has no array: {error}') from error


def arrays(paths: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """The arrays that exist of those at `paths`, left on disk, by the same keys."""
    return {key: _array(path) for key, path in paths.items() if path.exists()}


def arrays_of(
    dataset: PreparedDataset, kind: Callable[[Path, str], Path]
) -> dict[str, np.ndarray]:
    """The arrays of a kind, such as `hashes`, of the splits that have them."""
    return arrays({split: kind(dataset.directory, split) for split in dataset.records})


def _notes(directory: Path) -> tuple[str, ...]:
    record = read_json(source_record(directory))
    notes = record.get('notes') if isinstance(record, dict) else None
    return tuple(map(str, notes)) if isinstance(notes, list) else ()


def _root(data: ConfigDict) -> Path:
    if data.prepared_dir:
        return Path(data.prepared_dir).expanduser().absolute()
    return sources.tfds_directory().absolute() / 'alexnet_jax'


def _name(data: ConfigDict, digest: str) -> str:
    name = Path(path_of(data)).name if data.source == 'folder' else data.source
    encoding = f'jpeg{data.jpeg_quality}' if data.encoding == 'jpeg' else 'raw'
    size = f'{data.stored_size}{"" if data.fit == "crop" else data.fit}'
    name = re.sub(r'[^\w.]', '_', name)
    return f'{name}-{size}-{encoding}-{digest}'
