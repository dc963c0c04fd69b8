"""Files that are whole or not there."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes | str) -> None:
    """Writes a file whole: a reader, or a process killed here, sees the old or the new.

    Raises:
      OSError: the disk is full, the folder is not there, and the like.
    """
    if isinstance(content, str):
        content = content.encode()
    with whole(path) as temporary, temporary.open('wb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a path that takes the place of `path` when the block ends without an error.

    For writers that want a path of their own, and for files too large to be held.
    """
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON atomically."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    write_atomically(path, text + '\n')


def why_not_written(error: Exception) -> str:
    """Why writing failed, in a few words, whichever library says it."""
    text = ' '.join(str(error).split())
    for words in ('No space left on device', 'Disk quota exceeded', 'File too large'):
        if words.lower() in text.lower():
            return words
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f'{type(error).__name__}: {text[:200]}'


def read_json(path: Path) -> Any:
    """The content of a JSON file; None where it is missing, cut off or no JSON."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
