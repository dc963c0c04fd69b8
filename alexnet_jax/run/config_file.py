"""The config of a run as its workdir keeps it, and whether another one continues it."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax.configs import paper
from alexnet_jax.run import checkpoint_folder
from alexnet_jax.system import files

# Of a workdir's config.json. 1, without an entry, is version 0.1's.
FORMAT = 2


def to_json(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON has it, with the format's number: tuples become lists."""
    return {'format': FORMAT} | json.loads(config.to_json())


def read(workdir: Path) -> ConfigDict:
    """The config of the run that a workdir holds; its checkpoints have a copy.

    Raises:
      ValueError: it holds none, one of another version, or a damaged one and no
        checkpoint that can be read.
    """
    path = workdir / 'config.json'
    if not path.is_file():
        raise ValueError(f'{workdir} holds no run: there is no {path.name} in it')
    as_json = files.read_json(path)
    if not isinstance(as_json, dict) or 'model' not in as_json:
        as_json = (checkpoint_folder.newest_meta(workdir) or {}).get('config')
    if as_json is None:
        raise ValueError(
            f'{path} is damaged, and no checkpoint says what was in it; start the '
            'command of the run once more, which writes it again'
        )
    check_format(as_json, workdir)
    del as_json['format']
    return ConfigDict(_tuples(as_json))


def _tuples(value: Any) -> Any:
    """Tuples where JSON has lists, of which a config has none."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def check_format(as_json: dict[str, Any], workdir: Path) -> None:
    """Refuses the config.json of a run that another version began.

    Raises:
      ValueError: the random streams of version 0.1, its slices of folders and its keys
        are not this version's; it can be neither continued nor evaluated as it was.
    """
    found = as_json.get('format', 1)
    if found != FORMAT:
        raise ValueError(
            f'{workdir} holds a run of another version (format {found}, this one has '
            f'{FORMAT}), whose random numbers, slices of folders and keys differ; take '
            'another workdir, or the version of alexnet_jax that began it'
        )


def blocking_differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Lists the keys that keep a run of config `old` from being continued with `new`.

    Args:
      old: what `to_json` returned when the run began.
      new: the same of the present config.

    Returns:
      Phrases `key=old, and you asked for new`; empty if the run can go on. A key that
      came after the run began counts with its default, which changes nothing.
    """
    before, after = dict(config_lib.flat(old)), dict(config_lib.flat(new))
    defaults = dict(config_lib.flat(to_json(paper.get_config())))
    before = {key: defaults[key] for key in after if key in defaults} | before
    return [
        f'{key}={before.get(key, "absent")}, and you asked for '
        f'{after.get(key, "absent")}'
        for key in sorted(before.keys() | after.keys())
        if not config_lib.may_change_on_resume(key)
        and before.get(key) != after.get(key)
    ]
