"""Ctrl-C and SIGTERM: one line and the right status, whatever a command is doing."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from experiments import signalled
from tests.conftest import as_flags, end, start

# What a command does where a signal finds it. Each prints `here` when it is there.
PHASES = {
    # An exception of a handler would be lost in the first, and another in the second.
    'destructor': """
class Slow:
    def __del__(self):
        print('here', flush=True)
        time.sleep(30)
Slow()
time.sleep(30)
""",
    'import': """
import builtins
def slow_import(*arguments):
    print('here', flush=True)
    try:
        time.sleep(30)
    except BaseException:
        raise ImportError('numpy could not be imported')
builtins.__import__ = slow_import
import numpy
""",
    # As where XLA compiles in the main thread, which runs no handlers meanwhile.
    'library': """
import hashlib
print('here', flush=True)
hashlib.pbkdf2_hmac('sha256', b'', b'', 100_000_000)
""",
    'workers': """
import multiprocessing
if __name__ == '__main__':
    with signals.blocked():
        forking = multiprocessing.get_context('fork')
        worker = forking.Process(target=time.sleep, args=(30,))
        worker.start()
    print(worker.pid, file=sys.stderr)
    print('here', flush=True)
    worker.join()
""",
    'loop': """
with signals.caught_signals() as caught:
    print('here', flush=True)
    while not caught:
        time.sleep(0.01)
    print('saved', flush=True)
    raise SystemExit(128 + caught[0])
""",
    'saving': """
with signals.caught_signals(lambda: print('left', flush=True)) as caught:
    print('here', flush=True)
    while not caught:
        time.sleep(0.01)
    print('here', flush=True)
    time.sleep(30)
""",
}
BEGIN = """
import sys, time
from alexnet_jax.system import signals
signals.listen(goes_on=True)
"""
SAID = 'signal {}{}: stopped; the same command goes on from what is saved\n'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('phase', PHASES)
def test_a_signal_ends_a_command_wherever_it_is(phase, number):
    process = start('-c', BEGIN + PHASES[phase])
    assert process.stdout and process.stdout.readline() == 'here\n'
    process.send_signal(number)
    if phase == 'saving':  # which the first one asked for
        assert process.stdout.readline() == 'here\n'
        process.send_signal(number)
    sent = time.monotonic()
    ended = end(process, timeout=20)
    assert time.monotonic() - sent < 10  # at once, were the machine not loaded
    assert ended.status == 128 + number, ended
    if phase == 'loop':
        assert (ended.out, ended.err) == ('saved\n', '')
    elif phase == 'workers':
        worker, said = ended.err.split('\n', 1)
        assert said == SAID.format(int(number), '')
        deadline = time.monotonic() + 10  # the kernel ends it soon after
        while _is_alive(int(worker)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    else:
        again = ' again' if phase == 'saving' else ''
        assert ended.err == SAID.format(int(number), again)
        assert ended.out == ('left\n' if again else '')


def _is_alive(pid: int) -> bool:
    """A zombie that nobody has waited for is dead."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(') ')[2][0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False


STARTS_AGAIN = """
import os, sys, time
from alexnet_jax.system import signals
if sys.argv[1:]:
    signals.listen()
    time.sleep(30)
with signals.blocked():
    print('here', flush=True)
    os.read(0, 1)  # the signal comes meanwhile
    os.execv(sys.executable, [*sys.orig_argv, 'again'])
"""


def test_a_signal_that_comes_while_python_starts_is_not_lost():
    """It is held back while a command starts itself once more, for huge pages."""
    process = start('-c', STARTS_AGAIN, stdin=subprocess.PIPE)
    assert process.stdin and process.stdout and process.stdout.readline() == 'here\n'
    process.send_signal(signal.SIGINT)
    process.stdin.write('\n')
    ended = end(process, timeout=20)
    assert (ended.status, ended.err) == (130, 'signal 2: stopped\n')


@pytest.mark.long
@pytest.mark.parametrize('times', [1, 2])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('place', signalled.PLACES)
def test_a_run_ends_in_every_phase(small_values, tmp_path, place, number, times):
    values = small_values | {'train.log_every_steps': 1}
    values |= {'train.eval_every_epochs': 0.012}
    if place == 'preparation':
        values |= {'data.data_dir': tmp_path / 'a', 'data.prepared_dir': tmp_path / 'b'}
    command = ('-m', 'alexnet_jax.main', '--config=demo', *as_flags(values))
    process = start(*command, f'--workdir={tmp_path / "run"}')
    signalled.await_place(process, place)
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.05)
    ended = end(process)
    assert ended.status == 128 + number, ended
    lines = [x for x in (ended.out + ended.err).splitlines() if 'signal ' in x]
    # A second signal has a line where the first was answered before it came.
    assert 1 <= len(lines) <= times, ended
    assert 'Traceback' not in ended.err
