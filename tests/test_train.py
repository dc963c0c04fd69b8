"""Whole runs of a small net: what a run leaves behind, and what it survives."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import mesh, model, optimizer, step, train, train_state
from alexnet_jax.data import prepare
from alexnet_jax.run import checkpoint, config_file, trained
from alexnet_jax.system import processes

REPOSITORY = Path(__file__).parents[1]


def losses_of(workdir: Path) -> list[tuple[int, float]]:
    lines = [
        json.loads(x) for x in (workdir / 'metrics.jsonl').read_text().splitlines()
    ]
    return [
        (line['step'], line[name])
        for line in lines
        for name in ('train/loss', 'val/loss', 'test/loss')
        if name in line
    ]


def final_state(workdir: Path, config):
    network = model.network_from_config(config.model, config.data.crop_size, 10)
    tx = optimizer.create_optimizer(config.optimizer, steps_per_epoch=1)
    one = mesh.make_mesh(data=1, tower=1, towers=2, batch_size=32)
    with checkpoint.Checkpoints(workdir, keep=2, read_only=True) as checkpoints:
        restored = checkpoints.restore_latest(
            train_state.abstract_train_state(network, tx, one)
        )
    assert restored
    return jax.tree.map(np.asarray, restored[0])


def test_a_run_leaves_what_it_promises(whole_run, small):
    workdir = whole_run['workdir']
    for name in ('config.json', 'provenance.json', 'metrics.jsonl', 'result.json'):
        assert (workdir / name).stat().st_size > 0, name
    assert (workdir / 'conv1_kernels.png').read_bytes()[1:4] == b'PNG'
    assert list(workdir.glob('events.out.tfevents.*'))
    assert sorted(p.name for p in (workdir / 'checkpoints').iterdir()) == ['18', '20']
    assert len(list((workdir / 'best').iterdir())) == 1
    lines = [
        json.loads(x) for x in (workdir / 'metrics.jsonl').read_text().splitlines()
    ]
    names = set().union(*lines)
    assert names >= {
        'train/loss', 'train/top1_error', 'train/top5_error', 'train/learning_rate',
        'train/images_per_second', 'train/input_wait_fraction', 'train/gradient_norm',
        'val/loss', 'val/top1_error', 'val/top5_error', 'test/top1_error',
    }  # fmt: skip
    assert [line['step'] for line in lines if 'val/loss' in line] == [6, 12, 18, 20]
    rate = 'train/learning_rate'
    rates = {line['step']: line[rate] for line in lines if rate in line}
    assert rates[15] == pytest.approx(1e-3) and rates[20] == pytest.approx(1e-4)
    # 130 test images in batches of 500 padded: the error is a multiple of 1/130.
    assert whole_run['results']['test/top1_error'] * 130 == pytest.approx(
        round(whole_run['results']['test/top1_error'] * 130)
    )


@pytest.mark.parametrize('cut', [8, 12])
def test_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    whole_run, small, tmp_path, cut
):
    small.mesh.data, small.mesh.tower = 1, 2
    train.train_and_evaluate(small, tmp_path, stop_at_step=cut)
    results = train.train_and_evaluate(small, tmp_path)
    for name in ('val/loss', 'test/loss', 'val/top1_error'):
        assert results[name] == whole_run['results'][name]
    jax.tree.map(
        np.testing.assert_array_equal,
        final_state(tmp_path, small),
        final_state(whole_run['workdir'], small),
    )
    # A log line covers the same five steps, wherever a run was cut and evaluated.
    assert losses_of(tmp_path) == losses_of(whole_run['workdir'])


def test_a_finished_run_compiles_no_step(whole_run, small, monkeypatch):
    small.mesh.data, small.mesh.tower = 1, 2

    def lower_train_step(*_):
        raise AssertionError('compiled for nothing')

    monkeypatch.setattr(step, 'lower_train_step', lower_train_step)
    results = train.train_and_evaluate(small, whole_run['workdir'])
    assert results == whole_run['results']


def test_a_run_that_was_stopped_is_among_the_hparams(small, tmp_path):
    from tensorboard.backend.event_processing import event_accumulator

    train.train_and_evaluate(small, tmp_path, stop_at_step=2)
    events = event_accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert '_hparams_/session_start_info' in events.summary_metadata


@pytest.mark.parametrize('shape', [(1, 1), (2, 1), (2, 2)])
def test_every_mesh_trains_the_same(whole_run, small, tmp_path, shape):
    small.mesh.data, small.mesh.tower = shape
    train.train_and_evaluate(small, tmp_path)
    one, other = losses_of(whole_run['workdir']), losses_of(tmp_path)
    assert [step for step, _ in one] == [step for step, _ in other]
    np.testing.assert_allclose(
        [loss for _, loss in one], [loss for _, loss in other], rtol=1e-5
    )


def test_a_run_moves_from_mesh_to_mesh(whole_run, small, tmp_path):
    """Each mesh goes on from the checkpoint of another, and saves for the next."""
    moves = [((1, 1), 4), ((2, 2), 8), ((1, 2), 12), ((4, 1), 16), ((2, 1), None)]
    results = {}
    for (small.mesh.data, small.mesh.tower), stop in moves:
        results = train.train_and_evaluate(small, tmp_path, stop_at_step=stop)
    one, other = losses_of(whole_run['workdir']), losses_of(tmp_path)
    assert [step for step, _ in one] == [step for step, _ in other]
    for name in ('val/loss', 'test/loss'):
        assert results[name] == pytest.approx(whole_run['results'][name], rel=1e-5)
    for name in ('val/top1_error', 'test/top1_error', 'test/top5_error'):
        assert results[name] == whole_run['results'][name]


def test_every_key_is_read_by_a_run(whole_run, small, tmp_path, monkeypatch):
    """Records the reads of a short run; a key that nothing reads is a lie."""
    config = small
    config.train.steps = 1
    config.optimizer.bias_annealed = False
    config.init.workdir, config.init.copy = str(whole_run['workdir']), ('conv1',)
    config.distributed.coordinator = 'host:1'
    config.distributed.num_processes, config.distributed.process_id = 1, 0
    prefixes = {id(config): ''}
    for key, _ in config_lib.flat(config):
        parts = key.split('.')
        for depth in range(1, len(parts)):
            table = functools.reduce(lambda t, part: t[part], parts[:depth], config)
            prefixes[id(table)] = '.'.join(parts[:depth]) + '.'
    read, keys = set(), {key for key, _ in config_lib.flat(config)}
    plain = ConfigDict.__getitem__

    def recording(self, key):
        read.add(prefixes.get(id(self), '?') + str(key))
        return plain(self, key)

    # These look at every key whatever it is for.
    as_json, flat = config_file.to_json(config), dict(config_lib.flat(config))
    monkeypatch.setattr(config_file, 'to_json', lambda config: as_json)
    monkeypatch.setattr(config_lib, 'flat', lambda config: flat.items())
    monkeypatch.setattr(ConfigDict, '__getitem__', recording)
    monkeypatch.setattr(jax.distributed, 'initialize', lambda **settings: None)
    processes.start(config.distributed)
    train.train_and_evaluate(config, tmp_path)
    for name in optimizer.SCHEDULES:  # each reads keys of its own
        config.optimizer.schedule = name
        rate = optimizer.create_learning_rate_schedule(
            config.optimizer, steps_per_epoch=1, total_steps=1
        )
        rate(np.int32(0), optimizer.initial_plateau())
    config.data.encoding, config.data.auto_prepare_gb = 'jpeg', 0.0
    config.data.data_dir = str(tmp_path)
    config.data.source = 'cifar10'
    with pytest.raises(ValueError, match='not prepared'):
        prepare.open_prepared(config.data)
    assert sorted(keys - read) == []


def test_another_config_on_the_same_workdir_is_refused(whole_run, small):
    small.optimizer.learning_rate = 0.5
    with pytest.raises(ValueError, match=r'learning_rate=0.001, and you asked for 0.5'):
        train.train_and_evaluate(small, whole_run['workdir'])


def test_a_workdir_of_version_0_1_is_refused_in_one_line(whole_run, small, tmp_path):
    as_json = json.loads((whole_run['workdir'] / 'config.json').read_text())
    assert as_json.pop('format') == config_file.FORMAT
    (tmp_path / 'config.json').write_text(json.dumps(as_json))
    small.mesh.data, small.mesh.tower = 1, 2
    for use in (lambda: train.train_and_evaluate(small, tmp_path),
                lambda: trained.load(tmp_path)):  # fmt: skip
        with pytest.raises(ValueError, match=r'version.*random numbers') as error:
            use()
        assert '\n' not in str(error.value) and str(tmp_path) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ['config.json']


def test_a_loss_that_is_not_finite_stops_the_run(small, tmp_path):
    small.optimizer.learning_rate = 1e12
    with pytest.raises(SystemExit, match=r'loss of step \d+ is not finite.*gradient'):
        train.train_and_evaluate(small, tmp_path)
    assert not list((tmp_path / 'checkpoints').glob('[0-9]*'))


# From here on in processes of their own, as a user runs it.


def flags_of(config_values: dict, *more: str) -> list[str]:
    return [
        '--config=configs/demo.py',
        *(f'--config.{key}={value}' for key, value in config_values.items()),
        *more,
    ]


def start(*arguments: str, module: str = 'alexnet_jax.main') -> subprocess.Popen:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ('JAX_NUM_CPU_DEVICES', 'XLA_FLAGS')
    }
    return subprocess.Popen(
        [sys.executable, '-u', '-m', module, *arguments],
        cwd=REPOSITORY,
        env=environment | {'JAX_PLATFORMS': 'cpu'},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, module: str = 'alexnet_jax.main') -> tuple[int, str, str]:
    process = start(*arguments, module=module)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_the_command_splits_over_two_devices_and_survives_sigterm(
    small_values, whole_run, tmp_path
):
    arguments = flags_of(small_values, f'--workdir={tmp_path}')
    process = start(*arguments)
    assert process.stdout
    for line in process.stdout:
        if line.split()[:1] == ['5']:
            process.send_signal(signal.SIGTERM)
            break
    rest, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, errors
    stopped = int(re.search(r'checkpointed at step (\d+)', rest).group(1))
    assert 5 <= stopped < 20

    status, out, err = run(*arguments)
    assert status == 0, err
    assert f'going on from step {stopped}' in out
    assert 'mesh: data=1 × tower=2' in out
    assert str(tmp_path) in out
    too_long = [x for x in out.splitlines() if len(x) > 80 and str(tmp_path) not in x]
    assert not too_long
    assert re.search(r'^step 20, the last: validation: loss', out, re.M)
    assert re.search(r'^best: step \d+ by validation error', out, re.M)
    results = json.loads((tmp_path / 'result.json').read_text())
    assert results['val/loss'] == whole_run['results']['val/loss']
    steps = [step for step, _ in losses_of(tmp_path)]
    assert steps == sorted(steps)


BAD_COMMANDS = [
    (['--config.train.bacth_size=3'], ['bacth_size', 'batch_size']),
    (['--config.train.batch_size=many'], ['batch_size', 'many']),
    (['--config.train.batch_size=31'], ['31']),
    (['train.epochs=3'], ["'train.epochs=3'", '--config.key=value']),
    (['--workdri=x'], ['workdri']),
    (['--workdir=/proc/nowhere'], ['/proc']),
    (['--config.data.source=cifar1'], ['cifar1', 'cifar10']),
    (['--config.data.source=folder', '--config.data.data_dir=/nowhere'], ['/nowhere']),
    (
        ['--config.data.source=cifar10', '--config.data.data_dir={tmp}'],
        ['{tmp}', 'download'],
    ),
    (['--config.data.train_split=training'], ['training', 'validation']),
    (['--config.model.width=1', '--config.model.towers=7'], ['conv1', 'towers=7']),
    (['--config=configs/nothing.py'], ['nothing.py']),
]  # fmt: skip


@pytest.mark.parametrize(('arguments', 'words'), BAD_COMMANDS)
def test_a_users_mistake_is_one_line(small_values, tmp_path, arguments, words):
    if arguments == ['--config.train.batch_size=31']:
        arguments = [*arguments, '--config.mesh.data=2']
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    workdir = tmp_path / 'run'
    status, _, err = run(*flags_of(small_values, f'--workdir={workdir}', *filled))
    assert status != 0
    assert 'Traceback' not in err
    last = [line for line in err.splitlines() if line.strip()][-6:]
    for word in words:
        assert word.format(tmp=tmp_path) in '\n'.join(last), err
    assert not workdir.exists()


def test_sweep_trains_skips_and_tabulates(small_values, tmp_path):
    values = small_values | {'train.steps': 2}
    base = [
        '--base=configs/demo.py',
        *(f'--base.{key}={value}' for key, value in values.items()),
    ]
    sweep = ['base', 'no_lrn', *base, '--seeds=1', f'--workdir={tmp_path}']
    status, out, err = run(*sweep, module='experiments.sweep')
    assert status == 0, out + err
    assert '| no_lrn | 1 |' in (tmp_path / 'table.md').read_text()
    changed = json.loads((tmp_path / 'no_lrn-s0' / 'config.json').read_text())
    assert changed['model']['conv1']['lrn'] is False
    before = (tmp_path / 'base-s0' / 'result.json').stat().st_mtime_ns
    table = (tmp_path / 'table.md').read_bytes()
    started = time.monotonic()
    status, out, err = run(*sweep, module='experiments.sweep')
    assert status == 0
    assert out.count('finished before') == 2
    assert time.monotonic() - started < 60
    assert (tmp_path / 'base-s0' / 'result.json').stat().st_mtime_ns == before
    assert (tmp_path / 'table.md').read_bytes() == table


def test_sweep_refuses_before_it_trains_and_goes_on_after_a_failure(
    prepared_dir, tmp_path
):
    status, _, err = run(
        'base', 'no_lrm', '--base=configs/demo.py', f'--workdir={tmp_path}',
        module='experiments.sweep',
    )  # fmt: skip
    assert status != 0
    assert 'no_lrm' in err
    assert 'Traceback' not in err
    assert not list(tmp_path.iterdir())
