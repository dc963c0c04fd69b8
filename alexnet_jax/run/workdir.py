"""The folder of a run: whether it can be used, and what it holds at the end."""

import json
import os
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.run import config_file

EXPORTED = 'exported.json'  # says where a workdir without a run's state comes from


def check_workdir(workdir: Path, config: ConfigDict) -> Path:
    """Refuses a workdir that cannot be written or holds a run of another config.

    Returns:
      Its absolute path; orbax takes no other.
    """
    workdir = Path(os.path.abspath(workdir.expanduser()))
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
    path = workdir / 'config.json'
    if path.exists():
        before = json.loads(path.read_text())
        config_file.check_format(before, workdir)
        differences = config_file.blocking_differences(
            before, config_file.to_json(config)
        )
        if differences:
            more = f'; and {len(differences) - 3} more' if len(differences) > 3 else ''
            raise ValueError(
                f'--workdir={workdir} holds a run with {"; ".join(differences[:3])}'
                f'{more}; take another --workdir, or drop the override'
            )
    return workdir


def make_directory(workdir: Path) -> None:
    """Makes the folder; a user's mistake in its path is one line."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f'--workdir={workdir} cannot be made: {error.strerror}'
        ) from None
