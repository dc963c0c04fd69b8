"""Losses that are not finite, and runs that learn nothing: what is said and done."""

import json
import re

import jax
import numpy as np
import pytest

import alexnet_jax
from alexnet_jax import config as config_lib
from alexnet_jax import replay, train
from alexnet_jax.data import pipeline
from alexnet_jax.run import checkpoint_folder, health
from tests.conftest import load, make_small, network_of, read_metrics

# A batch whose colours no float32 can hold comes two steps after a checkpoint.
BAD_STEP = 8


@pytest.fixture(scope='module')
def values(small_values):
    return small_values | {'mesh.data': 1, 'mesh.tower': 2, 'data.test_split': ''}


@pytest.fixture
def bad_batch(monkeypatch):
    """The data have it at each attempt, until `mend` is called."""
    plain, bad = pipeline.train_batches, [True]

    def train_batches(*args, first_step, **options):
        batches = plain(*args, first_step=first_step, **options)
        for now, batch in enumerate(batches, first_step + 1):
            if now == BAD_STEP and bad[0]:
                shift = np.full_like(batch['colour_shift'], np.inf)
                batch = batch | {'colour_shift': shift}
            yield batch

    monkeypatch.setattr(pipeline, 'train_batches', train_batches)
    return bad.clear, lambda: bad.append(False)


def test_it_leaves_a_dump_from_which_the_step_runs_again(values, bad_batch, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        train.train_and_evaluate(make_small(values), tmp_path)
    line = str(stopped.value)
    assert re.match(r'error: the loss of step 8 is not finite \(norms there: ', line)
    assert '\n' not in line and 'checkpoint of step 6' in line
    folder = tmp_path / 'nonfinite' / '8'
    assert f'main --replay={folder} ' in line
    assert checkpoint_folder.saved_steps(tmp_path, 'checkpoints') == [6]
    assert max(line['step'] for line in read_metrics(tmp_path)) == 6

    text = replay.replay(replay.read(folder))
    assert text.startswith('step 8 again: loss nan, learning rate 0.001')
    (row,) = [x.split() for x in text.splitlines() if x.startswith('conv1/kernel')]
    before, after = row[1], row[-3:]
    assert np.isfinite(float(before)) and after == ['900', 'of', '900']
    assert checkpoint_folder.saved_steps(folder, 'checkpoints') == [6, 7]
    # The state before the step is there now: no step but this one is made.
    assert replay.replay(replay.read(folder)) == text
    # The run itself stands where it stood.
    assert checkpoint_folder.saved_steps(tmp_path, 'checkpoints') == [6]
    with pytest.raises(ValueError, match='is no dump'):
        replay.read(tmp_path)


def test_the_first_step_of_a_fine_tuned_run_starts_from_the_other_runs_layers(
    values, bad_batch, whole_run, tmp_path, monkeypatch
):
    monkeypatch.setitem(globals(), 'BAD_STEP', 1)
    # Another seed, or conv1 would start as the other run's did.
    layers = {'init.workdir': str(whole_run['workdir']), 'init.copy': ('conv1',),
              'seed': 1}  # fmt: skip
    with pytest.raises(SystemExit):
        train.train_and_evaluate(make_small(values | layers), tmp_path)
    text = replay.replay(replay.read(tmp_path / 'nonfinite' / '1'))
    (row,) = [x.split() for x in text.splitlines() if x.startswith('conv1/kernel')]
    kernel = alexnet_jax.load(whole_run['workdir']).params['conv1']['kernel']
    assert row[1] == f'{np.abs(kernel).max():.4g}'


def test_a_replay_that_fails_sooner_than_the_run_is_one_line(
    values, bad_batch, tmp_path, monkeypatch
):
    with pytest.raises(SystemExit):
        train.train_and_evaluate(make_small(values), tmp_path)
    monkeypatch.setitem(globals(), 'BAD_STEP', 7)
    with pytest.raises(ValueError, match=r'step 7 .* sooner than in the run.* step 8'):
        replay.replay(replay.read(tmp_path / 'nonfinite' / '8'))


@pytest.mark.long
def test_it_goes_back_with_a_smaller_rate_as_often_as_it_may(
    values, bad_batch, tmp_path, capsys
):
    config = make_small(values | {'train.nonfinite.retries': 2, 'train.steps': 12})
    with pytest.raises(SystemExit, match='after 2 cuts of the rate; nothing of it'):
        train.train_and_evaluate(config, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    said = [line for line in lines if 'going back' in line]
    assert len(said) == 2 and said[1].endswith('0.5 of the rate (2 of 2)')
    assert 'going back to the checkpoint of step 6' in said[0]
    rates = [line.split()[-2] for line in lines if line.startswith('conv1/kernel')]
    assert rates == ['0.001', '0.0005', '0.00025']
    starts = json.loads((tmp_path / 'provenance.json').read_text())['starts']
    assert [start['rate_cuts'] for start in starts] == [0, 1, 2]


@pytest.mark.long
def test_the_smaller_rate_stays_with_the_run(values, bad_batch, tmp_path):
    config = make_small(values | {'train.nonfinite.retries': 1, 'train.steps': 14})
    config.optimizer.schedule = 'constant'
    plain, seen = pipeline.train_batches, []

    def once(*args, **options):  # the second attempt finds the data whole
        seen.append(options['first_step'])
        if len(seen) == 2:
            bad_batch[0]()
            bad_batch[1]()
        return plain(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, 'train_batches', once)
        train.train_and_evaluate(config, tmp_path, stop_at_step=13)
    assert seen == [0, 6]
    train.train_and_evaluate(config, tmp_path)  # a new process would, too
    rates = {
        line['step']: line['train/learning_rate']
        for line in read_metrics(tmp_path)
        if 'train/learning_rate' in line
    }
    assert rates == pytest.approx({5: 1e-3, 10: 5e-4, 14: 5e-4})
    # The dump has the attempt that failed.
    assert replay.read(tmp_path / 'nonfinite' / '8').rate_cuts == 0


def watch(name='demo', **warn):
    config = load(name)
    config.train.warn.update(warn)
    network = network_of(config)
    velocity = {
        layer.name: {'bias': jax.numpy.full(3, 1e-6)} for layer in network.layers
    }
    return health.Watch(config, network, 10, steps_per_schedule_epoch=10.0), velocity


def check(watched, velocity, now, loss):
    watched.check(now, {'train/loss': loss}, ({'trace': velocity},))


def test_a_flat_loss_is_said_once(capsys):
    watched, velocity = watch(flat_loss_steps=300)
    for now in range(100, 2000, 100):  # left at 300 to 400, flat from 500 on
        loss = 2.0 if 300 <= now <= 400 else 2.3026
        check(watched, velocity, now, loss)
        said = capsys.readouterr().err
        assert bool(said) == (now == 800), now
        if said:
            assert said.startswith('warning: the loss has been at ln(classes) = 2.303')
            assert 'fidelity.md' in said and said.count('\n') == 1
            assert '--config.train.warn.flat_loss_steps=0' in said


def test_dead_layers_are_said_once(capsys):
    watched, velocity = watch()
    check(watched, velocity, 50, 1.0)
    assert not capsys.readouterr().err
    for name in ('conv1', 'conv2'):
        velocity[name]['bias'] = jax.numpy.array([0.0, 1e-21, -1e-30])
    for now in (100, 150):
        check(watched, velocity, now, 1.0)
    said = capsys.readouterr().err
    assert said.startswith('warning: every unit of conv2 is dead') and 'conv1' in said
    assert said.count('\n') == 1


def test_a_layer_that_is_frozen_is_not_dead(capsys):
    watched, velocity = watch()
    watched._config.optimizer.layer_rates = (('conv1', 0.0, 0.0),)
    velocity['conv1']['bias'] = jax.numpy.zeros(3)
    check(watched, velocity, 50, 1.0)
    assert not capsys.readouterr().err


def test_a_layer_that_moves_from_here_on_is_not_dead_yet(capsys):
    watched, velocity = watch()
    velocity['conv1']['bias'] = jax.numpy.zeros(3)
    for now, warns in ((20, False), (25, True)):  # epochs 1.9 and 2.4 of the schedule
        watched._config.optimizer.layer_rates = (
            ('conv1', 0.0, 0.0),
            ('conv1', 2.0, 0.2),
        )
        check(watched, velocity, now, 1.0)
        assert bool(capsys.readouterr().err) == warns


@pytest.mark.parametrize('kind', ['grey', 'same', 'photographs'])
def test_images_without_variance_are_said(capsys, kind):
    watched, _ = watch()
    images = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), np.uint8)
    if kind == 'same':
        images[:] = images[:1]
    elif kind == 'grey':
        images[:] = 7
    watched.check_inputs({'image': images})
    said = capsys.readouterr().err
    assert bool(said) == (kind != 'photographs')
    watched, _ = watch(flat_inputs=False)
    watched.check_inputs({'image': images})
    assert not capsys.readouterr().err


def test_a_layer_that_a_stretched_schedule_freezes_is_not_dead(
    values, tmp_path, capsys
):
    # The run's 0.08 epochs are 0.04 of the schedule: conv1 moves from step 15 on; by
    # the run's own epochs it would from step 8 on.
    stretched = {
        'train.schedule_epochs': 0.04,
        'train.log_every_steps': 1,
        'optimizer.layer_rates': (('conv1', 0.0, 0.0), ('conv1', 0.03, 1.0)),
    }
    train.train_and_evaluate(make_small(values | stretched), tmp_path)
    assert 'is dead' not in capsys.readouterr().err


def test_a_dead_net_is_found_in_a_run(values, tmp_path, capsys):
    config = make_small(values | {'train.steps': 5, 'model.conv3.init_bias': -1e6})
    train.train_and_evaluate(config, tmp_path)
    said = capsys.readouterr().err
    # Of zeros the layers above make zeros, their biases being 0.
    assert said.count('warning: every unit of fc7 is dead') == 1
    assert 'conv1, conv2, conv3' in said


def test_the_keys_are_checked():
    config = load('demo')
    config.train.nonfinite.factor = 1.0
    with pytest.raises(ValueError, match=r'config\.train\.nonfinite\.factor=1\.0'):
        config_lib.validate(config)
