"""Every shipped config is whole, every key is read, every bad value is one line."""

import functools
import json

import pytest

from alexnet_jax import config as config_lib
from alexnet_jax import model
from alexnet_jax.run import config_file
from tests.conftest import REPOSITORY, load, network_of

FILES = {path.stem for path in REPOSITORY.glob('configs/[!_]*.py')}
# A new config, `file` or `file:argument`, must be given its count here.
PARAMETERS = {
    'paper': 60_965_224,
    'released_2012': 60_965_224,
    'released_2012:145-2010': 60_965_224,
    'half': 59_798_312,
    'columns': 81_591_720,
    'six_conv': 61_555_304,
    'six_conv:finetune': 61_555_304,
    'caffe': 60_965_224,
    'caffenet': 60_965_224,
    'one_tower': 61_100_840,
    'one_tower:torchvision': 61_100_840,
    'cuda_convnet:80sec': 145_578,
    'cuda_convnet:18pct': 89_578,
    'cuda_convnet:conv_local_13pct': 1_116_490,
    'cuda_convnet:conv_local_13pct_lrn': 1_116_490,
    'cuda_convnet:conv_local_11pct': 2_112_970,
    'cifar10': 1_011_978,
    'clothing': 3_572_842,
    'demo': 255_562,
    'imagenette': 3_572_842,
    'photos': 898_554,
}


def test_every_config_file_is_listed_here():
    assert {name.split(':')[0] for name in PARAMETERS} == FILES


@pytest.mark.parametrize('name', PARAMETERS)
def test_shipped_config_is_valid_and_has_its_golden_parameter_count(name):
    config = load(name)
    if config.init.copy:
        config.init.workdir = 'runs/another'
    config_lib.validate(config)
    shapes = model.layer_shapes(network_of(config))
    assert sum(shape.parameters for shape in shapes) == PARAMETERS[name]


@pytest.mark.parametrize(
    'name', ['released_2012', 'one_tower', 'cuda_convnet', 'six_conv']
)
def test_an_unknown_argument_of_a_config_file_is_named(name):
    with pytest.raises(ValueError, match=r'1999.*there are'):
        load(f'{name}:1999')


BAD = [
    ({'train.batch_size': 0}, ['train.batch_size', '0', 'from 1 to']),
    ({'train.steps': 3}, ['train.epochs', 'train.steps', 'exactly one']),
    ({'train.epochs': 0.0}, ['exactly one']),
    ({'train.eval_every_epochs': 0.0}, ['eval_every_epochs', 'from 1e-06']),
    ({'optimizer.learning_rate': -1.0}, ['learning_rate', '-1.0', 'from 1e-12']),
    ({'optimizer.learning_rate': float('nan')}, ['learning_rate', 'nan']),
    ({'model.width': float('inf')}, ['model.width', 'inf']),
    ({'model.conv1.init_bias': float('inf')}, ['init_bias', 'inf']),
    ({'seed': -1}, ['seed=-1', '2**32 − 1']),
    ({'seed': 2**32}, ['seed=4294967296', '2**32 − 1']),
    ({'optimizer.momentum': 1.0}, ['momentum', '1.0']),
    ({'optimizer.schedule': 'linear'}, ['schedule', "'linear'", "'plateau'"]),
    ({'optimizer.steps.epochs': (5.0, 3.0)}, ['steps.epochs', 'rising']),
    ({'optimizer.plateau.factor': 10.0}, ['plateau.factor', '10.0']),
    ({'model.activation': 'gelu'}, ['activation', "'gelu'", "'relu'"]),
    ({'model.towers': 5}, ['conv1.features=96', 'towers=5']),
    ({'model.width': 0.0}, ['model.width', 'from 0.001']),
    ({'model.num_classes': 1}, ['num_classes', '1']),
    ({'model.lrn.size': 4}, ['lrn.size', '4', 'odd']),
    ({'model.pool.stride': 4}, ['pool.stride', 'pool.size']),
    ({'model.conv1.kernel': 250}, ['conv1', 'too small']),
    ({'model.conv1.kernel': 300}, ['conv1.kernel=300', 'from 1 to 255']),
    ({'model.conv1.padding': (3, 3)}, ['conv1.padding']),
    ({'model.conv2.reads': 'both'}, ['conv2.reads', "'both'", "'own'"]),
    ({'model.fc6.dropout': 1.0}, ['fc6.dropout', '1.0']),
    ({'model.conv1.steps': ('activation', 'norm')}, ['conv1']),
    ({'model.conv1.steps': ('activation', 'pool')}, ['conv1.lrn', 'not read']),
    ({'model.layers': ('conv1', 'conv9')}, ['conv9']),
    ({'model.layers': ('conv1', 'conv1', 'fc8')}, ['each layer once']),
    ({'model.compute_dtype': 'float16'}, ['compute_dtype', "'bfloat16'"]),
    ({'data.crop_size': 300}, ['crop_size=300', 'stored_size=256']),
    ({'data.encoding': 'png'}, ['encoding', "'jpeg'"]),
    ({'data.jpeg_quality': 101}, ['jpeg_quality', '100']),
    ({'data.train_split': ''}, ['train_split']),
    ({'data.validation_split': ''}, ['validation_split', 'a run needs one']),
    ({'data.fit': 'pad'}, ['data.fit', "'warp'"]),
    ({'data.colour_form': 'fancy'}, ['colour_form', "'released'"]),
    ({'data.crop_chunk': 0}, ['crop_chunk', '0']),
    ({'optimizer.bias_cuts': (3.0,)}, ['bias_cuts', 'bias_annealed=False']),
    ({'optimizer.layer_rates': (('conv9', 0.0, 1.0),)}, ['layer_rates', "'conv9'"]),
    ({'optimizer.layer_rates': (('conv1', 1.0),)}, ['layer_rates', 'multiplier']),
    (
        {'optimizer.layer_rates': (('conv1', 5.0, 1.0), ('conv2', 2.0, 0.0))},
        ['layer_rates', 'in order'],
    ),
    ({'optimizer.layer_decays': (('fc9', 1.0),)}, ['layer_decays', "'fc9'"]),
    (
        {'optimizer.layer_rates': (('conv1/kernal', 0.0, 0.0),)},
        ['layer_rates', "'conv1/kernal'"],
    ),
    ({'optimizer.layer_rates': (5,)}, ['layer_rates', 'multiplier']),
    ({'optimizer.layer_decays': (('fc6', -1.0),)}, ['layer_decays', '≥ 0']),
    ({'optimizer.layer_decays': (('fc6/kernel', 1.0),)}, ["'fc6/kernel'"]),
    ({'optimizer.layer_decays': (5,)}, ['layer_decays', 'weight decay']),
    ({'init.copy': ('fc9',)}, ['init.copy', "'fc9'"]),
    ({'init.workdir': 'runs/paper'}, ['init.workdir', 'init.copy']),
    ({'init.copy': ('conv1',)}, ['init.copy', '--config.init.workdir=DIR']),
    (
        {'optimizer.layer_rates': (('conv1', 90.0, 0.0),)},
        ['layer_rates', 'epoch 90', 'schedule_epochs=90'],
    ),
    (
        {'train.schedule_epochs': 0.0, 'data.colour_off_epoch': 91.0},
        ['colour_off_epoch', 'epoch 91', 'train.epochs=90', 'schedule_epochs'],
    ),
    (
        {'optimizer.schedule': 'steps', 'train.schedule_epochs': 60.0},
        ['steps.epochs', 'epoch 78', 'schedule_epochs=60'],
    ),
    (
        {'optimizer.bias_annealed': False, 'optimizer.bias_cuts': (95.0,)},
        ['bias_cuts', 'epoch 95'],
    ),
    ({'train.schedule_epochs': -1.0}, ['schedule_epochs', '-1.0']),
    ({'mesh.tower': 3}, ['mesh.tower=3', 'towers=2']),
    ({'mesh.data': 3}, ['batch_size=128', 'mesh.data=3']),
    ({'mesh.data': -1}, ['mesh.data', '-1']),
]


@pytest.mark.parametrize(('values', 'words'), BAD)
def test_bad_value_is_one_line_that_names_it(values, words):
    config = load('paper')
    config.update_from_flattened_dict(values)
    with pytest.raises(ValueError, match=r'^config') as error:
        config_lib.validate(config)
    message = str(error.value)
    assert '\n' not in message
    assert all(word in message for word in words), message


def test_six_conv_starts_new_only_when_told_so():
    for stage in ('pretrain', 'finetune'):
        config = load(f'six_conv:{stage}')
        with pytest.raises(ValueError, match=r'init.copy=.*--config.init.workdir=DIR'):
            config_lib.validate(config)
        config.init.copy = ()
        config_lib.validate(config)


def test_an_event_that_nothing_reads_is_not_refused():
    config = load('paper')
    config.train.schedule_epochs = 60.0  # steps.epochs end at 78, for 'steps' alone
    config.data.colour_std, config.data.colour_off_epoch = 0.0, 80.0
    config_lib.validate(config)


def test_keys_missing_and_keys_too_many_are_named():
    config = load('paper')
    with config.unlocked():
        config.train.warmup = 3
    with pytest.raises(ValueError, match=r'train\.warmup is not a key'):
        config_lib.validate(config)
    config = load('paper')
    with config.unlocked():
        del config.train.epochs
    with pytest.raises(ValueError, match=r'train.epochs is missing'):
        config_lib.validate(config)


def test_differences_name_what_matters_and_pass_what_does_not():
    old, new = load('paper'), load('paper')
    new.optimizer.learning_rate = 0.02
    new.data.threads = 7
    new.mesh.tower = 1
    assert config_file.blocking_differences(
        config_file.to_json(old), config_file.to_json(new)
    ) == ['optimizer.learning_rate=0.01, and you asked for 0.02']


def test_a_run_from_before_a_key_was_there_goes_on_with_its_default():
    old, new = (config_file.to_json(load('paper')) for _ in range(2))
    del old['train']['nonfinite'], old['data']['training_error_split']
    assert not config_file.blocking_differences(old, new)
    new['train']['nonfinite']['factor'] = 0.7
    assert config_file.blocking_differences(old, new) == [
        'train.nonfinite.factor=0.5, and you asked for 0.7'
    ]


def test_a_run_goes_on_with_other_values_of_the_keys_that_help_marks():
    rules = config_lib.rules(load('paper'))
    free = {key for key, rule in rules.items() if rule.free}
    assert {'data.data_dir', 'mesh.tower', 'train.keep_checkpoints'} <= free
    old = config_file.to_json(load('paper'))
    for key in rules:
        new = json.loads(json.dumps(old))
        *tables, leaf = key.split('.')
        table = functools.reduce(dict.__getitem__, tables, new)
        table[leaf] = 'another value'
        differences = config_file.blocking_differences(old, new)
        assert len(differences) == (0 if key in free else 1), key


def test_every_key_of_every_shipped_config_has_a_rule():
    for name in PARAMETERS:
        config = load(name)
        assert dict(config_lib.flat(config)).keys() == config_lib.rules(config).keys()
