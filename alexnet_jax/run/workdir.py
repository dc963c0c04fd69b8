"""The folder of a run: whether it can be used, whose it is, and what it may hold."""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.run import checkpoint, checkpoint_folder, config_file
from alexnet_jax.system import locks, processes
from alexnet_jax.system.files import read_json

EXPORTED = 'exported.json'  # says where a workdir without a run's state comes from
_OWNER = 'owner.json'  # there while a run or another command writes


def check_place(workdir: Path) -> Path:
    """Refuses a workdir that cannot be written, or whose path Orbax cannot take.

    Returns:
      Its absolute path; orbax takes no other.
    """
    if re.match(r'\w\w+:/', str(workdir)):  # pathlib makes one slash of a URL's two
        raise ValueError(
            f'--workdir={workdir}: URLs are not written to; give a folder of this '
            'machine (or of a file system that is mounted on it)'
        )
    workdir = Path(os.path.abspath(workdir.expanduser()))
    checkpoint.check_path(workdir)
    standing = next(path for path in (workdir, *workdir.parents) if path.exists())
    if not standing.is_dir() or not os.access(standing, os.W_OK | os.X_OK):
        raise ValueError(
            f'--workdir={workdir}: {standing} is not a directory that can be written'
        )
    if (workdir / EXPORTED).exists():
        raise ValueError(
            f'--workdir={workdir} was made by export_workdir and has no state of the '
            'update to go on from; take another --workdir, and start from these layers '
            f'with --config.init.workdir={workdir} and --config.init.copy'
        )
    for name in ('checkpoints', 'best'):
        if (workdir / name).exists() and not (workdir / name).is_dir():
            raise ValueError(
                f'{workdir / name} is not a directory, and checkpoints go there; move '
                'it away'
            )
    return workdir


@contextlib.contextmanager
def owned(workdir: Path) -> Iterator[None]:
    """Holds a workdir for one run; its processes share it, process 0 has the lock.

    While it is held `owner.json` says by whom.

    Args:
      workdir: see `check_place`; made if it is not there.

    Raises:
      ValueError: another run holds it, or it cannot be made. All processes raise.
    """
    with contextlib.ExitStack() as stack:
        refusal, made = '', False
        if processes.is_first():
            try:
                made = not workdir.exists()
                workdir.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locks.held(workdir / _OWNER))
            except locks.InUseError as error:
                refusal = (
                    f'{workdir} is in use: {error} runs there; wait for its end, stop '
                    'it, or take another --workdir'
                )
            except OSError as error:
                refusal = f'--workdir={workdir} cannot be made: {error.strerror}'
        if refusal := processes.from_first(refusal):
            raise ValueError(refusal)
        deadline = time.monotonic() + 60  # a network's file system may show it late
        while not (workdir / _OWNER).is_file() and time.monotonic() < deadline:
            time.sleep(0.5)
        processes.check_same(
            (workdir / _OWNER).is_file(),
            f'--workdir={workdir} is not one folder for all processes; name one on a '
            'file system that all of them share',
        )
        if made:
            stack.callback(_remove_if_empty, workdir)
        yield


def _remove_if_empty(workdir: Path) -> None:
    """Leaves nothing of a start that was refused before it wrote anything."""
    if [path.name for path in workdir.iterdir()] == [_OWNER]:
        with contextlib.suppress(OSError):
            (workdir / _OWNER).unlink()
            workdir.rmdir()


@contextlib.contextmanager
def new(workdir: Path, flag: str) -> Iterator[Path]:
    """Holds a workdir that is made of something else; nothing of it is left if not.

    Args:
      workdir: must not be there, or be empty.
      flag: that names it in messages, such as `--output`.

    Yields:
      Its absolute path, to be written.

    Raises:
      ValueError: it is there already, another process is making it, or it cannot be
        written.
    """
    path = workdir.expanduser().absolute()
    refusal = f'{flag}={path} is there already; name a new folder'
    held = _contents(path)
    if held is None or (held and _OWNER not in held):
        raise ValueError(refusal)
    path = check_place(path)
    with owned(path):
        if (_contents(path) or set()) - {_OWNER}:
            raise ValueError(refusal)
        try:
            yield path
        except BaseException:
            for name in (_contents(path) or set()) - {_OWNER}:
                left = path / name
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            raise


def _contents(folder: Path) -> set[str] | None:
    """The names in a folder, none if it is not there; None if it is no folder."""
    if not folder.exists():
        return set()
    return {path.name for path in folder.iterdir()} if folder.is_dir() else None


def check_contents(workdir: Path, config: ConfigDict) -> None:
    """Refuses a workdir that holds a run of another config.

    What decides is the config that its checkpoints were saved with: config.json is its
    copy, and a run that ended before its first checkpoint may begin with another.

    Raises:
      ValueError: its config differs in a key that may not change, or nothing says
        what it was; or its checkpoints were removed and its result was not.
    """
    as_json = read_json(workdir / 'config.json')
    if isinstance(as_json, dict) and 'model' in as_json:
        config_file.check_format(as_json, workdir)
    else:
        as_json = None
    steps = [
        checkpoint_folder.saved_steps(workdir, kind) for kind in ('checkpoints', 'best')
    ]
    if not any(steps):
        return
    if not steps[0] and (workdir / 'result.json').exists():
        raise ValueError(
            f'{workdir} holds a finished run whose checkpoints were removed: to train '
            'again take another --workdir, or move its best/ and result.json away'
        )
    before = (checkpoint_folder.newest_meta(workdir) or {}).get('config', as_json)
    if before is None:
        raise ValueError(
            f'{workdir} holds checkpoints, and neither they nor config.json say of '
            'which config; put its config.json back, or take another --workdir'
        )
    _check_config(workdir, before, config)


def remove_results(workdir: Path, *, unless: bool) -> None:
    """Removes what only a finished run has, unless it is one."""
    if not unless:
        for name in ('result.json', 'conv1_kernels.png'):
            (workdir / name).unlink(missing_ok=True)


def _check_config(workdir: Path, before: dict[str, Any], config: ConfigDict) -> None:
    config_file.check_format(before, workdir)
    now = config_file.to_json(config)
    if differences := config_file.blocking_differences(before, now):
        more = f'; and {len(differences) - 3} more' if len(differences) > 3 else ''
        raise ValueError(
            f'--workdir={workdir} holds a run with {"; ".join(differences[:3])}'
            f'{more}; take another --workdir, or drop the override'
        )
