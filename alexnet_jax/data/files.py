"""Files written whole or not at all, by one process at a time, where there is room."""

import contextlib
import fcntl
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def write(path: Path, content: bytes) -> None:
    """Write a file under another name first, so that its own is never half of it."""
    temporary = temporary_name(path)
    temporary.write_bytes(content)
    os.replace(temporary, path)


def write_npy(path: Path, array: np.ndarray) -> None:
    """Write an array as `np.save` does."""
    content = io.BytesIO()
    np.save(content, array)
    write(path, content.getvalue())


def write_npz(path: Path, **arrays: Any) -> None:
    """Write arrays as `np.savez_compressed` does."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write(path, content.getvalue())


def temporary_name(path: Path) -> Path:
    """`.NAME.PID`, for what is to become `path`."""
    return path.with_name(f'.{path.name}.{os.getpid()}')


def remove_temporaries(directory: Path) -> None:
    """Remove what killed processes were writing; call it with the lock held."""
    for path in directory.glob('.*'):
        if re.fullmatch(r'\..+\.\d+', path.name):
            path.unlink()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file lock, which the system lets go when a process dies."""
    with path.open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                f'waiting for another process to prepare {path.parent}', file=sys.stderr
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_free_disk(directory: Path, num_bytes: float, key: str) -> None:
    """Raise if an estimate of what will be written does not fit on the disk.

    Args:
      directory: where it goes; it need not exist yet.
      num_bytes: the estimate.
      key: the config value that says where it goes.
    """
    existing = directory
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if num_bytes > free:
        raise ValueError(
            f'about {num_bytes / 1e9:.3g} GB are still to be written to {directory} '
            f'and {free / 1e9:.3g} GB are free; make room or choose another place '
            f'with {key}'
        )
