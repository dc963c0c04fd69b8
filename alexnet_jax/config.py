"""What the keys of a config may hold, and what its values must be to each other.

`configs/paper.py` lists the keys and says what each is for; `config_keys` has the rule
of each. `validate` turns every bad value into one line before anything heavy starts.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import config_pairs
from alexnet_jax.config_keys import (
    CONV_KEYS,
    LAYER_KEYS,
    LAYER_RULES,
    LAYERS,
    RULES,
    STEP_TABLES,
)
from alexnet_jax.config_rules import Rule


def validate(config: ConfigDict) -> None:
    """Checks every value, and the values that must fit together.

    Raises:
      ValueError: one line with the key, the value and what is allowed.
    """
    validate_values(config)
    config_pairs.check(config)


def validate_values(config: ConfigDict) -> None:
    """Checks every value by itself.

    Raises:
      ValueError: as `validate`.
    """
    _check_values({'model.layers': config.model.layers}, {'model.layers': LAYERS})
    for name in config.model.layers:
        if name not in layer_tables(config):
            raise ValueError(
                f'config.model.layers names {name!r}, which has no table; '
                f'there are {", ".join(layer_tables(config))}'
            )
    for name in layer_tables(config):
        _check_layer(name, config)
    known, present = rules(config), dict(flat(config))
    for key in known.keys() ^ present.keys():
        problem = 'is missing' if key in known else 'is not a key that anything reads'
        raise ValueError(f'config.{key} {problem}')
    _check_values(present, known)


def validate_data(data: ConfigDict) -> None:
    """Checks `config.data` alone: a data set is prepared without a network.

    Raises:
      ValueError: as `validate`.
    """
    present = {f'data.{key}': value for key, value in flat(data)}
    _check_values(present, RULES)


def _check_values(present: Mapping[str, Any], known: Mapping[str, Rule]) -> None:
    for key, value in present.items():
        if not known[key].allows(value):
            raise ValueError(f'config.{key}={value!r}: expected {known[key].allowed}')


def may_change_on_resume(key: str) -> bool:
    """Says whether a run goes on with another value of a key."""
    return key in RULES and RULES[key].free


def rules(config: ConfigDict) -> dict[str, Rule]:
    """The rule of every key that this config's network reads, by dotted key."""
    known = RULES | {'model.layers': LAYERS}
    tables = layer_tables(config)
    for name in tables:
        known |= {
            f'model.{name}.{key}': LAYER_RULES[key]
            for key in config.model[name]
            if key in LAYER_RULES
        }
    for step, of_table in STEP_TABLES.items():
        if any(step in config.model[name].steps for name in tables):
            known |= {f'model.{step}.{key}': rule for key, rule in of_table.items()}
    return known


def layer_tables(config: ConfigDict) -> list[str]:
    """The names of the layers that have a table, in use or not."""
    return [name for name, value in config.model.items()
            if isinstance(value, ConfigDict) and 'kind' in value]  # fmt: skip


def _check_layer(name: str, config: ConfigDict) -> None:
    """A layer's keys depend on its kind and on its steps."""
    table = config.model[name]
    for key in ('kind', 'steps'):
        if key in table:
            full = f'model.{name}.{key}'
            _check_values({full: table[key]}, {full: LAYER_RULES[key]})
    expected = set(LAYER_KEYS[table.kind])
    expected |= {'lrn', 'spatial_norm', 'dropout'} & set(table.get('steps', ()))
    if name == config.model.layers[-1]:
        expected.discard('features')
    for key in expected ^ set(table):
        full = f'model.{name}.{key}'
        problem = 'is missing' if key in expected else why_not_read(full, config)
        raise ValueError(f'config.{full} {problem}')


def why_not_read(key: str, config: ConfigDict) -> str:
    """Says why nothing reads `key` in this config, after the key: `is not …`."""
    group, _, leaf = key.rpartition('.')
    name = group.removeprefix('model.')
    if name not in layer_tables(config) or leaf not in LAYER_RULES:
        return 'is not a key of this config'
    table = config.model[name]
    if leaf == 'features':
        return 'is not read: the classes come from config.model.num_classes'
    if leaf in CONV_KEYS:
        return f'is not read: config.model.{name}.kind is {table.kind!r}'
    return f'is not read: {leaf!r} is not among its steps {tuple(table.steps)}'


def flat(
    table: ConfigDict | Mapping[str, Any], prefix: str = ''
) -> Iterator[tuple[str, Any]]:
    """Yields every value with its dotted key, of a config or of plain nested dicts."""
    for key, value in table.items():
        if isinstance(value, (ConfigDict, Mapping)):
            yield from flat(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value
