"""What the commands of the package share: flags, and a user's mistakes as one line."""

import contextlib
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax import config as config_lib

_ROOT = Path(__file__).parents[2]
_CONFIG_FLAGS = {'config', 'base'}  # of all commands
_OURS = [_ROOT / name for name in ('alexnet_jax', 'configs', 'experiments')]


def define_config(default: str | None = None) -> flags.FlagHolder:
    """Defines `--config=FILE` with its `--config.key=value` overrides."""
    return config_flags.DEFINE_config_file(
        'config', default, 'Config file, e.g. configs/paper.py.', lock_config=True
    )


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses the flags; a mistake ends the program with one line.

    ml_collections reports an unknown key or a wrong type from inside the parser, as an
    exception under fifty lines of traceback, and what a config file raises as a text
    that holds one.
    """
    try:
        rest = flags.FLAGS(list(argv))
    except flags.Error as error:
        lines = str(error).strip().splitlines()
        if any(line.strip().startswith('Traceback') for line in lines):
            lines = [re.sub(r'^\s*(\w+Error: )?', '', lines[-1])]
        sys.exit(f'error: {" ".join(" ".join(lines).split())} (--help lists the flags)')
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        sys.exit(f'error: in the config flags: {_one_line(error)}')
    for name in _CONFIG_FLAGS & set(flags.FLAGS):
        # ml_collections reports a missing file only where the config is first read.
        if not flags.FLAGS[name].present:
            continue
        path = config_flags.get_config_filename(flags.FLAGS[name])
        if not Path(path.partition(':')[0]).is_file():
            sys.exit(f'error: --{name}={path}: there is no such file')
    return rest


def reject_positionals(argv: Sequence[str]) -> None:
    """Refuses what absl would ignore, such as `train.epochs=3` without its dashes."""
    if len(argv) > 1:
        sys.exit(
            f'error: unexpected argument {argv[1]!r}; options are written '
            '--name=value and config values --config.key=value'
        )


def checked_config(holder: flags.FlagHolder) -> ConfigDict:
    """The validated config of `--config`; a mistake ends the program with one line."""
    if holder.value is None:
        sys.exit('error: --config=FILE is needed, e.g. --config=configs/demo.py')
    with user_errors():
        config_lib.validate(holder.value)
    return holder.value


def config_name(holder: flags.FlagHolder) -> str:
    """The config file's name without `.py`, with its argument: `one_tower-2014`."""
    path = config_flags.get_config_filename(flags.FLAGS[holder.name])
    file, _, argument = path.partition(':')
    return '-'.join(filter(None, [Path(file).stem, argument]))


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turns a ValueError raised by our own code into one line and exit status 1.

    One that a library raised is a bug of ours and keeps its traceback.
    """
    try:
        yield
    except ValueError as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        if not any(raised_in.is_relative_to(folder) for folder in _OURS):
            raise
        sys.exit(f'error: {_one_line(error)}')


def _one_line(error: Exception) -> str:
    text = (
        error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    )
    return ' '.join(text.split())
