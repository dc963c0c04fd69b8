"""Configs by name, and each mistake on a command line as one line that helps."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_jax import __main__ as commands
from alexnet_jax import config as config_lib
from alexnet_jax.configs import demo, paper
from alexnet_jax.system import command_line, config_arguments
from tests.conftest import REPOSITORY, as_flags, run, run_here


def test_a_name_is_a_shipped_config_and_a_path_is_a_path(tmp_path):
    for value in ('demo', 'cuda_convnet:18pct'):
        file, _, argument = config_arguments.to_file(value).partition(':')
        assert Path(file) == REPOSITORY / 'configs' / f'{value.split(":")[0]}.py'
        assert argument == value.partition(':')[2]
    assert config_arguments.to_file('configs/demo.py') == 'configs/demo.py'
    mine = tmp_path / 'mine.py'
    mine.touch()
    assert config_arguments.to_file(f'{mine}:3') == f'{mine}:3'
    words = [
        'main',
        '--config',
        'demo',
        '--config.train.epochs',
        '2',
        '--',
        '--config=x',
    ]
    demo_file = config_arguments.to_file('demo')
    assert config_arguments.with_files(words, 'config') == [
        *('main', '--config', demo_file),
        *('--config.train.epochs', '2', '--', '--config=x'),
    ]


@pytest.mark.parametrize(
    ('value', 'words'),
    [
        ('cifar', ['--base=cifar', 'nearest is cifar10', 'caffe, caffenet']),
        ('nothing_like_it', ['nothing_like_it', 'there are caffe']),
        ('configs/dmo.py', ['configs/dmo.py', 'no such file', '--base=demo']),
        ('elsewhere/paper.py', ['no such file', '--base=paper']),
    ],
)
def test_an_unknown_config_is_answered_with_what_there_is(value, words):
    with pytest.raises(ValueError, match=r'^--base=') as error:
        config_arguments.to_file(value, 'base')
    assert all(word in str(error.value) for word in words), error.value


def test_every_shipped_config_says_what_it_is():
    known = config_arguments.shipped()
    assert set(known) == {p.stem for p in REPOSITORY.glob('configs/[!_]*.py')}
    assert all(line.endswith('.') for line in known.values())


KEYS = [
    ('optimizer.lr=1', ['optimizer.learning_rate']),
    ('optimizer.wd=1', ['optimizer.weight_decay']),
    ('model.conv1.lnr=False', ['nearest: --config.model.conv1.lrn']),
    ('batch_size=3', ['nearest: --config.train.batch_size']),
    ('data.epochs=3', ['nearest: --config.train.epochs']),
    ('model.conv3.lrn=True', ["'lrn' is not among its steps", 'model.conv1.lrn']),
    ('model.fc8.features=3', ['classes come from config.model.num_classes']),
    ('model.fc6.kernel=3', ["config.model.fc6.kind is 'dense'"]),
    ('optimizer.learning-rate=1', ['nearest: --config.optimizer.learning_rate']),
    ('model.widht=1', ['nearest: --config.model.width']),
    ('train.epochs.first=1', ['is not a key', '--config.train.epochs']),
    ('model=1', ['model is a table', '--config.model.']),
]
VALUES = [
    ('train.epochs=abc', 'a number from 0 to 1,000,000'),
    ('train.batch_size=2.5', 'a whole number from 1 to 1,048,576'),
    ('model.num_classes=ten', '0 (the data set’s count) or a whole number from 2 to'),
    ('data.mirror=maybe', 'True or False'),
    ('optimizer.bias_cuts=(1,', 'a tuple, epochs > 0 in rising order'),
]


@pytest.mark.parametrize(
    ('override', 'words'),
    [*KEYS, *((o, [f': expected {allowed}']) for o, allowed in VALUES)],
)
def test_a_wrong_override_is_one_line_with_the_full_key(override, words):
    with pytest.raises(ValueError, match=r'^--config') as error:
        config_arguments.check(
            ['main', f'--config.{override}'], 'config', paper.get_config()
        )
    message = str(error.value)
    assert message.startswith(f'--config.{override}') and '\n' not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    'words',
    [
        ['--config.train.batch_size=64', '--config.train.epochs', '2'],
        ['--config.data.mirror', '--noconfig.data.random_crop', '--stop_at_step=3'],
        ['--config.data.source=folder', "--config.init.copy=('conv1',)"],
        ['--', '--config.train.batchsize=64'],
    ],
)
def test_what_ml_collections_understands_is_let_through(words):
    config_arguments.check(['main', *words], 'config', paper.get_config())


@pytest.mark.parametrize(
    ('lines', 'words'),
    [
        (['import nothing_here'], ['line 1', "No module named 'nothing_here'"]),
        (
            [
                'from alexnet_jax.configs import demo',
                'def get_config():',
                '    config = demo.get_config()',
                '    config.train.epoch = 3',
            ],
            ['line 4', '"epoch" does not exist', 'Did you mean "epochs"'],
        ),
        (['def get_config(): pass'], ['no ConfigDict', 'paper.get_config()']),
        (['def get_config(:'], ['SyntaxError']),
    ],
)
def test_a_mistake_in_ones_own_config_is_one_line(lines, words, tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text('\n'.join(lines))
    with pytest.raises(ValueError, match=r'^--config=') as error:
        config_arguments.load(str(file))
    message = str(error.value)
    assert str(file) in message and '\n' not in message
    assert all(word in message for word in words), message
    assert 'checkpoint_every_steps' not in message  # not the whole table


def test_help_has_flags_configs_an_example_and_every_key_and_exits_with_0():
    done = run('-m', 'alexnet_jax.main', '--config=demo', '--help')
    assert not done.err
    out = done.out
    first_screen = '\n'.join(out.splitlines()[:45])
    for word in (
        'usage: ',
        '--config=',
        '--workdir=',
        '--summary',
        '  demo ',
        '  paper ',
    ):
        assert word in first_screen, word
    assert '--config.model.conv1.lrn=False' in out
    for key, value in config_lib.flat(demo.get_config()):
        group, _, leaf = key.rpartition('.')
        in_layers = group.removeprefix('model.') in demo.get_config().model.layers
        assert (f'{leaf}=' if in_layers else f' {key}=') in out, key
        assert value == '' or str(value) in ' '.join(out.split()), key
    assert '\n* train.keep_checkpoints=2' in out and 'one of ' in out
    assert 'a whole number from 1 to 1,048,576' in out


@pytest.mark.parametrize(
    'words',
    [
        'alexnet_jax.main --config=paper --summary',
        'alexnet_jax.main --help',
        'alexnet_jax.main --config=demo --workdir={folder}/demo '
        '--config.data.data_dir={folder}/sets',  # its first words are of the rendering
        'experiments.sweep --list',
    ],
)
def test_output_that_nobody_reads_ends_a_command_quietly(words, tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, '-m', *words.format(folder=tmp_path).split()],
        cwd=REPOSITORY,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, '')


def test_a_librarys_closed_pipe_is_not_taken_for_cut_off_output():
    """Orbax writes to a closed socket after a save that failed: no signal for that."""
    before = signal.getsignal(signal.SIGPIPE)
    assert run_here('alexnet_jax.main', '--help').status == 0
    assert signal.getsignal(signal.SIGPIPE) is before is signal.SIG_IGN
    with pytest.raises(BrokenPipeError), command_line.user_errors():
        raise BrokenPipeError(errno.EPIPE, 'of a worker')


@pytest.mark.parametrize('command', commands.commands())
def test_every_commands_help_exits_with_0(command):
    done = run_here(f'alexnet_jax.{command}', '--help')
    assert done.status == 0 and 'usage: ' in done.out


def test_a_path_may_begin_with_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'mine.py').write_text('')
    found = config_arguments.to_file('~/mine.py:3')
    assert found == f'{tmp_path}/mine.py:3'
    for command, *words in (
        ('predict', '--workdir=~/runs', 'a.jpg'),
        ('export_workdir', '--workdir=~/runs', '--output=~/out'),
        ('weights', 'inspect', '~/runs'),
    ):
        line = run_here(f'alexnet_jax.{command}', *words).error
        assert str(tmp_path / 'runs') in line, line


@pytest.mark.parametrize(
    ('number', 'says'),
    [(errno.EACCES, 'cannot open a.pth: '), (errno.ENOSPC, 'cannot write a.pth: ')],
)
def test_an_error_of_the_disk_is_one_line(number, says):
    with pytest.raises(SystemExit, match=says), command_line.user_errors():
        raise OSError(number, os.strerror(number), 'a.pth')


def test_the_package_lists_its_commands_without_importing_them():
    code = "import sys; sys.argv = ['x']; import runpy"
    code += "; runpy.run_module('alexnet_jax', run_name='__main__')"
    code += "; assert not {'jax', 'tensorflow', 'absl'} & set(sys.modules)"
    done = run('-c', code)
    for name, line in commands.commands().items():
        assert f'  {name} ' in done.out and line and line in done.out
    assert {'main', 'evaluate', 'figures'} <= set(commands.commands())
    assert not {'train', 'model', 'config'} & set(commands.commands())


def test_an_unknown_command_is_answered_with_the_nearest():
    assert 'nearest is evaluate' in run('-m', 'alexnet_jax', 'evalute', status=1).err


MISTAKES = [
    (['--config=demo', '--config.train.bacth_size=3'], ['bacth_size', 'batch_size']),
    (['--config=demo', '--config.train.batch_size=many'], ['batch_size', 'many']),
    (['--config=demo', '--config.train.batch_size=31', '--config.mesh.data=2'], ['31']),
    (
        ['--config=demo', 'train.epochs=3'],
        ["'train.epochs=3'", '--config.key=value'],
    ),
    (['--config.train.epochs=3'], ['--config=NAME is missing']),
    ([], ['--config=NAME is needed', 'caffenet']),
    (['--config=demo', '--workdri=x'], ['workdri']),
    (['--config=demo', '--workdir=/proc/nowhere'], ['/proc']),
    (['--config=demo', '--workdir=gs://bucket/run'], ['gs://bucket/run']),
    (
        ['--config=clothing', '--config.data.data_dir=/nowhere'],
        ['no folder of images', '/nowhere'],
    ),
    (
        ['--config=cifar10', '--config.data.data_dir={tmp}'],
        ['{tmp}', 'download'],
    ),
    (
        [
            '--config=demo',
            '--config.data.train_split=training',
            '--config.data.training_error_split=',
        ],
        ['validation'],
    ),
    (
        ['--config=demo', '--config.model.width=1', '--config.model.towers=7'],
        ['conv1', 'towers=7'],
    ),
    (['--config=configs/nothing.py'], ['nothing.py']),
]


@pytest.mark.parametrize(('words', 'expected'), MISTAKES)
def test_a_mistake_ends_main_with_one_line(
    words, expected, small_values, tmp_path, whole_run
):
    if '--config=demo' in words:  # whose images `whole_run` has rendered
        words = ['--config=demo', *as_flags(small_values), *words[1:]]
    if not any(word.startswith('--workdir') for word in words):
        words = [*words, f'--workdir={tmp_path / "run"}']
    words = [word.format(tmp=tmp_path) for word in words]
    line = run_here('alexnet_jax.main', *words).error
    assert all(word.format(tmp=tmp_path) in line for word in expected), line
    assert not list(tmp_path.iterdir())
    assert not (REPOSITORY / 'gs:').exists()


@pytest.mark.parametrize(
    'words',
    [
        # Not runs/demo, where `make demo` may have left a run.
        [
            'alexnet_jax.main',
            '--config=demo',
            '--config.data.source=cifer10',
            '--workdir=nowhere',
        ],
        ['alexnet_jax.prepare', '--source=cifer10'],
        ['alexnet_jax.evaluate', '--workdir=nowhere'],
        ['alexnet_jax.figures', '--workdir=nowhere'],
        ['experiments.sweep', 'base', 'no_lrm', '--base=demo', '--workdir=nowhere'],
    ],
)
def test_no_library_says_more_in_a_process_of_its_own(words):
    line = run('-m', *words, status=1).error
    assert any(word in line for word in ('cifar10', 'nowhere', 'no_lrm'))
    assert line == run_here(*words).error
    assert not (REPOSITORY / 'nowhere').exists()
