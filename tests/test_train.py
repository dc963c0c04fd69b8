"""Whole runs of a small net: what a run leaves behind, and what it survives."""

import functools
import json
import re
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import mesh, optimizer, step, train, train_state
from alexnet_jax.data import prepare
from alexnet_jax.run import checkpoint, config_file, trained
from alexnet_jax.system import processes
from tests.conftest import as_flags, end, network_of, read_metrics, run, start


def losses_of(workdir: Path) -> list[tuple[int, float]]:
    return [
        (line['step'], line[name])
        for line in read_metrics(workdir)
        for name in ('train/loss', 'val/loss', 'test/loss')
        if name in line
    ]


def final_state(workdir: Path, config):
    network = network_of(config)
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
    lines = read_metrics(workdir)
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

    small.mesh.data, small.mesh.tower = 1, 2
    train.train_and_evaluate(small, tmp_path, stop_at_step=2)
    events = event_accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert '_hparams_/session_start_info' in events.summary_metadata


@pytest.mark.parametrize(
    'shape',
    [
        (2, 2),
        # Of these the fast tests make four steps each (`test_a_run_moves …`).
        *(pytest.param(shape, marks=pytest.mark.long) for shape in [(1, 1), (2, 1)]),
    ],
)
def test_every_mesh_trains_the_same(whole_run, small, tmp_path, shape):
    small.mesh.data, small.mesh.tower = shape
    train.train_and_evaluate(small, tmp_path)
    assert_same_losses(tmp_path, whole_run['workdir'])


def assert_same_losses(one: Path, other: Path) -> None:
    """At the same steps, but for what another mesh's rounding makes of them."""
    one, other = losses_of(one), losses_of(other)
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
    assert_same_losses(tmp_path, whole_run['workdir'])
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


def test_the_command_splits_over_two_devices_and_survives_sigterm(
    small_values, whole_run, tmp_path
):
    command = ('-m', 'alexnet_jax.main', '--config=configs/demo.py')
    command += (*as_flags(small_values), f'--workdir={tmp_path}')
    process = start(*command)
    assert process.stdout
    for line in process.stdout:
        if line.split()[:1] == ['5']:
            process.send_signal(signal.SIGTERM)
            break
    stopped = end(process)
    assert stopped.status == 128 + signal.SIGTERM, stopped
    stopped = int(re.search(r'checkpointed at step (\d+)', stopped.out).group(1))
    assert 5 <= stopped < 20

    out = run(*command).out
    assert f'going on from step {stopped}' in out
    assert 'mesh: data=1 × tower=2' in out
    assert str(tmp_path) in out
    data_dir = small_values['data.data_dir']
    assert re.search(
        rf'^data: rendered_shapes in {data_dir}, fingerprint [0-9a-f]{{16}}$', out, re.M
    )
    assert re.search(r'^memory: [\d.]+ MB of state, up to ', out, re.M)
    too_long = [
        x
        for x in out.splitlines()
        if len(x) > 80 and str(tmp_path) not in x and str(data_dir) not in x
    ]
    assert not too_long
    assert re.search(r'^step 20, the last: validation: loss', out, re.M)
    assert re.search(r'^best: step \d+ by validation error', out, re.M)
    results = json.loads((tmp_path / 'result.json').read_text())
    assert results['val/loss'] == whole_run['results']['val/loss']
    steps = [step for step, _ in losses_of(tmp_path)]
    assert steps == sorted(steps)
