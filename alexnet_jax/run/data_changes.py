"""What a command line changes in the data of a trained network.

    python -m alexnet_jax.evaluate --workdir=W --config.data.data_dir=DIR

The command has `--workdir` and no `--config`: the config is the workdir's.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.run import config_file
from alexnet_jax.system import command_line

# Of config.data, what says how images are read and not which.
HOW = ('prepared_dir', 'download', 'auto_prepare_gb', 'threads', 'prefetch_batches')
# By the keys of config.data; `parse_flags` fills it, as absl does its FLAGS.
CHANGES: dict[str, Any] = {}


def of_place(changes: Mapping[str, Any], data: ConfigDict) -> dict[str, Any]:
    """The changes that say where the same images are now, and how they are read.

    A TFDS set is the same wherever it lies; the images of a folder are those of the
    folder that is named.

    Args:
      changes: of config.data.
      data: config.data of the run.
    """
    if changes.get('source', data.source) != data.source:
        return {}
    keys = HOW if data.source == 'folder' else (*HOW, 'data_dir')
    return {key: value for key, value in changes.items() if key in keys}


def of_images(changes: Mapping[str, Any], data: ConfigDict) -> dict[str, Any]:
    """The changes that make other images of the run's; arguments as above."""

    def same(key: str, value: Any) -> Any:
        return (
            os.path.realpath(os.path.expanduser(value)) if key == 'data_dir' else value
        )

    places = of_place(changes, data)
    return {
        key: same(key, value)
        for key, value in changes.items()
        if key not in HOW
        and key not in places
        and same(key, value) != same(key, data[key])
    }


def name(changes: Mapping[str, Any], data: ConfigDict) -> str:
    """What the name of a result begins with: '' of the run's own images.

    Other images get a name of their own, so that their result never takes the place of
    the run's. Arguments as above.
    """
    images = of_images(changes, data)
    if not images:
        return ''
    digest = hashlib.sha256(json.dumps(images, sort_keys=True).encode()).hexdigest()
    source = re.sub(r'\W+', '_', images.get('source', data.source))
    return f'{source}-{digest[:8]}-'


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses the flags of a command, its `--config.data.key=value` into `CHANGES`."""
    argv, changes = command_line.take_data_changes(argv, config_file.read)
    CHANGES.clear()
    CHANGES.update(changes)
    return command_line.parse_flags(argv)
