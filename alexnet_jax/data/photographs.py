"""Files and folders of images, decoded in threads as preparation stores them.

The number of files does not matter: only those that are on their way are in memory.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from alexnet_jax.data import entries, images

Item = TypeVar('Item')


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A file and its pixels, or what is wrong with it."""

    path: Path
    pixels: np.ndarray | None  # u8[S, S, 3]
    problem: str = ''
    label: int | None = None  # of an image of a data set


def find(paths: Sequence[Path]) -> Iterator[Path]:
    """The files that are named, and every image below the folders that are named.

    A folder's images come in the order of their names, those of a folder before those
    of the folders in it. What is not there, and a folder that cannot be read, comes
    too, for `read` to say so.

    Raises:
      ValueError: nothing of it is there, or a folder has no images.
    """
    if not any(path.exists() for path in paths):
        raise ValueError(f'there is no file or folder {", ".join(map(str, paths))}')
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = False
        for file in _below(path, set()):
            found = True
            yield file
        if not found:
            raise ValueError(
                f'{path} and the folders in it have no images '
                f'({", ".join(entries.SUFFIXES)})'
            )


def _below(folder: Path, seen: set[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in seen:  # a link to a folder above
        return
    seen.add(real)
    try:
        with os.scandir(folder) as found:
            visible = sorted((e.name, _is_folder(e)) for e in found if e.name[0] != '.')
    except OSError:
        yield folder  # `read` says what is wrong with it
        return
    for name, is_folder in visible:
        if not is_folder and name.lower().endswith(entries.SUFFIXES):
            yield folder / name
    for name, is_folder in visible:
        if is_folder:
            yield from _below(folder / name, seen)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def name(path: str | Path) -> str:
    """A path as text; what is no UTF-8 in it becomes U+FFFD."""
    return os.fsencode(path).decode(errors='replace')


def read(
    files: Iterable[Path], stored: images.Stored, *, ahead: int
) -> Iterator[Photograph]:
    """Decodes files in their order, some of them ahead of who asks.

    Args:
      files: of images.
      stored: how preparation would store them; the pixels are those that it would
        give to a network.
      ahead: files that are decoded, or being decoded, before they are asked for.
    """
    return _in_threads(functools.partial(_read, stored=stored), files, ahead)


def decode(
    encoded: Iterable[tuple[str, bytes]], stored: images.Stored, *, ahead: int
) -> Iterator[Photograph]:
    """The same of images that are in memory, each with a name."""
    return _in_threads(functools.partial(_decode, stored=stored), encoded, ahead)


def _in_threads(
    make: Callable[[Item], Photograph], items: Iterable[Item], ahead: int
) -> Iterator[Photograph]:
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        items = iter(items)
        pending = collections.deque(
            pool.submit(make, item) for item in itertools.islice(items, ahead)
        )
        while pending:
            photograph = pending.popleft().result()
            for item in itertools.islice(items, 1):
                pending.append(pool.submit(make, item))
            yield photograph
    finally:
        pool.shutdown(cancel_futures=True)


def _read(file: Path, stored: images.Stored) -> Photograph:
    try:
        if not file.exists():
            return Photograph(file, None, 'there is no such file or folder')
        if file.is_dir():
            os.scandir(file).close()  # raises what is wrong with the folder
        if not file.is_file():  # a pipe would be waited for
            return Photograph(file, None, 'not a file')
        encoded = file.read_bytes()
    except OSError as error:
        return Photograph(file, None, error.strerror or str(error))
    return _decode((os.fspath(file), encoded), stored)


def _decode(named: tuple[str, bytes], stored: images.Stored) -> Photograph:
    name, encoded = named
    try:
        _, pixels = images.encode(encoded, stored)
    except Exception as error:  # Pillow raises many kinds for a damaged file
        return Photograph(Path(name), None, images.why_undecodable(error))
    return Photograph(Path(name), pixels)
