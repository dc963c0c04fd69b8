"""What a command line changes in the data of a trained network.

    python -m alexnet_jax.evaluate --workdir=W --config.data.data_dir=DIR

The command has `--workdir` and no `--config`: the config is the workdir's.
"""

from collections.abc import Sequence
from typing import Any

from alexnet_jax.run import config_file
from alexnet_jax.system import command_line

# By the keys of config.data; `parse_flags` fills it, as absl does its FLAGS.
CHANGES: dict[str, Any] = {}


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses the flags of a command, its `--config.data.key=value` into `CHANGES`."""
    argv, changes = command_line.take_data_changes(argv, config_file.read)
    CHANGES.clear()
    CHANGES.update(changes)
    return command_line.parse_flags(argv)
