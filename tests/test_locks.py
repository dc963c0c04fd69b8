"""One run, one owner; preparations in turn."""

import json
import multiprocessing
import os
import signal
import socket
import threading
import time

import pytest

from alexnet_jax import train
from alexnet_jax.data import prepare, tfds_sets
from alexnet_jax.run import workdir as workdir_lib
from alexnet_jax.system import locks
from tests.conftest import as_flags, end, make_small, run_here, start

HOLD = """
import sys, time
from pathlib import Path
from alexnet_jax.system import locks
with locks.held(Path(sys.argv[1])):
    print('held', flush=True)
    time.sleep(900)
"""


def hold(path):
    process = start('-c', HOLD, path)
    assert process.stdout and process.stdout.readline() == 'held\n'
    return process


def test_a_second_start_says_who_runs_and_ends(small_values, tmp_path):
    owner = hold(tmp_path / 'owner.json')
    (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n')
    flags = as_flags(small_values)
    ended = run_here(
        'alexnet_jax.main', '--config=demo', *flags, f'--workdir={tmp_path}'
    )
    host = socket.gethostname()
    assert f'in use: process {owner.pid} on {host}, since 20' in ended.error
    assert {path.name for path in tmp_path.iterdir()} == {'metrics.jsonl', 'owner.json'}
    record = json.loads((tmp_path / 'owner.json').read_text())
    assert record['process'] == owner.pid and 'time.sleep' in record['command']

    # What a killed process held is free at once, though its file is there.
    owner.kill()
    owner.communicate()
    assert (tmp_path / 'owner.json').exists()
    with workdir_lib.owned(tmp_path):
        record = json.loads((tmp_path / 'owner.json').read_text())
        assert record['process'] == os.getpid()
    assert not (tmp_path / 'owner.json').exists()


def test_a_refused_start_leaves_nothing(small_values, tmp_path):
    config = make_small(small_values | {'model.num_classes': 3})
    with pytest.raises(ValueError, match='num_classes=3'):
        train.train_and_evaluate(config, tmp_path / 'new')
    assert list(tmp_path.iterdir()) == []


def test_waiting_says_so_in_one_line(tmp_path, capsys):
    path = tmp_path / '.lock'
    order = []

    def second():
        with locks.held(path, waiting='to prepare it'):
            order.append('second')

    with locks.held(path):
        waiter = threading.Thread(target=second)
        waiter.start()
        deadline = time.monotonic() + 20
        said = ''
        while not said and time.monotonic() < deadline:
            said += capsys.readouterr().err
            time.sleep(0.01)
        order.append('first')
    waiter.join(20)
    assert order == ['first', 'second']
    assert said.startswith(f'waiting for process {os.getpid()} on ')
    assert said.endswith(' to prepare it\n') and said.count('\n') == 1
    assert list(tmp_path.iterdir()) == []


def _count(path, counter, turns):
    """Each turn reads, waits and writes: two at once would lose one."""
    for _ in range(turns):
        with locks.held(path, waiting='for its turn'):
            value = int(counter.read_text())
            time.sleep(0.001)
            counter.write_text(str(value + 1))


def test_never_two_at_once_though_the_file_comes_and_goes(tmp_path):
    counter = tmp_path / 'counter'
    counter.write_text('0')
    context = multiprocessing.get_context('spawn')
    workers = [
        context.Process(target=_count, args=(tmp_path / 'lock', counter, 50))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(600)
    assert [worker.exitcode for worker in workers] == [0] * 3
    assert counter.read_text() == '150'


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(37, 'No locks available')

    monkeypatch.setattr(locks.fcntl, 'flock', flock)
    with locks.held(tmp_path / 'lock'):
        pass
    assert 'without locks' in capsys.readouterr().err


def test_rendering_waits_for_its_turn(small_values, tmp_path, monkeypatch):
    """TFDS has no lock: of two at once, one took the other's files away."""
    config = make_small(small_values).data
    config.data_dir = config.prepared_dir = str(tmp_path)
    held = []

    def download_and_prepare(builder, name, root, manual_dir):
        with pytest.raises(locks.InUseError, match=f'process {os.getpid()} on'):
            locks.held(root / '.rendered_shapes.lock').__enter__()
        held.append(name)
        raise KeyboardInterrupt  # it would take seconds

    monkeypatch.setattr(tfds_sets, '_download_and_prepare', download_and_prepare)
    with pytest.raises(KeyboardInterrupt):
        prepare.open_prepared(config)
    assert held == ['rendered_shapes']


def test_a_path_that_checkpoints_cannot_be_restored_from_is_refused(
    small_values, tmp_path
):
    flags = as_flags(small_values)
    for name, found in (('lr[0.1]', '['), ('a\\b', '\\'), ('a*', '*')):
        workdir = tmp_path / name
        ended = run_here(
            'alexnet_jax.main', '--config=demo', *flags, f'--workdir={workdir}'
        )
        assert str(workdir) in ended.error and f"'{found}" in ended.error
    ended = run_here('alexnet_jax.main', '--config=demo', *flags, '--workdir=gs:/b/run')
    assert 'URLs are not written to' in ended.error
    assert list(tmp_path.iterdir()) == []


def test_a_dead_owner_is_not_waited_for(tmp_path):
    owner = hold(tmp_path / 'lock')
    owner.send_signal(signal.SIGSTOP)  # alive, if it does nothing
    with pytest.raises(locks.InUseError), locks.held(tmp_path / 'lock'):
        pass
    owner.kill()
    end(owner)
    with locks.held(tmp_path / 'lock'):
        pass
