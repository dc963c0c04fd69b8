"""Files and folders of images, decoded in threads as preparation stores them.

The number of files does not matter: only those that are on their way are in memory.
"""

import collections
import concurrent.futures
import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.data import images


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
    of the folders in it.

    Raises:
      ValueError: there is no such file or folder, or a folder has no images.
    """
    for path in paths:
        if not path.exists():
            raise ValueError(f'there is no file or folder {path}')
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
                f'({", ".join(images.SUFFIXES)})'
            )


def _below(folder: Path, seen: set[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in seen:  # a link to a folder above
        return
    seen.add(real)
    with os.scandir(folder) as entries:
        visible = sorted((e.name, e.is_dir()) for e in entries if e.name[0] != '.')
    for name, is_folder in visible:
        if not is_folder and name.lower().endswith(images.SUFFIXES):
            yield folder / name
    for name, is_folder in visible:
        if is_folder:
            yield from _below(folder / name, seen)


def read(
    files: Iterable[Path],
    stored: images.Stored,
    *,
    ahead: int,
    threads: int = os.cpu_count() or 1,
) -> Iterator[Photograph]:
    """Decodes files in their order, some of them ahead of who asks.

    Args:
      files: of images.
      stored: how preparation would store them; the pixels are those that it would
        give to a network.
      ahead: files that are decoded, or being decoded, before they are asked for.
      threads: that decode; Pillow lets them run at the same time.
    """
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    try:
        files = iter(files)
        pending = collections.deque(
            pool.submit(_read, file, stored) for file in itertools.islice(files, ahead)
        )
        while pending:
            photograph = pending.popleft().result()
            for file in itertools.islice(files, 1):
                pending.append(pool.submit(_read, file, stored))
            yield photograph
    finally:
        pool.shutdown(cancel_futures=True)


def _read(file: Path, stored: images.Stored) -> Photograph:
    try:
        if not file.is_file():  # a pipe would be waited for
            return Photograph(file, None, 'not a file, or a link to nothing')
        _, pixels = images.encode(file.read_bytes(), stored)
    except OSError as error:  # Pillow's are among them
        problem = error.strerror or images.why_undecodable(error)
        return Photograph(file, None, problem)
    except Exception as error:  # of which Pillow raises many kinds
        return Photograph(file, None, images.why_undecodable(error))
    return Photograph(file, pixels)
