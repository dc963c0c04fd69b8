"""Two processes, one device each: the run of one process, and what it survives."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alexnet_jax.configs import paper
from alexnet_jax.system import processes
from tests.conftest import (
    ONE_DEVICE,
    Ended,
    as_flags,
    end,
    free_port,
    read_metrics,
    run,
    start,
)

SECONDS = 30  # the time-out of the runs


@contextlib.contextmanager
def pair(values: dict, workdir: Path, **mesh: int) -> Iterator[list[subprocess.Popen]]:
    """Starts both processes of a run; whatever is left of them is killed."""
    values = values | {
        'distributed.coordinator': f'127.0.0.1:{free_port()}',
        'distributed.num_processes': 2,
        'distributed.timeout_seconds': SECONDS,
        # The first comes long before the end, which a signal must not miss.
        'train.checkpoint_every_steps': 2,
        **{f'mesh.{axis}': size for axis, size in mesh.items()},
    }
    command = ('-m', 'alexnet_jax.main', '--config=demo', *as_flags(values))
    started = [
        start(
            *(*command, f'--workdir={workdir}'),
            f'--config.distributed.process_id={i}',
            **ONE_DEVICE,
        )
        for i in range(2)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def wait_for_checkpoint(workdir: Path) -> None:
    deadline = time.monotonic() + 300
    # One that is being written has a longer name.
    while not any(p.name.isdecimal() for p in (workdir / 'checkpoints').glob('*')):
        assert time.monotonic() < deadline, 'no checkpoint was written'
        time.sleep(0.05)


def assert_same_results(workdir: Path, whole_run: dict) -> None:
    found = json.loads((workdir / 'result.json').read_text())
    for name in ('train/loss', 'val/loss', 'test/loss'):
        assert found[name] == pytest.approx(whole_run['results'][name], rel=1e-5)
    for name in ('val/top1_error', 'test/top1_error'):
        assert found[name] == whole_run['results'][name]


@pytest.mark.long
def test_a_tower_in_each_process_and_a_signal_to_one_stops_both(
    small_values, whole_run, tmp_path
):
    with pair(small_values, tmp_path, data=1, tower=2) as started:
        wait_for_checkpoint(tmp_path)
        started[1].send_signal(signal.SIGTERM)
        ends = list(map(end, started))
    assert [ended.status for ended in ends] == [143, 143], ends
    assert all(line['step'] < 20 for line in read_metrics(tmp_path))
    with pair(small_values, tmp_path, data=1, tower=2) as started:
        ends = list(map(end, started))
    assert [ended.status for ended in ends] == [0, 0], ends
    assert_same_results(tmp_path, whole_run)
    # Process 0 alone prints and logs, both write their part of the checkpoint.
    assert 'going on from step' in ends[0].out
    assert ends[1].out.count('\n') <= 4 and 'step ' not in ends[1].out  # gloo's lines
    for index in (0, 1):
        part = tmp_path / 'checkpoints' / '20' / 'state' / f'ocdbt.process_{index}'
        assert sum(f.stat().st_size for f in part.rglob('*') if f.is_file()) > 100_000
    assert len(list(tmp_path.glob('events.out.tfevents.*'))) == 2  # one per start


@pytest.mark.long
def test_half_the_batch_in_each_process_and_a_killed_one_stops_the_other(
    small_values, whole_run, tmp_path
):
    with pair(small_values, tmp_path, data=2, tower=1) as started:
        wait_for_checkpoint(tmp_path)
        started[1].kill()
        # JAX by itself would wait for 100 s.
        _, err = started[0].communicate(timeout=SECONDS + 60)
        assert started[0].returncode not in (0, None)
    # From a collective, in one line; or, where it waited for the other to save a
    # checkpoint, from jaxlib at the time-out.
    assert 'lost another one' in err or 'JAX distributed service detected' in err
    with pair(small_values, tmp_path, data=2, tower=1) as started:
        ends = list(map(end, started))
    assert [ended.status for ended in ends] == [0, 0], ends
    assert 'going on from step' in ends[0].out
    assert_same_results(tmp_path, whole_run)


JOIN = """
import sys
from pathlib import Path
import jax, numpy as np
from alexnet_jax.configs import demo
from alexnet_jax.system import processes

config = demo.get_config()
config.distributed.coordinator = sys.argv[1]
config.distributed.num_processes, config.distributed.process_id = 2, int(sys.argv[2])
processes.start(config.distributed)
"""


def run_two(code: str, *words: object) -> list[Ended]:
    """Runs code in two processes that have joined, to the end of both."""
    address = f'127.0.0.1:{free_port()}'
    started = [
        start('-c', JOIN + code, address, i, *words, **ONE_DEVICE) for i in range(2)
    ]
    try:
        return list(map(end, started))
    finally:
        for process in started:
            process.kill()


SHARES = """
from alexnet_jax import train_state
from alexnet_jax import mesh, model, optimizer, step

network = model.network_from_config(config.model, 28, 10)
tx = optimizer.create_optimizer(config.optimizer, steps_per_epoch=1)
for data, tower in ((1, 2), (2, 1)):
    grid = mesh.make_mesh(data=data, tower=tower, towers=2, batch_size=32)
    rows = mesh.local_rows(grid, 32)
    state = train_state.create_train_state(network, tx, grid, seed=0)
    held = sum(s.data.size for leaf in jax.tree.leaves(state.params)
               for s in leaf.addressable_shards)
    print('share', rows.start, rows.stop, held, file=sys.stderr)
agreed = processes.agree(jax.process_index() == 0), processes.agree(False)
print('agreed', *agreed, file=sys.stderr)
processes.check_same([1], 'never raised')
try:
    processes.check_same(jax.process_index(), 'not the same')
except ValueError as error:
    print('refused', error, file=sys.stderr)
try:
    with processes.first_before_the_others():
        print('went through', file=sys.stderr)
        raise OSError('no such set')
except (OSError, ValueError) as error:
    print(type(error).__name__, error, file=sys.stderr)
try:
    with processes.first_before_the_others():
        print('late went through', file=sys.stderr)
        if jax.process_index():
            raise OSError('no such set')
except (OSError, ValueError) as error:
    print(type(error).__name__, error, file=sys.stderr)
"""


def test_each_process_holds_its_share_and_all_agree():
    ends = run_two(SHARES)
    lines = [[line.split() for line in ended.err.splitlines()] for ended in ends]
    shares = [
        [tuple(map(int, words[1:])) for words in said if words[:1] == ['share']]
        for said in lines
    ]
    half, whole = (255_562 + 10) // 2, 255_562  # fc8's bias is on both towers
    assert shares == [
        [(0, 32, half), (0, 16, whole)],
        [(0, 32, half), (16, 32, whole)],
    ], ends
    assert all(['agreed', 'True', 'False'] in said for said in lines)
    # What differs, and what process 0 alone finds out, ends all of them.
    assert all(['refused', 'not', 'the', 'same'] in said for said in lines)
    said = [ended.err.splitlines() for ended in ends]
    assert 'went through' in said[0] and 'OSError no such set' in said[0]
    elsewhere = 'ValueError another process ends here; its own line says why'
    assert 'went through' not in said[1] and elsewhere in said[1]
    assert 'late went through' in said[1] and elsewhere in said[0]


NUMBERS = """
from jax.sharding import NamedSharding, PartitionSpec
from alexnet_jax.run.checkpoint import Checkpoints

mesh = jax.sharding.Mesh(np.array(jax.devices()), ('data',))
numbers = jax.make_array_from_callback(
    (65_536,),
    NamedSharding(mesh, PartitionSpec('data')),
    lambda index: np.arange(65_536, dtype=np.float32)[index],
)
"""
SAVES = """
with Checkpoints(sys.argv[3], keep=2) as checkpoints:
    for step in range(1, 11):
        assert checkpoints.save(step, {'a': numbers}, {})
        assert checkpoints.save_best(step, {'a': numbers}, {}, error=1 / step)
"""


def test_the_latest_and_the_best_are_saved_one_after_the_other(tmp_path):
    # Orbax, asked for both at once, has one process wait where the other is not.
    ends = run_two(NUMBERS + SAVES, tmp_path)
    assert [ended.status for ended in ends] == [0, 0], ends
    saved = {kind: sorted(int(p.name) for p in (tmp_path / kind).iterdir())
             for kind in ('checkpoints', 'best')}  # fmt: skip
    assert saved == {'checkpoints': [9, 10], 'best': [10]}


DAMAGE = """
with Checkpoints(sys.argv[3], keep=2) as checkpoints:
    for step in (1, 2):
        checkpoints.save(step, {'a': numbers}, {'step': step})
    checkpoints.wait()
    if jax.process_index() == 0:  # of what process 1 alone reads
        for file in Path(sys.argv[3]).glob('checkpoints/2/state/*process_1/d/*'):
            file.write_bytes(file.read_bytes()[:1000])
    processes.agree(False)
abstract = jax.ShapeDtypeStruct(
    numbers.shape, numbers.dtype, sharding=numbers.sharding
)
with Checkpoints(sys.argv[3], keep=2) as checkpoints:
    _, meta = checkpoints.restore_latest({'a': abstract})
    print('restored', meta['step'], file=sys.stderr)
try:
    Checkpoints(sys.argv[3] + '/' + ('', 'other')[jax.process_index()])
except ValueError as error:
    print(error, file=sys.stderr)
"""


def test_what_one_process_cannot_read_all_pass_over(tmp_path):
    ends = run_two(NUMBERS + DAMAGE, tmp_path)
    assert [ended.status for ended in ends] == [0, 0], ends
    assert all('restored 1\n' in ended.err for ended in ends), ends
    # And what they do not see alike none goes on from.
    assert all('the processes see different checkpoints' in e.err for e in ends), ends
    assert (tmp_path / 'checkpoints' / '2.damaged').is_dir()


def test_a_coordinator_that_never_answers_ends_in_time():
    started = time.monotonic()
    values = {
        'coordinator': f'127.0.0.1:{free_port()}',
        'num_processes': 2,
        'process_id': 1,
        'timeout_seconds': 3,
    }
    done = run(
        *('-m', 'alexnet_jax.main', '--config=demo'),
        *as_flags(values, 'config.distributed'),
        status=1,
        **ONE_DEVICE,
    )
    assert time.monotonic() - started < 120  # JAX by itself would wait for 300 s
    (line,) = [x for x in done.err.splitlines() if x.startswith('error:')]
    assert 'within 3 s' in line and 'process 1 of 2' in line
    assert 'Traceback' not in done.err


def slurm(node: int, local: int, process: int, tasks: str) -> dict[str, str]:
    """What srun says to one of two tasks."""
    return {
        'SLURM_JOB_ID': '7',
        'SLURM_NTASKS': '2',
        'SLURM_STEP_NODELIST': '127.0.0.1',
        'SLURM_STEP_TASKS_PER_NODE': tasks,
        'SLURM_NODEID': str(node),
        'SLURM_LOCALID': str(local),
        'SLURM_PROCID': str(process),
    }


TASK = """
import sys
import jax
from alexnet_jax.configs import paper
from alexnet_jax.system import processes

config = paper.get_config()
config.distributed.coordinator = 'auto'
config.distributed.timeout_seconds = 60
processes.start(config.distributed)
print(f'{jax.process_index()}/{jax.process_count()}',
      jax.config.values['jax_cuda_visible_devices'], file=sys.stderr)
"""


@pytest.mark.parametrize(
    ('places', 'tasks', 'devices'),
    [
        # (node, number on it); jax alone would give device 0 to both.
        ([(0, 0), (1, 0)], '1(x2)', ['all', 'all']),
        ([(0, 0), (0, 1)], '2', ['0,1,2,3', '4,5,6,7']),
    ],
)
def test_a_task_of_slurm_takes_its_share_of_its_nodes_devices(places, tasks, devices):
    port = str(free_port())
    gpus = {'CUDA_VISIBLE_DEVICES': '0,1,2,3,4,5,6,7', 'SLURM_GPUS_ON_NODE': '8'}
    started = [
        start(
            *('-c', TASK),
            JAX_COORDINATOR_PORT=port,
            **(ONE_DEVICE | gpus | slurm(node, local, i, tasks)),
        )
        for i, (node, local) in enumerate(places)
    ]
    ends = [end(process) for process in started]
    found = [ended.err.strip().splitlines()[-1] for ended in ends]
    assert found == [f'{i}/2 {share}' for i, share in enumerate(devices)], ends
    assert 'process 0 of 2: using 1 of 1 local devices' in ends[0].out  # of the CPU
    assert 'using' not in ends[1].out


ALL, JAXS_CHOICE = [], None


@pytest.mark.parametrize(
    ('variables', 'expected'),
    [
        ({}, JAXS_CHOICE),
        (slurm(0, 0, 0, '1(x2)'), ALL),
        (slurm(1, 0, 1, '2,1') | {'SLURM_GPUS_ON_NODE': '4'}, ALL),
        (slurm(0, 1, 1, '2(x3),1') | {'SLURM_GPUS_ON_NODE': '4'}, [2, 3]),
        (slurm(0, 1, 1, '2') | {'SLURM_GPUS_ON_NODE': '2'}, [1]),
        (slurm(0, 1, 1, '2'), [1]),  # how many there are is not said
        # The launcher shows each task its own alone.
        (
            slurm(0, 1, 1, '2')
            | {'SLURM_GPUS_ON_NODE': '4', 'CUDA_VISIBLE_DEVICES': '2,3'},
            ALL,
        ),
        (slurm(0, 1, 1, '2') | {'CUDA_VISIBLE_DEVICES': '0'}, ALL),
        (
            slurm(0, 1, 1, '2')
            | {'SLURM_GPUS_PER_TASK': '2', 'CUDA_VISIBLE_DEVICES': '0,1'},
            ALL,
        ),
        (slurm(0, 0, 0, '1') | {'JAX_LOCAL_DEVICE_IDS': '3'}, JAXS_CHOICE),
        ({'OMPI_COMM_WORLD_LOCAL_SIZE': '1', 'OMPI_COMM_WORLD_LOCAL_RANK': '0'}, ALL),
    ],
)
def test_which_devices_a_task_takes(variables, expected, monkeypatch):
    for name in list(os.environ):
        if name.startswith(('SLURM', 'OMPI', 'CUDA', 'ROCR', 'JAX_LOCAL')):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes.devices_of_this_task() == expected


def test_the_line_says_how_many_of_how_many(monkeypatch):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.setenv('SLURM_GPUS_ON_NODE', '8')
    assert processes.devices_line(1, 'gpu') == 'using 1 of 8 local devices'
    assert processes.devices_line(2, 'cpu') == 'using 2 of 2 local devices'
    for name, value in slurm(0, 0, 0, '4').items():
        monkeypatch.setenv(name, value)
    assert processes.devices_line(2, 'gpu').endswith('2 of 8 local devices, 4 tasks '
                                                     'on this node')  # fmt: skip


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'num_processes': 2}, ['num_processes=2', 'no coordinator', 'HOST:PORT']),
        ({'process_id': 0}, ['process_id=0', 'no coordinator']),
        (
            {'coordinator': 'auto', 'num_processes': 2, 'process_id': 1},
            ['process_id=1', "coordinator='auto'"],
        ),
        ({'coordinator': 'host'}, ['host:port']),
        ({'coordinator': 'host:1'}, ['process_id=-1', 'num_processes=0']),
        (
            {'coordinator': 'host:1', 'num_processes': 2, 'process_id': 2},
            ['process_id=2', 'num_processes=2'],
        ),
    ],
)
def test_half_a_description_is_named(values, words, monkeypatch):
    monkeypatch.delenv('JAX_COORDINATOR_ADDRESS', raising=False)
    settings = paper.get_config().distributed
    settings.update(values)
    with pytest.raises(ValueError, match='distributed') as error:
        processes.who_am_i(settings)
    assert all(word in str(error.value) for word in words)


def test_the_environment_can_say_it(monkeypatch):
    settings = paper.get_config().distributed
    assert processes.who_am_i(settings)[0] == ''
    monkeypatch.setenv('SLURM_NTASKS', '8')
    settings.coordinator = 'auto'
    assert processes.who_am_i(settings) == ('auto', 8, -1)
    settings.coordinator = ''
    for name, value in (
        ('JAX_COORDINATOR_ADDRESS', 'host:1234'),
        ('JAX_NUM_PROCESSES', '4'),
        ('JAX_PROCESS_ID', '3'),
    ):
        monkeypatch.setenv(name, value)
    assert processes.who_am_i(settings) == ('host:1234', 4, 3)


def test_one_process_agrees_with_itself():
    assert processes.agree(True) and not processes.agree(False)
    assert processes.is_first()
    with processes.first_before_the_others(), processes.lost_peers():
        pass
    with pytest.raises(ValueError, match='UNAVAILABLE'), processes.lost_peers():
        raise ValueError('UNAVAILABLE: gloo')


@pytest.mark.parametrize(
    ('kind', 'text', 'lost'),
    [
        (
            RuntimeError,
            'UNKNOWN: Gloo all-reduce failed: Connection closed by peer',
            True,
        ),
        (ValueError, 'INTERNAL: Gloo AllGather failed: Connection reset by peer', True),
        (RuntimeError, 'FAILED_PRECONDITION: Barrier x.1 is already ongoing.', True),
        (RuntimeError, 'UNAVAILABLE: failed to connect to all addresses', True),
        (RuntimeError, 'RESOURCE_EXHAUSTED: Out of memory at connection 3', False),
        (RuntimeError, 'INTERNAL: some kernel failed', False),
        (ValueError, '--workdir=/scratch/nccl/run is not a directory', False),
        (OSError, 'HTTPSConnectionPool: Connection refused', False),
    ],
)
def test_a_lost_process_is_told_from_a_mistake(kind, text, lost):
    assert processes._is_communication(kind(text)) == lost
    wrapped = ValueError('no connection: no checkpoint could be written')
    wrapped.__cause__ = kind(text)
    assert processes._is_communication(wrapped) == lost
