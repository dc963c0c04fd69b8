"""The disk under a prepared set: whole arrays, room enough."""

import contextlib
import errno
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.system.files import write_atomically


def write_npy(path: Path, array: np.ndarray) -> None:
    """Writes an array as `np.save` does, whole or not at all."""
    content = io.BytesIO()
    np.save(content, array)
    write_atomically(path, content.getvalue())


def write_npz(path: Path, **arrays: Any) -> None:
    """Writes arrays as `np.savez_compressed` does, whole or not at all."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_atomically(path, content.getvalue())


def sync(path: Path) -> None:
    """Waits until a file's content is on the disk."""
    with path.open('rb') as file:
        os.fsync(file.fileno())


def temporary_name(path: Path) -> Path:
    """What is to become `path`, as long as this process writes it."""
    return path.with_name(f'.{path.name}.{os.getpid()}.tmp')


def remove_temporaries(directory: Path) -> None:
    """Removes what killed processes were writing; call it with the lock held."""
    for path in directory.glob('.*.tmp'):
        path.unlink()


@contextlib.contextmanager
def library_errors(path: Path) -> Iterator[None]:
    """Turns array_record's error on a full disk and the like into the system's kind."""
    try:
        yield
    except RuntimeError as error:
        reason = ' '.join(str(error).split())[:200]
        raise OSError(errno.EIO, f'{path.name}: {reason}') from error


def check_free_disk(directory: Path, num_bytes: float, key: str) -> None:
    """Raises if an estimate of what will be written does not fit on the disk.

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
