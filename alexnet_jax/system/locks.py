"""One owner at a time: the kernel's lock on a file, which says who holds it.

The lock is `flock`'s: the kernel lets it go when its process dies, however it dies, so
that no lock is ever left behind. The file has the owner for people to read; the file of
a process that was killed stays and is taken over. (A library such as filelock holds the
same lock, and says neither who has it nor since when.)
"""

import contextlib
import datetime
import fcntl
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from alexnet_jax.system.files import read_json


class InUseError(ValueError):
    """Another process holds the lock."""


@contextlib.contextmanager
def held(path: Path, *, waiting: str = '') -> Iterator[None]:
    """Holds the lock of a file, which is made and at the end removed.

    Args:
      path: of the file; its folder exists.
      waiting: what to wait for, such as 'to prepare DIR'; the wait is one line on
        stderr. Without it another owner is an error.

    Raises:
      InUseError: `process 12 on host, since …` has it.
      OSError: the file cannot be written.
    """
    file = _acquire(path, waiting)
    try:
        if file is None:  # this file system has no locks
            print(
                f'warning: {path.parent} lies on a file system without locks; start '
                'nothing else that writes there',
                file=sys.stderr,
                flush=True,
            )
            yield
            return
        file.truncate(0)
        file.write(json.dumps(_this_process()) + '\n')
        file.flush()
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError):
                path.unlink()
            file.close()


def _acquire(path: Path, waiting: str) -> TextIO | None:
    """Opens the file locked; None where the file system has no locks."""
    said = False
    while True:
        file = path.open('a', encoding='utf-8')
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waiting:
                    raise InUseError(_holder(path)) from None
                if not said:
                    line = f'waiting for {_holder(path)} {waiting}'
                    print(line, file=sys.stderr, flush=True)
                    said = True
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):
                return file
        except InUseError:
            file.close()
            raise
        except OSError:
            file.close()
            return None
        file.close()


def _is_at(file: TextIO, path: Path) -> bool:
    """Whether an open file still has its name, which its owner may have removed."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _this_process() -> dict[str, object]:
    return {
        'host': socket.gethostname(),
        'process': os.getpid(),
        'since': datetime.datetime.now().astimezone().isoformat(' ', 'seconds'),
        'command': shlex.join(sys.orig_argv),
    }


def _holder(path: Path) -> str:
    record = read_json(path)
    if not isinstance(record, dict) or not {'process', 'host', 'since'} <= set(record):
        return 'another process'  # which is about to write who it is
    return f'process {record["process"]} on {record["host"]}, since {record["since"]},'
