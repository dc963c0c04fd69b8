"""What each key of a config may hold, key by key; `config` applies it.

Every number has an end on both sides, so that a slip of the finger (1e30, 2**64) is
one line and not an hour. The ends are far from anything sensible.
"""

import re

from alexnet_jax import layer_steps, layers, optimizer
from alexnet_jax.config_data_keys import DATA, FOLDER
from alexnet_jax.config_rules import (
    ANY,
    LONGEST,
    MOST_IMAGES,
    STEPS,
    Rule,
    each_once,
    free,
    is_number,
    number,
    one_of,
    whole,
)  # fmt: skip

_EPOCHS = Rule(
    f'epochs > 0 in rising order, up to {LONGEST:,}',
    lambda v: (
        all(is_number(e) and 0 < e <= LONGEST for e in v) and list(v) == sorted({*v})
    ),
)
_LAYER_RATES = Rule(
    '((layer, from epoch, multiplier from 0 to 10,000), …) in order of epochs, each '
    'layer once an epoch',
    lambda v: (
        all(
            isinstance(triple, (tuple, list))
            and len(triple) == 3
            and isinstance(triple[0], str)
            and is_number(triple[1])
            and 0 <= triple[1] <= LONGEST
            and is_number(triple[2])
            and 0 <= triple[2] <= 10_000
            for triple in v
        )
        and [e for _, e, _ in v] == sorted(e for _, e, _ in v)
        and each_once([(layer, epoch) for layer, epoch, _ in v])
    ),
)
_LAYER_DECAYS = Rule(
    '((layer, weight decay ≥ 0 and ≤ 10), …), each layer once',
    lambda v: (
        all(
            isinstance(pair, (tuple, list))
            and len(pair) == 2
            and isinstance(pair[0], str)
            and is_number(pair[1])
            and 0 <= pair[1] <= 10
            for pair in v
        )
        and each_once([layer for layer, _ in v])
    ),
)
_NAMES = Rule(
    'names of layers, each once',
    lambda v: all(isinstance(n, str) for n in v) and each_once(v),
)


_OPTIMIZER = {
    'learning_rate': number(1e-12, 100),
    'momentum': number(0, 0.9999),
    'weight_decay': number(0, 10),
    'bias_rate': number(0, 10_000),
    'bias_annealed': ANY,
    'bias_cuts': _EPOCHS,
    'layer_rates': _LAYER_RATES,
    'layer_decays': _LAYER_DECAYS,
    'schedule': one_of(*optimizer.SCHEDULES),
    'plateau.factor': number(0.0001, 0.9999),
    'plateau.patience': whole(1, LONGEST),
    'plateau.threshold': number(0, 0.9999),
    'plateau.max_cuts': whole(0, 100),
    'steps.epochs': Rule(
        f'at least one of {_EPOCHS.allowed}', lambda v: bool(v) and _EPOCHS.test(v)
    ),
    'steps.factor': number(0.0001, 0.9999),
    'dexp.quarters': whole(2, LONGEST),
    'dexp.factor': number(1, 10**12),
}

_TRAIN = {
    'batch_size': whole(1, MOST_IMAGES),
    'epochs': number(0, LONGEST),
    'steps': whole(0, STEPS),
    'schedule_epochs': number(0.001, LONGEST, 'the run’s own epochs'),
    'log_every_steps': free(whole(1, STEPS)),
    'eval_every_epochs': number(1e-6, LONGEST),
    'eval_batch_size': free(whole(1, MOST_IMAGES)),
    'checkpoint_every_steps': free(whole(1, STEPS)),
    'keep_checkpoints': free(whole(1, LONGEST)),
    'histogram_every_evals': free(whole(1, LONGEST, 'never')),
}

_MODEL = {
    'towers': whole(1, 64),
    'width': number(0.001, 64),
    'num_classes': whole(2, 1_000_000, 'the data set’s count'),
    'activation': one_of(*layers.ACTIVATIONS),
    'compute_dtype': one_of('float32', 'bfloat16'),
    'pool.size': whole(1, 255),
    'pool.stride': whole(1, 255),
    'pool.ties': one_of('first', 'all'),
    'dropout_scaling': one_of('test', 'train'),
}

LAYERS = Rule(
    'names of layers, in order, each layer once',
    lambda v: bool(v) and _NAMES.test(v),
)

RULES: dict[str, Rule] = {
    'seed': Rule(
        'a whole number from 0 to 2**32 − 1',
        lambda v: 0 <= v < 2**32,
    ),
    **{f'model.{key}': rule for key, rule in _MODEL.items()},
    **{f'data.{key}': rule for key, rule in DATA.items()},
    **{f'optimizer.{key}': rule for key, rule in _OPTIMIZER.items()},
    **{f'train.{key}': rule for key, rule in _TRAIN.items()},
    'mesh.data': free(whole(1, 65_536, 'chosen')),
    'mesh.tower': free(whole(1, 64, 'chosen')),
    # processes.who_am_i says what else is wrong with it.
    'distributed.coordinator': free(
        Rule(
            "'' (none), 'auto' or HOST:PORT",
            lambda v: bool(re.fullmatch(r'|auto|[\w.:\[\]-]+', v)),
        )
    ),
    'distributed.num_processes': free(whole(1, 65_536, 'not given')),
    'distributed.process_id': free(
        Rule('-1 (not given) or a whole number up to 65,535', lambda v: -1 <= v < 2**16)
    ),
    'distributed.timeout_seconds': free(whole(1, 1_000_000)),
    'init.workdir': FOLDER,
    'init.copy': _NAMES,
}

# Tables that a network has only if one of its layers has the step.

_NORM: dict[str, Rule] = {
    'size': Rule(
        'an odd whole number ≥ 1 and ≤ 255', lambda v: 1 <= v <= 255 and v % 2 == 1
    ),
    'k': number(1e-6, 1_000_000),
    'alpha': number(0, 1000),
    'beta': number(0.001, 10),
}
STEP_TABLES: dict[str, dict[str, Rule]] = {
    'lrn': {**_NORM, 'across_towers': ANY},
    'spatial_norm': _NORM,
}

# Layers.

REPEATED = {'pool', 'avg_pool'}  # what a layer may do twice
LAYER_RULES: dict[str, Rule] = {
    'kind': one_of('conv', 'local', 'dense'),
    'features': whole(1, 1_000_000),
    'reads': one_of('image', 'own', 'all'),
    'init_std': number(0, 10),
    'init_bias': number(-100, 100),
    'steps': Rule(
        f'a tuple of {", ".join(map(repr, layer_steps.STEPS))}, each once (pools may '
        'be there twice)',
        lambda v: (
            all(step in layer_steps.STEPS for step in v)
            and each_once([step for step in v if step not in REPEATED])
        ),
    ),
    'kernel': whole(1, 255),
    'stride': whole(1, 255),
    'padding': Rule(
        # Below 0 pixels are left out: the model zoo's bvlcalexnet reads none of them.
        '((top, bottom), (left, right)), whole numbers from -254 to 254',
        lambda v: (
            len(v) == 2
            and all(
                isinstance(pair, tuple)
                and len(pair) == 2
                and all(whole(-254, 254).test(n) for n in pair)
                for pair in v
            )
        ),
    ),
    'lrn': ANY,
    'spatial_norm': ANY,
    'dropout': number(0, 0.99),
}
DENSE_KEYS = {'kind', 'features', 'reads', 'init_std', 'init_bias', 'steps'}
CONV_KEYS = DENSE_KEYS | {'kernel', 'stride', 'padding'}
LAYER_KEYS = {'conv': CONV_KEYS, 'local': CONV_KEYS, 'dense': DENSE_KEYS}
