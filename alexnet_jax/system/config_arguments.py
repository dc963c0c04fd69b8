"""`--config=NAME` and its `--config.key=value`: what they may be, and what is wrong.

ml_collections applies the overrides. What a person can get wrong is found here before:
it reports an unknown key or a wrong type without the key's full name, and what a config
file raises as a text that holds a traceback.
"""

import ast
import difflib
import importlib.util
import os
import re
import textwrap
import traceback
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import tuple_parser

from alexnet_jax import config as config_lib

_TYPES: dict[type, tuple[str, flags.ArgumentParser]] = {
    bool: ('True or False', flags.BooleanParser()),
    int: ('a whole number', flags.IntegerParser()),
    float: ('a number', flags.FloatParser()),
    tuple: ('a tuple', tuple_parser.TupleParser()),
}


def shipped() -> dict[str, str]:
    """The shipped configs: name → what its file says of itself, in one line."""
    lines = {}
    for file in sorted(_folder().glob('*.py')):
        if file.stem != '__init__':
            text = ast.get_docstring(ast.parse(file.read_text(encoding='utf-8'))) or ''
            lines[file.stem] = text.partition('\n')[0]
    return lines


def _folder() -> Path:
    spec = importlib.util.find_spec('alexnet_jax.configs')
    assert spec and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def to_file(value: str, flag: str = 'config') -> str:
    """Turns `NAME[:ARGUMENT]` of a shipped config into `FILE[:ARGUMENT]`.

    What has a `/` or ends with `.py` is a file already.

    Raises:
      ValueError: there is no such config or file.
    """
    name, colon, argument = os.path.expanduser(value).partition(':')
    if '/' in name or name.endswith('.py'):
        if not Path(name).is_file():
            stem = Path(name).stem
            by_name = stem if stem in shipped() else 'demo'
            raise ValueError(
                f'--{flag}={name}: there is no such file; a shipped config goes by its '
                f'name, --{flag}={by_name}'
            )
        return f'{name}{colon}{argument}'
    if name not in (known := shipped()):
        near = difflib.get_close_matches(name, known, n=1)
        raise ValueError(
            f'--{flag}={name}: no shipped config has this name'
            + (f'; the nearest is {near[0]}' if near else '')
            + f'; there are {", ".join(known)}, and a file of your own has a / or .py'
        )
    return f'{_folder() / name}.py{colon}{argument}'


def with_files(argv: Sequence[str], flag: str) -> list[str]:
    """Replaces the names of shipped configs in `--flag=NAME` by their files."""
    words = list(argv)
    for i, word in enumerate(words):
        if word == '--':
            break
        if match := re.fullmatch(f'--?{flag}=(.*)', word):
            words[i] = f'--{flag}={to_file(match[1], flag)}'
        elif re.fullmatch(f'--?{flag}', word) and i + 1 < len(words):
            words[i + 1] = to_file(words[i + 1], flag)
    return words


def load(file: str, flag: str = 'config') -> ConfigDict:
    """The config that a file's `get_config` returns, `FILE[:ARGUMENT]`.

    Raises:
      ValueError: whatever is wrong in the file, with its line.
    """
    path, colon, argument = file.partition(':')
    try:
        module = _module(path, flag)
        config = module.get_config(*[argument] if colon else [])
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if (
            isinstance(error, ValueError)
            and _folder() in Path(frames[-1].filename).absolute().parents
        ):
            raise  # a shipped config's own words, such as of an argument
        lines = [f', line {f.lineno}' for f in frames if f.filename == path]
        text = str(error.args[0]) if error.args else ''
        # A locked ConfigDict quotes the whole table, in a text that is quoted again.
        text = re.sub(r' Other fields present: ".*"(\\n|\n)', ' ', text)
        reason = ' '.join(text.split())
        raise ValueError(
            f'--{flag}={path}{"".join(lines[-1:])}: {type(error).__name__}: {reason}'
        ) from None
    if not isinstance(config, ConfigDict):
        raise ValueError(
            f'--{flag}={path}: its get_config() returns no ConfigDict; begin with '
            '`from alexnet_jax.configs import paper` and `config = paper.get_config()`'
        )
    return config


def complete(file: str, config: ConfigDict, given: Mapping[str, Any]) -> str:
    """Lets a config's file choose what depends on other values, after the overrides.

    A file may have, beside its `get_config`, a `complete(config, given)`.

    Args:
      file: of the config, `FILE[:ARGUMENT]`.
      config: what it returned, with the overrides.
      given: the overrides by dotted key, which the choice leaves as they are.

    Returns:
      What was chosen, in words; '' where there is nothing to choose.

    Raises:
      ValueError: the file's own words.
    """
    module = _module(file.partition(':')[0], 'config')
    chosen = getattr(module, 'complete', None)
    return chosen(config, given) if chosen else ''


def _module(path: str, flag: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f'{flag}_file', path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def overrides(argv: Sequence[str], flag: str) -> Iterator[tuple[str, str | None]]:
    """Yields (dotted key, text) of each `--flag.key=text`; None: no text is there."""
    for i, word in enumerate(argv):
        if word == '--':
            return
        if match := re.fullmatch(rf'--?(no)?{flag}\.([^=]*)(=(.*))?', word, re.DOTALL):
            following = argv[i + 1] if i + 1 < len(argv) else None
            yield match[2], 'false' if match[1] else match[4] if match[3] else following


def check(argv: Sequence[str], flag: str, config: ConfigDict) -> None:
    """Finds unknown keys and values of another type among the overrides.

    Raises:
      ValueError: one line with the key, the value and what is allowed.
    """
    present = dict(config_lib.flat(config))
    rules = config_lib.rules(config)
    for key, text in overrides(argv, flag):
        if key not in present:
            raise ValueError(_unknown(key, text, flag, config))
        if type(present[key]) not in _TYPES:
            continue  # a string
        expected, parser = _TYPES[type(present[key])]
        if text is None or (isinstance(present[key], bool) and text.startswith('--')):
            continue  # --config.data.mirror alone is true; absl says what lacks a value
        try:
            parser.parse(text)
        except (ValueError, TypeError):
            allowed = rules[key].allowed if key in rules else ''
            known = [expected] if expected not in allowed else []
            expected = ', '.join([*known, allowed] if allowed else known)
            raise ValueError(f'--{flag}.{key}={text}: expected {expected}') from None


def taken_out(
    argv: Sequence[str], flag: str, config: ConfigDict
) -> tuple[list[str], dict[str, Any]]:
    """Takes the overrides out of a command line whose config is known otherwise.

    Args:
      argv: of a command without `--config=NAME`.
      flag: 'config'.
      config: that of a workdir.

    Returns:
      The other words, and the value of each changed key.

    Raises:
      ValueError: as `check`, or `--flag=NAME` is given.
    """
    check(argv, flag, config)
    present = dict(config_lib.flat(config))
    changes = {}
    for key, text in overrides(argv, flag):
        kind = type(present[key])
        if text is None or (kind is bool and text.startswith('-')):
            text = 'true'
        changes[key] = _TYPES[kind][1].parse(text) if kind in _TYPES else text
    left, skip = [], False
    for word, following in zip(argv, [*argv[1:], ''], strict=True):
        if skip:
            skip = False
        elif match := re.fullmatch(
            rf'--?(no)?{flag}\.([^=]*)(=(.*))?', word, re.DOTALL
        ):
            alone = match[3] is None and not match[1]
            skip = alone and not following.startswith('-')
        elif re.fullmatch(rf'--?{flag}(=.*)?', word, re.DOTALL):
            raise ValueError(f'{word}: the config is that of the workdir')
        else:
            left.append(word)
    return left, changes


def _unknown(key: str, text: str | None, flag: str, config: ConfigDict) -> str:
    given = f'--{flag}.{key}' + ('' if text is None else f'={text}')
    keys = [known for known, _ in config_lib.flat(config)]
    if inside := [known for known in keys if known.startswith(f'{key}.')]:
        return (
            f'{given}: {key} is a table; set its values, such as --{flag}.{inside[0]}'
        )
    reason = config_lib.why_not_read(key, config)
    near = ' or '.join(f'--{flag}.{known}' for known in nearest(key, keys))
    return f'{given} {reason}; nearest: {near}'


def nearest(key: str, keys: Sequence[str]) -> list[str]:
    """The key most like an unknown one, or several that are equally like it.

    The last part counts most, by its letters or as initials (`lr`, `wd`): people forget
    or mistake the table that a key is in, and mistype the key.
    """
    table, _, leaf = key.rpartition('.')

    def likeness(known: str) -> float:
        known_table, _, known_leaf = known.rpartition('.')
        initials = ''.join(word[0] for word in known_leaf.split('_'))
        like = 1.0 if leaf == initials else _ratio(leaf, known_leaf)
        return like + 0.5 * _ratio(table, known_table)

    ranked = sorted(keys, key=likeness, reverse=True)
    best = likeness(ranked[0])
    return [known for known in ranked[:3] if likeness(known) > best - 0.04]


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()


def describe_keys(config: ConfigDict, flag: str = 'config') -> str:
    """Every key with its value and what is allowed; the layers as a table of their own.

    Marks with `*` what may change when a run goes on.
    """
    rules = config_lib.rules(config)
    lines, of_layers, layers = [], {}, {}
    for key, value in config_lib.flat(config):
        rule = rules.get(key)
        allowed = (rule and rule.allowed) or _TYPES.get(type(value), ('text',))[0]
        group, _, leaf = key.rpartition('.')
        if group.removeprefix('model.') in config.model.layers:
            of_layers[leaf] = allowed
            layers.setdefault(group, []).append(f'{leaf}={_written(value)}')
            continue
        left = f'{"*" if rule and rule.free else " "} {key}={_written(value)}'
        gap = ' ' if len(left) < 38 else '\n' + 39 * ' '
        lines.append(f'{left:<38}{gap}{allowed}')
    lines.append(f'\nkeys of a layer, --{flag}.model.LAYER.KEY:')
    lines += [f'  {leaf:<36} {allowed}' for leaf, allowed in of_layers.items()]
    lines.append('')
    for group, values in layers.items():
        text = f'  {group}: {", ".join(values)}'
        lines += textwrap.wrap(text, 88, subsequent_indent='      ')
    return '\n'.join(lines)


def _written(value: Any) -> str:
    """As it is written on the command line, a tuple between quotes."""
    return f'"{value}"' if isinstance(value, tuple) else str(value) or "''"
