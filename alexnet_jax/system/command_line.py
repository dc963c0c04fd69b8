"""What the commands of the package share: flags, and a user's mistakes as one line."""

import contextlib
import errno
import os
import re
import select
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax import config as config_lib
from alexnet_jax.system import config_arguments, signals

flags.disclaim_key_flags()  # --config is a flag of the command that defines it

_ROOT = Path(__file__).parents[2]
_CONFIG_FLAGS = ('config', 'base')  # of all commands
_OURS = [_ROOT / name for name in ('alexnet_jax', 'configs', 'experiments')]
_OF_THE_DISK = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM
}  # fmt: skip
_HELP = {'help', 'h', '?', 'helpshort'}


def define_config(name: str = 'config') -> flags.FlagHolder:
    """Defines `--config=NAME` with its `--config.key=value` overrides."""
    return config_flags.DEFINE_config_file(
        name,
        None,
        'A shipped config by its name, or a file with a get_config() of your own '
        '(it has a / or ends with .py). After a colon comes its argument, if it '
        'takes one.',
        lock_config=True,
    )


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses the flags; a mistake, --help or a signal ends the program."""
    signals.listen()
    ours = [name for name in _CONFIG_FLAGS if name in flags.FLAGS]
    words = {word.lstrip('-') for word in argv[1:] if word.startswith('-')}
    with user_errors():
        for name in ours:
            argv = config_arguments.with_files(argv, name)
        if words & _HELP:
            _print_help(argv, ours)
            sys.exit(0)
        for name in ours:
            _check_config_flag(argv, name)
    try:
        return flags.FLAGS(list(argv))
    except flags.Error as error:
        text = ' '.join(str(error).split())
        sys.exit(f'error: {text} (--help lists the flags)')
    except SystemExit:
        if words & {'helpfull', 'helpxml'}:  # absl's, which ends with 1
            sys.exit(0)
        raise


def take_data_changes(
    argv: Sequence[str], read: Callable[[Path], ConfigDict]
) -> tuple[list[str], dict[str, Any]]:
    """Takes `--config.data.key=value` out of the command line of a trained network.

    Args:
      argv: of a command that has `--workdir` and no `--config`.
      read: the config of a workdir.

    Returns:
      The other words, and the values that were given, by the keys of config.data.
    """
    words = {word.lstrip('-') for word in argv}
    workdir = given(argv, 'workdir')
    if not workdir or not any(w.startswith(('config', 'noconfig')) for w in words):
        return list(argv), {}
    with user_errors():
        config = read(Path(workdir).expanduser().absolute())
        left, changes = config_arguments.taken_out(argv, 'config', config)
        for key, value in changes.items():
            if not key.startswith('data.'):
                raise ValueError(
                    f'--config.{key}={value}: only values of config.data can be others '
                    'than in training'
                )
    return left, {key.removeprefix('data.'): x for key, x in changes.items()}


def _check_config_flag(argv: Sequence[str], name: str) -> None:
    file = given(argv, name)
    changed = [key for key, _ in config_arguments.overrides(argv, name)]
    if file is not None:
        config = config_arguments.load(file, name)
        config_arguments.check(argv, name, config)
    elif changed:
        raise ValueError(
            f'--{name}.{changed[0]} changes a value of a config, and --{name}=NAME is '
            'missing'
        )


def given(argv: Sequence[str], name: str) -> str | None:
    """The last value of `--name=value` or `--name value`."""
    found = None
    for word, following in zip(argv, [*argv[1:], None], strict=True):
        if match := re.fullmatch(f'--?{name}(=(.*))?', word):
            found = match[2] if match[1] else following
    return found


def _print_help(argv: Sequence[str], config_names: Sequence[str]) -> None:
    """Usage, flags and configs on the first screen; then every key of a config."""
    main = sys.modules['__main__']
    spec = main.__spec__
    command = spec.name.removesuffix('.__main__') if spec else Path(argv[0]).stem
    options = ''.join(f' --{n}=NAME [--{n}.key=value …]' for n in config_names)
    print(f'usage: python -m {command}{options} [--flag=value …]\n')
    print((main.__doc__ or '').strip() + '\n\nflags:')
    for flag in flags.FLAGS.get_key_flags_for_module(argv[0]):
        boolean = ' ' if flag.boolean else '=…'
        default = '' if flag.default in (None, False) else f' (default: {flag.default})'
        left = f'  --{flag.name}{boolean}'
        text = f'{left:<19} {flag.help}{default}'
        print(textwrap.fill(text, 80, subsequent_indent=20 * ' '))
    for name in config_names:
        print(f'\nconfigs, --{name}=NAME:')
        for config, line in config_arguments.shipped().items():
            text = f'  {config:<15} {line}'
            print(textwrap.fill(text, 80, subsequent_indent=18 * ' '))
        file = given(argv, name) or config_arguments.to_file('paper')
        config = config_arguments.load(file, name)
        print(
            f'\nFor example:\n  python -m {command} --{name}=demo '
            f'--{name}.train.epochs=2 --{name}.model.conv1.lrn=False\n'
            f'\nkeys, --{name}.KEY=value, with the values of {_name(file)}; * may '
            'change when a run goes on:'
        )
        print(config_arguments.describe_keys(config, name))


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
        names = ', '.join(config_arguments.shipped())
        sys.exit(
            f'error: --{holder.name}=NAME is needed, such as --{holder.name}=demo; '
            f'there are {names}, and files of your own'
        )
    # First each value that was given: to complete them, the data may be looked at.
    with user_errors():
        config_lib.validate_values(holder.value)
    complete(holder)
    with user_errors():
        config_lib.validate(holder.value)
    return holder.value


def complete(holder: flags.FlagHolder) -> None:
    """Lets the config's file choose what depends on the overrides, and says what."""
    flag = flags.FLAGS[holder.name]
    with user_errors():
        chosen = config_arguments.complete(
            config_flags.get_config_filename(flag),
            holder.value,
            config_flags.get_override_values(flag),
        )
    if chosen:
        print(f'{config_name(holder)}: {chosen}', flush=True)


def config_name(holder: flags.FlagHolder) -> str:
    """The config file's name without `.py`, with its argument: `one_tower-2014`."""
    return _name(config_flags.get_config_filename(flags.FLAGS[holder.name]))


def _name(file: str) -> str:
    path, _, argument = file.partition(':')
    return '-'.join(filter(None, [Path(path).stem, argument]))


def local_path(flag: str, value: str | Path) -> Path:
    """A path that a flag names, with `~` as home; a URL ends the program."""
    if re.match(r'\w+://', str(value)):
        sys.exit(
            f'error: --{flag}={value}: URLs are not written to; give a folder of this '
            'machine (or of a file system that is mounted on it)'
        )
    return Path(value).expanduser()  # bash leaves the ~ of --workdir=~/runs to us


def check_output(flag: str, value: str | Path) -> None:
    """Refuses, before the work, a file that could not be written.

    Raises:
      ValueError: its folder is not there or may not be written to, or it is a folder.
    """
    path = local_path(flag, value)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ValueError(f'--{flag}={value}: its folder {folder} is not there')
    if path.is_dir():
        raise ValueError(f'--{flag}={value} is a folder; name a file in it')
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f'--{flag}={value}: {folder} cannot be written to')


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turns a ValueError raised by our own code into one line and exit status 1.

    One that a library raised is a bug of ours and keeps its traceback. Memory that ran
    out, and a disk that is full or may not be written, is one line, whoever noticed it.
    Where the output is cut off, as in `… --help | head`, the program ends quietly.
    """
    try:
        with _quiet_where_output_is_cut_off():
            yield
    except (MemoryError, RuntimeError) as error:  # jax's is a RuntimeError
        if not isinstance(error, MemoryError) and 'RESOURCE_EXHAUSTED' not in str(
            error
        ):
            raise
        reason = ' '.join(str(error).split())[:200]
        sys.exit(
            f'error: out of memory ({reason}); lower config.train.batch_size, '
            'config.train.eval_batch_size, config.data.prefetch_batches or '
            'config.model.width, or take more devices'
        )
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        file = error.filename2 or error.filename or 'a file'
        verb = 'open' if error.errno in (errno.EACCES, errno.EPERM) else 'write'
        sys.exit(f'error: cannot {verb} {file}: {error.strerror}')
    except ValueError as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        if not any(raised_in.is_relative_to(folder) for folder in _OURS):
            raise
        sys.exit(f'error: {_one_line(error)}')


@contextlib.contextmanager
def _quiet_where_output_is_cut_off() -> Iterator[None]:
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # here, not when Python ends
    except Exception as error:
        if not (_is_of_a_closed_pipe(error) and _output_is_cut_off()):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more
        sys.exit(128 + signal.SIGPIPE)


def _is_of_a_closed_pipe(error: BaseException | None) -> bool:
    """Whether it is one or was raised for one, as "cannot write" is for an OSError."""
    while error is not None and not isinstance(error, BrokenPipeError):
        error = error.__cause__
    return error is not None


def _output_is_cut_off() -> bool:
    # Not left to SIGPIPE: it would end us for a library's closed socket too, such as
    # that of asyncio, which Orbax still writes to after a save that failed.
    watched = select.poll()
    watched.register(1, 0)
    gone = select.POLLERR | select.POLLHUP
    return any(event & gone for _, event in watched.poll(0))


def _one_line(error: ValueError) -> str:
    first = error.args[0] if error.args else ''
    whole = isinstance(error, UnicodeError) or not isinstance(first, str)
    text = str(error) if whole else first
    return ' '.join(text.split())
