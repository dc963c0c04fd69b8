"""What every key of a config may hold.

`configs/paper.py` lists the keys and says what each is for. `validate` turns every bad
value into one line before anything heavy starts.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import layer_steps, layers, model, optimizer
from alexnet_jax.data import augment


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a key may hold; its type is enforced by ConfigDict itself."""

    allowed: str  # '' where the type says all
    test: Callable[[Any], bool]
    # A run may be continued with another value: it says where things are, how they are
    # laid out or what is shown, and leaves the numbers alone.
    free: bool = False


def _free(rule: Rule) -> Rule:
    return dataclasses.replace(rule, free=True)


_POSITIVE = Rule('a number > 0', lambda v: v > 0)
_NOT_NEGATIVE = Rule('a number ≥ 0', lambda v: v >= 0)
_WHOLE = Rule('a whole number ≥ 0', lambda v: v >= 0)
_COUNT = Rule('a whole number ≥ 1', lambda v: v >= 1)
_PROBABILITY = Rule('a number from 0 up to but without 1', lambda v: 0 <= v < 1)
_FACTOR = Rule('a number between 0 and 1', lambda v: 0 < v < 1)
_ANY = Rule('', lambda v: True)
_FINITE = Rule('a number', math.isfinite)
_NAME = Rule('a name', lambda v: bool(v))
_EPOCHS = Rule(
    'epochs > 0 in rising order',
    lambda v: all(_is_number(e) and e > 0 for e in v) and list(v) == sorted(v),
)


# TFDS's own reading of a split says what is wrong inside its brackets.
_SPLIT = re.compile(r'\s*\w+\s*(\[.*\])?\s*(\+\s*\w+\s*(\[.*\])?\s*)*')
_SPLITS = Rule(
    "splits such as 'train', 'train[:90%]' or 'train+test'",
    lambda v: bool(_SPLIT.fullmatch(v)),
)
_SPLITS_OR_NONE = Rule(
    f"'' (none) or {_SPLITS.allowed}", lambda v: not v or _SPLITS.test(v)
)
_FOLDER = Rule(
    'a folder of this machine (a URL is neither read nor written: copy it here, or '
    'mount it)',
    lambda v: not re.match(r'\w+://', v),
)


def _one_of(*allowed: Any) -> Rule:
    return Rule('one of ' + ', '.join(map(repr, allowed)), lambda v: v in allowed)


_NORM: dict[str, Rule] = {
    'size': Rule('an odd whole number ≥ 1', lambda v: v >= 1 and v % 2 == 1),
    'k': _POSITIVE,
    'alpha': _NOT_NEGATIVE,
    'beta': _POSITIVE,
}

_RULES: dict[str, Rule] = {
    'seed': Rule('a whole number from 0 to 2**32 − 1', lambda v: 0 <= v < 2**32),
    'model.towers': _COUNT,
    'model.width': _POSITIVE,
    'model.num_classes': Rule(
        '0 (the data set’s count) or ≥ 2',
        lambda v: v == 0 or v >= 2,
    ),
    'model.activation': _one_of(*layers.ACTIVATIONS),
    'model.compute_dtype': _one_of('float32', 'bfloat16'),
    'model.pool.size': _COUNT,
    'model.pool.stride': _COUNT,
    'model.pool.ties': _one_of('first', 'all'),
    'model.dropout_scaling': _one_of('test', 'train'),
    'data.source': _NAME,
    'data.data_dir': _free(_FOLDER),
    'data.prepared_dir': _free(_FOLDER),
    'data.download': _free(_ANY),
    'data.train_split': _SPLITS,
    'data.validation_split': _SPLITS_OR_NONE,
    'data.test_split': _SPLITS_OR_NONE,
    'data.stored_size': _COUNT,
    'data.encoding': _one_of('raw', 'jpeg'),
    'data.jpeg_quality': Rule('a whole number from 1 to 100', lambda v: 1 <= v <= 100),
    'data.auto_prepare_gb': _free(_NOT_NEGATIVE),
    'data.fit': _one_of('crop', 'warp'),
    'data.crop_size': _COUNT,
    'data.random_crop': _ANY,
    'data.mirror': _ANY,
    'data.crop_chunk': _COUNT,
    'data.reshuffle': _ANY,
    'data.colour_std': _NOT_NEGATIVE,
    'data.colour_form': _one_of(*augment.COLOUR_FORMS),
    'data.colour_constants': _one_of(*augment.COLOUR_CONSTANTS),
    'data.colour_off_epoch': Rule('0 (never) or a number > 0', lambda v: v >= 0),
    'data.mean': _one_of('centre', 'crop', 'colour'),
    'data.scale': Rule(
        'a number > 0, or three, of R, G and B',
        lambda v: (
            all(n > 0 for n in v) and len(v) == 3
            if isinstance(v, tuple | list)
            else v > 0
        ),
    ),
    'data.threads': _free(_COUNT),
    'data.prefetch_batches': _free(_COUNT),
    'optimizer.learning_rate': _POSITIVE,
    'optimizer.momentum': _PROBABILITY,
    'optimizer.weight_decay': _NOT_NEGATIVE,
    'optimizer.bias_rate': _NOT_NEGATIVE,
    'optimizer.bias_annealed': _ANY,
    'optimizer.bias_cuts': _EPOCHS,
    'optimizer.layer_rates': Rule(
        '((layer, from epoch, multiplier), …) in order of epochs',
        lambda v: (
            _are_triples(v) and [e for _, e, _ in v] == sorted(e for _, e, _ in v)
        ),
    ),
    'optimizer.layer_decays': Rule(
        '((layer, weight decay ≥ 0), …)',
        lambda v: all(
            isinstance(pair, (tuple, list))
            and len(pair) == 2
            and _is_number(pair[1])
            and pair[1] >= 0
            for pair in v
        ),
    ),
    'optimizer.schedule': _one_of(*optimizer.SCHEDULES),
    'optimizer.plateau.factor': _FACTOR,
    'optimizer.plateau.patience': _COUNT,
    'optimizer.plateau.threshold': _NOT_NEGATIVE,
    'optimizer.plateau.max_cuts': _WHOLE,
    'optimizer.steps.epochs': _EPOCHS,
    'optimizer.steps.factor': _FACTOR,
    'optimizer.dexp.quarters': Rule('a whole number ≥ 2', lambda v: v >= 2),
    'optimizer.dexp.factor': Rule('a number ≥ 1', lambda v: v >= 1),
    'train.batch_size': _COUNT,
    'train.epochs': _NOT_NEGATIVE,
    'train.steps': _WHOLE,
    'train.schedule_epochs': Rule('0 (the run’s own epochs) or > 0', lambda v: v >= 0),
    'train.log_every_steps': _free(_COUNT),
    'train.eval_every_epochs': _POSITIVE,
    'train.eval_batch_size': _free(_COUNT),
    'train.checkpoint_every_steps': _free(_COUNT),
    'train.keep_checkpoints': _free(_COUNT),
    'train.histogram_every_evals': _free(Rule('0 (never) or ≥ 1', lambda v: v >= 0)),
    'mesh.data': _free(Rule('0 (chosen) or ≥ 1', lambda v: v >= 0)),
    'mesh.tower': _free(Rule('0 (chosen) or ≥ 1', lambda v: v >= 0)),
    # processes.who_am_i says what is wrong with it.
    'distributed.coordinator': _free(_ANY),
    'distributed.num_processes': _free(Rule('0 (not given) or ≥ 1', lambda v: v >= 0)),
    'distributed.process_id': _free(Rule('-1 (not given) or ≥ 0', lambda v: v >= -1)),
    'distributed.timeout_seconds': _free(_COUNT),
    'init.workdir': _ANY,
    'init.copy': Rule('names of layers', lambda v: all(isinstance(n, str) for n in v)),
}

# Tables that a network has only if one of its layers has the step.
_STEP_TABLES: dict[str, dict[str, Rule]] = {
    'lrn': {**_NORM, 'across_towers': _ANY},
    'spatial_norm': _NORM,
}

_LAYER_RULES: dict[str, Rule] = {
    'kind': _one_of('conv', 'local', 'dense'),
    'features': _COUNT,
    'reads': _one_of('image', 'own', 'all'),
    'init_std': _NOT_NEGATIVE,
    'init_bias': _FINITE,
    'steps': Rule(
        'a tuple of ' + ', '.join(map(repr, layer_steps.STEPS)),
        lambda v: all(step in layer_steps.STEPS for step in v),
    ),
    'kernel': _COUNT,
    'stride': _COUNT,
    'padding': Rule(
        '((top, bottom), (left, right)), whole numbers; below 0 they cut off',
        lambda v: (
            len(v) == 2
            and all(
                isinstance(pair, tuple)
                and len(pair) == 2
                and all(isinstance(n, int) for n in pair)
                for pair in v
            )
        ),
    ),
    'lrn': _ANY,
    'spatial_norm': _ANY,
    'dropout': _PROBABILITY,
}
_DENSE_KEYS = {'kind', 'features', 'reads', 'init_std', 'init_bias', 'steps'}
_CONV_KEYS = _DENSE_KEYS | {'kernel', 'stride', 'padding'}
_LAYER_KEYS = {'conv': _CONV_KEYS, 'local': _CONV_KEYS, 'dense': _DENSE_KEYS}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _are_triples(value: Any) -> bool:
    return all(
        isinstance(triple, (tuple, list))
        and len(triple) == 3
        and all(_is_number(number) and number >= 0 for number in triple[1:])
        for triple in value
    )


def validate(config: ConfigDict) -> None:
    """Checks every value, and the values that must fit together.

    Raises:
      ValueError: one line with the key, the value and what is allowed.
    """
    for name in config.model.layers:
        if name not in config.model:
            raise ValueError(
                f'config.model.layers names {name!r}, which has no table; '
                f'there are {", ".join(_layer_tables(config))}'
            )
    if len(set(config.model.layers)) != len(config.model.layers) or not len(
        config.model.layers
    ):
        raise ValueError(
            f'config.model.layers={config.model.layers}: expected each layer once'
        )
    for name in _layer_tables(config):
        _check_layer(name, config)
    known, present = rules(config), dict(flat(config))
    for key in known.keys() ^ present.keys():
        problem = 'is missing' if key in known else 'is not a key that anything reads'
        raise ValueError(f'config.{key} {problem}')
    _check_values(present, known)
    _check_together(config)


def validate_data(data: ConfigDict) -> None:
    """Checks `config.data` alone: a data set is prepared without a network.

    Raises:
      ValueError: as `validate`.
    """
    present = {f'data.{key}': value for key, value in flat(data)}
    _check_values(present, _RULES)


def _check_values(present: Mapping[str, Any], known: Mapping[str, Rule]) -> None:
    for key, value in present.items():
        if not _is_allowed(value, known[key]):
            raise ValueError(f'config.{key}={value!r}: expected {known[key].allowed}')


def may_change_on_resume(key: str) -> bool:
    """Says whether a run goes on with another value of a key."""
    return key in _RULES and _RULES[key].free


def rules(config: ConfigDict) -> dict[str, Rule]:
    """The rule of every key that this config's network reads, by dotted key."""
    known = _RULES | {'model.layers': Rule('names of layers, in order', bool)}
    tables = _layer_tables(config)
    for name in tables:
        known |= {
            f'model.{name}.{key}': _LAYER_RULES[key]
            for key in config.model[name]
            if key in _LAYER_RULES
        }
    for step, of_table in _STEP_TABLES.items():
        if any(step in config.model[name].steps for name in tables):
            known |= {f'model.{step}.{key}': rule for key, rule in of_table.items()}
    return known


def _is_allowed(value: Any, rule: Rule) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    try:
        return bool(rule.test(value))
    except TypeError:  # a table that a config made anew may hold any type
        return False


def _layer_tables(config: ConfigDict) -> list[str]:
    return [name for name, value in config.model.items()
            if isinstance(value, ConfigDict) and 'kind' in value]  # fmt: skip


def _check_layer(name: str, config: ConfigDict) -> None:
    """A layer's keys depend on its kind and on its steps."""
    table = config.model[name]
    expected = set(_LAYER_KEYS.get(table.kind, ()))
    if not expected:
        allowed = _LAYER_RULES['kind'].allowed
        raise ValueError(f'config.model.{name}.kind={table.kind!r}: expected {allowed}')
    expected |= {'lrn', 'spatial_norm', 'dropout'} & set(table.steps)
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
    if name not in _layer_tables(config) or leaf not in _LAYER_RULES:
        return 'is not a key of this config'
    table = config.model[name]
    if leaf == 'features':
        return 'is not read: the classes come from config.model.num_classes'
    if leaf in _CONV_KEYS:
        return f'is not read: config.model.{name}.kind is {table.kind!r}'
    return f'is not read: {leaf!r} is not among its steps {tuple(table.steps)}'


def _check_together(config: ConfigDict) -> None:
    if not config.data.validation_split:
        raise ValueError(
            "config.data.validation_split='': a run needs one, by which its best "
            "checkpoint is chosen, such as 'train[90%:]' beside 'train[:90%]'"
        )
    if bool(config.train.epochs) == bool(config.train.steps):
        raise ValueError(
            f'config.train.epochs={config.train.epochs} and '
            f'config.train.steps={config.train.steps}: give exactly one, the other 0'
        )
    if config.data.crop_size > config.data.stored_size:
        raise ValueError(
            f'config.data.crop_size={config.data.crop_size} is larger than '
            f'config.data.stored_size={config.data.stored_size}'
        )
    pool = config.model.pool
    if pool.stride > pool.size:
        raise ValueError(
            f'config.model.pool.stride={pool.stride} is larger than '
            f'config.model.pool.size={pool.size}: pixels would be skipped'
        )
    if config.optimizer.bias_annealed and config.optimizer.bias_cuts:
        raise ValueError(
            f'config.optimizer.bias_cuts={config.optimizer.bias_cuts}: read only where '
            'config.optimizer.bias_annealed=False'
        )
    _check_events(config)
    for key in ('layer_rates', 'layer_decays'):
        for target, *_ in config.optimizer[key]:
            name = str(target)
            if key == 'layer_rates':  # may be of a kernel or a bias alone
                name = name.removesuffix('/kernel').removesuffix('/bias')
            _check_is_layer(name, f'optimizer.{key}', config)
    for name in config.init.copy:
        _check_is_layer(name, 'init.copy', config)
    if config.init.copy and not config.init.workdir:
        raise ValueError(
            f'config.init.copy={tuple(config.init.copy)} takes layers from another '
            'run: name its workdir, --config.init.workdir=DIR, or start them new, '
            '--config.init.copy="()"'
        )
    if config.init.workdir and not config.init.copy:
        raise ValueError(
            f'config.init.workdir={config.init.workdir!r}, but config.init.copy names '
            f'no layers to copy; there are {", ".join(config.model.layers)}'
        )
    towers, tower, data = config.model.towers, config.mesh.tower, config.mesh.data
    if tower and towers % tower:
        raise ValueError(
            f'config.mesh.tower={tower} does not divide config.model.towers={towers}'
        )
    for key in ('batch_size', 'eval_batch_size'):
        if data and config.train[key] % data:
            raise ValueError(
                f'config.train.{key}={config.train[key]} is not divisible by '
                f'config.mesh.data={data}'
            )
    # Builds the table of shapes, which finds widths that the towers do not divide.
    try:
        model.network_from_config(
            config.model, config.data.crop_size, config.model.num_classes or 10
        )
    except ValueError as error:
        raise ValueError(f'config.{error}') from None


def _check_events(config: ConfigDict) -> None:
    """Refuses an event of the schedule that the run would end before."""
    optimizer, data = config.optimizer, config.data
    events = {
        'optimizer.layer_rates': [since for _, since, _ in optimizer.layer_rates],
        'optimizer.bias_cuts': optimizer.bias_cuts,
    }
    if optimizer.schedule == 'steps':
        events['optimizer.steps.epochs'] = optimizer.steps.epochs
    if data.colour_std:
        events['data.colour_off_epoch'] = [data.colour_off_epoch]
    key = 'schedule_epochs' if config.train.schedule_epochs else 'epochs'
    end = config.train[key]  # 0 if only the number of images says how long it is
    for name, epochs in events.items():
        late = [epoch for epoch in epochs if 0 < end <= epoch]
        if late:
            raise ValueError(
                f'config.{name}: epoch {late[0]:g} is not before the end, '
                f'config.train.{key}={end:g}; give an earlier one, or in '
                'config.train.schedule_epochs the length that the epochs are for'
            )


def _check_is_layer(name: str, key: str, config: ConfigDict) -> None:
    if name not in config.model.layers:
        raise ValueError(
            f'config.{key} names {name!r}, which is not among config.model.layers: '
            f'{", ".join(config.model.layers)}'
        )


def flat(config: ConfigDict, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yields every value with its dotted key."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flat(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value
