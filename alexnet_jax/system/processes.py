"""Several processes that train one run together, on jax's own distributed runtime.

All of them run the same program on the same config; each holds its own devices of the
mesh, reads its rows of every batch and writes its part of every checkpoint. Process 0
alone prints and writes metrics.
"""

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from alexnet_jax.system import signals

_TASKS = ('SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE')
_GPUS_ON_NODE = 'SLURM_GPUS_ON_NODE'
# With these SLURM shows each task no other GPUs than its own.
_GIVES_EACH_ITS_OWN = ('SLURM_GPUS_PER_TASK', 'SLURM_NTASKS_PER_GPU')


def start(settings: Mapping[str, Any]) -> None:
    """Joins the other processes, if the settings or the environment name any.

    `coordinator` is `host:port` of process 0, or `'auto'`: then jax asks SLURM, Open
    MPI, Kubernetes or the TPU who there is. Where it is empty the environment may have
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. Call it before the
    first use of jax.

    Args:
      settings: the keys of `config.distributed`.

    Raises:
      ValueError: it is not said which of how many processes this one is. If not all
        of them come within `timeout_seconds`, the program ends with one line.
    """
    coordinator, count, index = who_am_i(settings)
    if not coordinator:
        return
    local_devices = devices_of_this_task()
    seconds = settings['timeout_seconds']
    automatic = coordinator == 'auto'
    failure = (
        f'error: the processes did not find each other within {seconds} s '
        f'(config.distributed.coordinator={coordinator!r}'
        + ('' if automatic else f', process {index} of {count}')
        + ', timeout_seconds): is process 0 running there, and are all the others '
        'started?'
    )
    # jaxlib aborts with a stack trace at its own time-out, and raises nothing.
    watchdog = threading.Timer(seconds, _exit, [failure])
    watchdog.daemon = True
    watchdog.start()
    try:
        jax.distributed.initialize(
            coordinator_address=None if automatic else coordinator,
            num_processes=None if automatic else count,
            process_id=None if automatic else index,
            local_device_ids=local_devices,
            initialization_timeout=seconds + 30,
            heartbeat_timeout_seconds=seconds,
            shutdown_timeout_seconds=seconds,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ValueError(f'{failure.removeprefix("error: ")} ({reason})') from error
    finally:
        watchdog.cancel()
        signals.listen_again()  # jax's runtime has taken SIGTERM
    # Opens the connections while all are here: later, gloo gives up on a process that
    # is 30 seconds late, and the first may take longer to prepare a data set.
    multihost_utils.sync_global_devices('start')
    if jax.process_index():
        sys.stdout = open(os.devnull, 'w')  # noqa: SIM115  for as long as it lives
    print(
        f'process {jax.process_index()} of {jax.process_count()}: '
        + devices_line(jax.local_device_count(), jax.default_backend()),
        flush=True,
    )


def who_am_i(settings: Mapping[str, Any]) -> tuple[str, int, int]:
    """(coordinator, number of processes, index of this one); '' if there is only one.

    Raises:
      ValueError: a coordinator without a port, a count or an index; a count or an
        index without a coordinator, or with 'auto', which finds them.
    """
    coordinator = settings['coordinator'] or os.environ.get(
        'JAX_COORDINATOR_ADDRESS', ''
    )
    count, index = settings['num_processes'], settings['process_id']
    if coordinator in ('', 'auto'):
        if count or index >= 0:
            given = 'no coordinator' if not coordinator else "coordinator='auto'"
            raise ValueError(
                f'config.distributed.num_processes={count} and '
                f'config.distributed.process_id={index} with {given}: give both with '
                'config.distributed.coordinator=HOST:PORT of process 0, or neither'
            )
        for name in _TASKS if coordinator else ():
            count = count or _number_in_environment(name, 0)
        return coordinator, count, index
    count = count or _number_in_environment('JAX_NUM_PROCESSES', 0)
    index = index if index >= 0 else _number_in_environment('JAX_PROCESS_ID', -1)
    if not coordinator.rpartition(':')[2].isdecimal():
        raise ValueError(
            f'config.distributed.coordinator={coordinator!r}: expected host:port of '
            "process 0, or 'auto'"
        )
    if not 0 <= index < count:
        raise ValueError(
            f'config.distributed.process_id={index} of '
            f'config.distributed.num_processes={count}: with a coordinator give both, '
            'the id from 0 up to but without the number (or JAX_PROCESS_ID and '
            'JAX_NUM_PROCESSES)'
        )
    return coordinator, count, index


def devices_of_this_task() -> list[int] | None:
    """Which of the devices that this process sees it takes; `[]`: all of them.

    jax gives a task of SLURM or Open MPI the one device with the number of the task on
    its node, so that a single task on a node of eight GPUs would use one of them. Here
    a task that is alone on its node takes all. Several divide what they see, unless the
    launcher has given each its own, which then is all that it sees. None leaves it to
    jax: JAX_LOCAL_DEVICE_IDS says it, or neither launcher started this process.
    """
    tasks, local = tasks_on_this_node()
    if 'JAX_LOCAL_DEVICE_IDS' in os.environ or not tasks:
        return None
    visible, on_node = _visible_devices(), _number_in_environment(_GPUS_ON_NODE, 0)
    if tasks == 1 or 0 < visible < max(tasks, on_node):
        return []
    if any(name in os.environ for name in _GIVES_EACH_ITS_OWN):
        return []
    share = max(1, visible // tasks)
    return list(range(local * share, (local + 1) * share))


def tasks_on_this_node() -> tuple[int, int]:
    """(tasks of this step on this node, the number of this one); (0, 0): unknown."""
    environ = os.environ
    if 'OMPI_COMM_WORLD_LOCAL_SIZE' in environ:
        return (
            _number_in_environment('OMPI_COMM_WORLD_LOCAL_SIZE', 1),
            _number_in_environment('OMPI_COMM_WORLD_LOCAL_RANK', 0),
        )
    per_node = environ.get('SLURM_STEP_TASKS_PER_NODE')
    if not per_node or 'SLURM_LOCALID' not in environ:
        return 0, 0
    counts: list[int] = []
    for part in per_node.split(','):  # '4(x3),2': 4 on each of three nodes, 2 on one
        tasks, _, times = part.rstrip(')').partition('(x')
        counts += [int(tasks)] * int(times or 1)
    node = _number_in_environment('SLURM_NODEID', 0)
    return counts[min(node, len(counts) - 1)], int(environ['SLURM_LOCALID'])


def devices_line(used: int, backend: str) -> str:
    """Says how many of the node's devices a process uses, where that can be known."""
    visible = on_node = used
    if backend != 'cpu':
        visible = _visible_devices() or used
        on_node = _number_in_environment(_GPUS_ON_NODE, visible)
    tasks, _ = tasks_on_this_node()
    line = f'using {used} of {max(visible, on_node)} local devices'
    return line + (f', {tasks} tasks on this node' if tasks > 1 else '')


def _visible_devices() -> int:
    """How many the environment lets this process see; 0 where it does not say."""
    for name in ('CUDA_VISIBLE_DEVICES', 'ROCR_VISIBLE_DEVICES'):
        if listed := os.environ.get(name):
            return len(listed.split(','))
    return _number_in_environment(_GPUS_ON_NODE, 0)


def _number_in_environment(name: str, default: int) -> int:
    value = os.environ.get(name) or str(default)
    if not value.lstrip('-').isdecimal():
        raise ValueError(f'the environment has {name}={value!r}; expected a number')
    return int(value)


def is_first() -> bool:
    """Says whether this process prints and writes the run's files."""
    return jax.process_index() == 0


def agree(mine: bool) -> bool:
    """True in every process if it is in any; all must call it at the same place."""
    if jax.process_count() == 1:
        return mine
    return bool(np.any(multihost_utils.process_allgather(np.array(mine))))


def from_first(mine: Any) -> Any:
    """Process 0's value, in every process; all must call it at the same place.

    Args:
      mine: anything that JSON can hold in 8,192 bytes; a tuple comes back as a list.
    """
    if jax.process_count() == 1:
        return mine
    letter = np.zeros(8192, np.uint8)
    text = json.dumps(mine).encode()
    letter[: len(text)] = np.frombuffer(text, np.uint8)
    received = multihost_utils.broadcast_one_to_all(letter)
    return json.loads(received.tobytes().rstrip(b'\0'))


def check_same(mine: Any, refusal: str) -> None:
    """Refuses what is not the same in all processes; all call it at the same place.

    Args:
      mine: as for `from_first`, without tuples.
      refusal: the line that says what differs.

    Raises:
      ValueError: in every process.
    """
    if agree(mine != from_first(mine)):
        raise ValueError(refusal)


@contextlib.contextmanager
def first_before_the_others() -> Iterator[None]:
    """Lets process 0 go through alone, then the others: what it made is there.

    Raises:
      ValueError: in all but the one in which something else was raised.
    """
    elsewhere = ValueError('another process ends here; its own line says why')
    # Twice they agree: when process 0 is through, and when all are.
    if not is_first() and agree(False):
        raise elsewhere
    try:
        yield
    except Exception:
        agree(True)
        raise
    if agree(False) or (is_first() and agree(False)):
        raise elsewhere


@contextlib.contextmanager
def lost_peers() -> Iterator[None]:
    """Ends this process in one line, at once, when another one is gone.

    A collective fails as soon as a peer's connection breaks. A normal exit would then
    wait for the dead at jax's shutdown barrier, and abort there with a stack trace.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if jax.process_count() == 1 or not _is_communication(error):
            raise
        first = ' '.join(str(error).split())[:200]
        _exit(
            f'error: process {jax.process_index()} of {jax.process_count()} lost '
            f'another one or waited for it in vain ({first}); start all of them again, '
            'and the run goes on from its latest checkpoint'
        )


def _is_communication(error: BaseException) -> bool:
    while error.__cause__:  # Orbax and we say it in other words
        error = error.__cause__
    # A status of XLA's. What a user did wrong may name a connection as well.
    code, _, said = str(error).partition(': ')
    words = ('gloo', 'connection', 'nccl', 'heartbeat', 'coordination', 'barrier')
    return (
        re.fullmatch('[A-Z_]+', code) is not None
        and code != 'RESOURCE_EXHAUSTED'
        and (code == 'UNAVAILABLE' or any(word in said.lower() for word in words))
    )


def _exit(message: str) -> None:
    """Leaves without jax's shutdown, which would wait for who is not there."""
    print(message, file=sys.stderr, flush=True)
    os._exit(1)
