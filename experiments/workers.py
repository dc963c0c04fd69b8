"""Runs the cells of a sweep, several at a time, each on cores of its own.

The cores of this process are divided among the jobs. A cell has one device on them: on
a CPU one device with two cores is faster than two with one each. SIGTERM and Ctrl-C go
on to the cells, which stop at a checkpoint; so does a second one, which ends them.
"""

import collections
import contextlib
import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from alexnet_jax.run import progress
from alexnet_jax.system import files, signals
from experiments import cells as cells_lib

ENVIRONMENT = {'JAX_NUM_CPU_DEVICES': '1', 'PYTHONUNBUFFERED': '1'}
COST = 'cost.json'


def run(
    cells: Sequence[cells_lib.Cell],
    workdir: Path,
    jobs: int,
    ended: Callable[[cells_lib.Cell], None] = lambda cell: None,
) -> list[str]:
    """Runs what is missing of each cell; which failed, by their folders.

    Args:
      cells: of one sweep.
      workdir: of the sweep, which only one may own at a time.
      jobs: cells at a time.
      ended: called with each cell that finished.

    Raises:
      ValueError: another sweep, or a run that it left behind, works in the workdir.
      SystemExit: a signal came; the cells have checkpointed and ended.
    """
    waiting = collections.deque(cells)
    free = divided_cores(jobs)
    running: list[_Running] = []
    failed: dict[Path, str] = {}
    status = Status()

    def stop_all() -> None:
        for one in list(running):
            one.stop(again=True)

    with owned(workdir) as lock, signals.caught_signals(stop_all) as caught:
        try:
            while (waiting and not caught) or running:
                while free and not caught:
                    cell = next_cell(waiting, [one.cell for one in running])
                    if cell is None:
                        break
                    missing = cells_lib.missing_commands(cell)
                    name = cell.path_in(workdir)
                    if missing and (
                        cell.starts_from in failed or lacks_its_start(cell)
                    ):
                        failed[cell.workdir] = name
                        print(
                            f'  {name}: not run, the run in {cell.starts_from} '
                            'that it starts from has not finished',
                            flush=True,
                        )
                    elif missing:
                        running.append(_Running(cell, name, missing, free.pop(0), lock))
                time.sleep(0.2)
                if caught:
                    for one in running:
                        one.stop()
                for one in list(running):
                    runs_on = one.is_running()  # first, or its last lines are missed
                    status.take(one.name, one.news())
                    if runs_on:
                        continue
                    one.close()
                    running.remove(one)
                    free.append(one.cores)
                    status.end(one.name)
                    if one.returncode and not one.stopped:
                        failed[one.cell.workdir] = one.name
                    print(f'  {one.name}: {one.outcome()}', flush=True)
                    if not one.returncode and not one.stopped:
                        ended(one.cell)
        finally:
            stop_all()
        if caught:
            raise SystemExit(128 + caught[0])
    return list(failed.values())


def next_cell(
    waiting: collections.deque[cells_lib.Cell], running: Sequence[cells_lib.Cell]
) -> cells_lib.Cell | None:
    """Takes the first that starts from no run of these; None while there is none."""
    unfinished = {cell.workdir for cell in (*waiting, *running)}
    for cell in waiting:
        if cell.starts_from not in unfinished:
            waiting.remove(cell)
            return cell
    return None


def lacks_its_start(cell: cells_lib.Cell) -> bool:
    """Whether the run that it starts from has not come to its end."""
    start = cell.starts_from
    return start is not None and not (start / 'result.json').is_file()


def divided_cores(jobs: int) -> list[list[int]]:
    """The cores of this process, divided; jobs share them where there are too few."""
    if not hasattr(os, 'sched_getaffinity'):  # macOS
        return [[] for _ in range(jobs)]
    cores = sorted(os.sched_getaffinity(0))
    if jobs >= len(cores):
        return [[cores[job % len(cores)]] for job in range(jobs)]
    bounds = [job * len(cores) // jobs for job in range(jobs + 1)]
    return [cores[bounds[job] : bounds[job + 1]] for job in range(jobs)]


@contextlib.contextmanager
def owned(workdir: Path) -> Iterator[int]:
    """Holds the sweep's folder; its cells hold it too, should they outlive the sweep.

    Not `system.locks`, which removes its file at the end: the next sweep would make
    another, and not notice the cells.

    Yields:
      the descriptor of the lock, which is let go when the last holder ends.

    Raises:
      ValueError: somebody else holds it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / '.owner').open('a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(
                f'--workdir={workdir} is in use by the sweep of process '
                f'{file.read().strip()}, or by runs that it left behind; wait for its '
                'end, stop it, or take another --workdir'
            ) from None
        file.truncate(0)
        file.write(f'{os.getpid()}\n')
        file.flush()
        yield file.fileno()


class _Running:
    """A cell whose commands run one after the other."""

    def __init__(
        self,
        cell: cells_lib.Cell,
        name: str,
        commands: Sequence[cells_lib.Command],
        cores: list[int],
        lock: int,
    ):
        self.cell, self.name, self.cores, self._lock = cell, name, cores, lock
        self._commands = list(commands)
        self.stopped = False
        self.returncode = 0
        cell.workdir.mkdir(parents=True, exist_ok=True)
        self._path = cell.workdir / 'log.txt'
        self._log = self._path.open('a')
        self._news = self._path.open()
        self._news.seek(0, os.SEEK_END)
        self._start()

    def _start(self) -> None:
        with _on_cores(self.cores):
            self._process = subprocess.Popen(
                self._commands.pop(0),
                env=ENVIRONMENT | os.environ,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                # Ctrl-C would be the cell's twice, from the terminal and from us.
                start_new_session=True,
                pass_fds=(self._lock,),
            )
        self._started = time.monotonic()

    def news(self) -> str:
        """What it has printed since the last time."""
        return self._news.read()

    def is_running(self) -> bool:
        """Whether it has anything left to do; starts its next command."""
        pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
        if not pid:
            return True
        self.returncode = os.waitstatus_to_exitcode(status)
        self._process.returncode = self.returncode
        add_cost(
            self.cell.workdir / COST,
            time.monotonic() - self._started,
            usage.ru_utime + usage.ru_stime,
        )
        if self._commands and not self.returncode and not self.stopped:
            self._start()
            return True
        return False

    def close(self) -> None:
        """Lets go of its log."""
        self._log.close()
        self._news.close()

    def stop(self, *, again: bool = False) -> None:
        """Asks it to checkpoint and end; a second time, to end at once."""
        if self.stopped and not again:
            return
        self.stopped = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)

    def outcome(self) -> str:
        """How it ended, in a line."""
        if self.stopped:
            return 'stopped; the same sweep goes on with it'
        if self.returncode:
            last = ' '.join(self._path.read_text().strip().splitlines()[-1:])
            return f'failed with status {self.returncode}: {last}'
        result = cells_lib.read_result(self.cell) or {}
        errors = [
            f'{name} {result[key]:.2%}'
            for name, key in (
                ('training', 'train_view/top1_error'),
                ('validation', 'val/top1_error'),
                ('test', 'test/top1_error'),
            )
            if key in result
        ]
        cost = files.read_json(self.cell.workdir / COST)
        wall = progress.duration(cost['wall_seconds'])
        cpu = progress.duration(cost['cpu_seconds'])
        return f'finished, error {", ".join(errors)}; {wall}, {cpu} of CPU time'


@contextlib.contextmanager
def _on_cores(cores: list[int]) -> Iterator[None]:
    """Lets a process that is started within have these cores from its first moment."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def add_cost(path: Path, wall: float, cpu: float) -> None:
    """Adds the seconds of one start to those of the starts before."""
    before = files.read_json(path) or {}
    files.write_json(
        path,
        {
            'starts': before.get('starts', 0) + 1,
            'wall_seconds': round(before.get('wall_seconds', 0.0) + wall, 3),
            'cpu_seconds': round(before.get('cpu_seconds', 0.0) + cpu, 3),
        },
    )


def as_shell(command: cells_lib.Command) -> str:
    """A command as it is typed."""
    variables = ' '.join(
        f'{name}={os.environ.get(name, value)}' for name, value in ENVIRONMENT.items()
    )
    words = ['python' if word == sys.executable else word for word in command]
    return f'{variables} {shlex.join(words)}'


class Status:
    """Shows where the cells are, in one line on a terminal, else in one a minute.

    Args:
      seconds: at least so many between two lines of a cell where they do not overwrite.
    """

    def __init__(self, seconds: float = 60.0):
        self._on_terminal = sys.stdout.isatty()
        self._seconds = seconds
        self._printed: dict[str, float] = {}
        self._unread: dict[str, str] = {}
        self._latest: dict[str, str] = {}

    def take(self, name: str, text: str) -> None:
        """Takes in what a cell has printed since the last time."""
        *lines, self._unread[name] = (self._unread.get(name, '') + text).split('\n')
        steps = [shown for line in lines if (shown := compact(line))]
        if not steps:
            return
        self._latest[name] = f'{name}: {steps[-1]}'
        if self._on_terminal:
            line = '  ' + ' | '.join(self._latest.values())
            width = shutil.get_terminal_size().columns - 1
            print(f'\r{line[:width]:<{width}}', end='', flush=True)
        elif time.monotonic() - self._printed.get(name, -self._seconds) >= (
            self._seconds
        ):
            self._printed[name] = time.monotonic()
            print(f'  {self._latest[name]}', flush=True)

    def end(self, name: str) -> None:
        """Takes a cell's part away, and leaves the line that was written over."""
        if self._latest.pop(name, None) and self._on_terminal:
            print()


def compact(line: str) -> str:
    """Step, epoch, loss and time left of `progress.train_line`; '' of another line."""
    row = re.fullmatch(r'\s*([\d,]+) +(\d+\.\d\d) +(\S+) .* (\S+)', line)
    return 'step {}  epoch {}  loss {}  {} left'.format(*row.groups()) if row else ''
