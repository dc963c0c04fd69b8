"""The config of the run that weights come from, as it travels in a file of them.

All of it goes along but `model` and the preprocessing, which such a file has anyway,
and what is of the run's machine. So a run that is imported elsewhere reads the same
splits, stores images in the same way and goes on with the same training.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax.formats import networks
from alexnet_jax.formats.weights import Preprocessing

# Keys, and groups of them, that stay behind: paths, and what a machine can do.
OF_THE_MACHINE = (
    'data.data_dir',
    'data.prepared_dir',
    'data.download',
    'data.auto_prepare_gb',
    'data.threads',
    'data.prefetch_batches',
    'mesh',
    'distributed',
    'init',
)
_PREPROCESSING = ('stored_size', 'fit', 'crop_size', 'mean', 'scale')
_STAYS = {*OF_THE_MACHINE, 'model', *(f'data.{key}' for key in _PREPROCESSING)}


def of(config: ConfigDict) -> dict[str, Any]:
    """What travels of a run's config, by dotted key."""
    return {
        key: networks.plain(value)
        for key, value in config_lib.flat(config)
        if _travels(key)
    }


def config_from(
    table: Mapping[str, Any], seen: Preprocessing, stated: Mapping[str, Any]
) -> ConfigDict:
    """The config of a run, where its network and preprocessing are known besides.

    Args:
      table: `config.model`.
      seen: the preprocessing, which is in `config.data`.
      stated: as `of` made it; what it lacks is as in configs/paper.py.
    """
    config = networks.config('paper')
    config.update_from_flattened_dict(stated)
    with config.unlocked():
        config.model = ConfigDict(dict(table))
    put_preprocessing(config, seen)
    return config


def put_preprocessing(config: ConfigDict, seen: Preprocessing) -> None:
    """Changes `config.data` to see images in this way."""
    with config.ignore_type():
        for key in _PREPROCESSING[:-1]:
            config.data[key] = getattr(seen, key)
        red, green, blue = seen.scale
        config.data.scale = red if red == green == blue else seen.scale


def checked(
    raw: Mapping[str, Any], table: Mapping[str, Any], seen: Preprocessing, what: str
) -> dict[str, Any]:
    """What travelled, of a file that anyone may have written.

    Raises:
      ValueError: it has a key that does not travel, or a value that no config may have.
    """
    stated, known = dict(networks.plain(raw)), of(networks.config('paper'))
    try:
        for key, value in stated.items():
            if key not in known:
                raise ValueError(f'{key[:60]!r} is none of the keys that travel')
            kind = type(known[key])
            if type(value) is not kind and (kind, type(value)) != (float, int):
                raise ValueError(f'{key}={value!r:.40}: expected {kind.__name__}')
        config_lib.validate(config_from(table, seen, stated))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise ValueError(f"{what}: its run's config is none: {reason}") from None
    return stated


def _travels(key: str) -> bool:
    return key not in _STAYS and key.partition('.')[0] not in _STAYS
