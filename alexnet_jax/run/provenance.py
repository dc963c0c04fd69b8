"""Where a run comes from: its config, the code, versions, devices and command."""

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from absl import logging

from alexnet_jax.system import files

PACKAGES = (
    'jax',
    'jaxlib',
    'flax',
    'optax',
    'orbax-checkpoint',
    'tensorflow-datasets',
    'grain',
    'array_record',
    'clu',
    'ml_collections',
    'numpy',
    'pillow',
    'simplejpeg',
)


def write_config(workdir: str | Path, config_json: Mapping[str, Any]) -> None:
    """Writes `<workdir>/config.json`."""
    files.write_json(Path(workdir) / 'config.json', config_json)


def write_provenance(
    workdir: str | Path, extra: Mapping[str, Any] | None = None
) -> None:
    """Adds this start of the run to `<workdir>/provenance.json`.

    The file holds `{"starts": [...]}`, one entry for every time the run was started.
    """
    path = Path(workdir) / 'provenance.json'
    starts = []
    if path.exists():
        try:
            starts = list(json.loads(path.read_text(encoding='utf-8'))['starts'])
        except (ValueError, KeyError, TypeError):
            aside = path.with_suffix('.damaged.json')
            path.rename(aside)
            logging.warning('%s could not be read; it is now %s', path, aside)
    starts.append(provenance() | dict(extra or {}))
    files.write_json(path, {'starts': starts})


def provenance() -> dict[str, Any]:
    """Code, versions, devices and command of this process."""
    return {
        'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'command': shlex.join(sys.orig_argv),
        'directory': str(Path.cwd()),
        'git': git_of(Path(__file__)),
        'python': platform.python_version(),
        'packages': {name: _version(name) for name in PACKAGES}
        | {
            'tensorflow': _version('tensorflow') or _version('tensorflow-cpu'),
        },
        'platform': platform.platform(),
        'cpu_count': os.cpu_count(),
        'backend': jax.default_backend(),
        'devices': [device.device_kind for device in jax.devices()],
        'processes': jax.process_count(),
    }


def git_of(source: Path) -> dict[str, Any] | None:
    """Commit of the checkout that `source` is tracked in; None if it is in none."""

    def git(*args: str) -> str:
        return subprocess.run(
            ['git', '-C', str(source.parent), *args],
            capture_output=True,
            check=True,
            text=True,
            timeout=30,
        ).stdout.strip()

    try:
        # An installed package may lie inside someone else's checkout.
        git('ls-files', '--error-unmatch', source.name)
        return {
            'commit': git('rev-parse', 'HEAD'),
            'dirty': bool(git('status', '--porcelain')),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
