"""The entries of a folder of images, directory by directory; no file is opened.

What cannot be an image file (a FIFO, a device, a loop of links) is refused.
"""

import dataclasses
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from alexnet_jax.data.folders import unreadable
from alexnet_jax.data.sources import SourceReadError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')
KINDS = '*.jpg|jpeg|png|webp|bmp|tif|tiff'
# A larger file is no photograph; it would be read whole into memory.
LARGEST_BYTES = 2**30


@dataclasses.dataclass
class ClassFolder:
    """What a class's folder holds."""

    files: list[tuple[bytes, int]] = dataclasses.field(default_factory=list)
    ignored: list[str] = dataclasses.field(default_factory=list)
    folders: list[str] = dataclasses.field(default_factory=list)


def loose_images(directory: Path, place: str) -> list[str]:
    """The images in the folder of a split, or of all, which are of no class."""
    return [
        f'{place}/{entry.name}' if place else entry.name
        for entry in entries_of(directory / place)
        if entry.name.lower().endswith(SUFFIXES)
        and not entry.name.startswith('.')
        and not is_folder(entry)
    ]


def of_class(directory: Path) -> ClassFolder:
    """The files of a class; refuses what must not be opened."""
    found = ClassFolder()
    for entry in entries_of(directory):
        if entry.name.startswith('.'):
            continue
        if not entry.name.lower().endswith(SUFFIXES):
            (found.folders if is_folder(entry) else found.ignored).append(entry.name)
            continue
        try:
            about = entry.stat()
        except OSError as error:  # a link to nothing, a loop, a file just removed
            raise unreadable(entry.path, error) from error
        if stat.S_ISDIR(about.st_mode):
            found.folders.append(entry.name)
        elif not stat.S_ISREG(about.st_mode):
            raise SourceReadError(
                f'{entry.path!r} is {_kind(about.st_mode)} and not an image file; '
                'remove it'
            )
        elif about.st_size > LARGEST_BYTES:
            raise SourceReadError(
                f'{entry.path!r} has {about.st_size:,} bytes, more than the '
                f'{LARGEST_BYTES:,} that an image file may have; remove it'
            )
        else:
            found.files.append((os.fsencode(entry.name), about.st_size))
    return found


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return 'a FIFO'
    return 'a socket' if stat.S_ISSOCK(mode) else 'a device'


def some(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = f' and {len(names) - 3:,} more' if len(names) > 3 else ''
    shown = [name if name.isprintable() else ascii(name) for name in names[:3]]
    return ', '.join(shown) + more


def entries_of(directory: Path) -> list[os.DirEntry[str]]:
    """What is in a directory, by name."""
    try:
        with os.scandir(directory) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(directory, error) from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a directory or a link to one."""
    try:
        return entry.is_dir()
    except OSError as error:
        raise unreadable(entry.path, error) from error


def subfolders(directory: Path) -> list[str]:
    """The names of the directories in one, but hidden ones."""
    return [
        entry.name
        for entry in entries_of(directory)
        if not entry.name.startswith('.') and is_folder(entry)
    ]
