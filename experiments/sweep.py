r"""Trains every cell of (ablation × seed) and tabulates the errors.

    python -m experiments.sweep --list
    python -m experiments.sweep base no_lrn tanh --base=configs/cifar10.py --seeds=3 \
        --workdir=runs/sweep [--base.train.epochs=5 …]

`--list` names the ablations with the claim that each tests. All cells are validated
before the first one starts. Each is trained by a process of its own in
`<workdir>/<ablation>-s<seed>`, its output in `log.txt` there and its progress in a line
here: a finished one is skipped, a killed one goes on where it stood, and a failure does
not stop the others. At the end `table.md` and `table.json` have the mean ± sample
standard deviation over the seeds; Δ is the difference to the first ablation, seed by
seed, with the deviation of those differences. TensorBoard's HParams tab compares the
same runs.

    tensorboard --logdir=runs/sweep
"""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from alexnet_jax.system import tensorflow_log

tensorflow_log.silence()

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax import config as config_lib
from alexnet_jax.run import config_file
from alexnet_jax.system import command_line, files, signals
from experiments import ablations

_BASE = config_flags.DEFINE_config_file(
    'base',
    None,
    'Base config; --base.key=value holds for every cell.',
    lock_config=True,
)
_SEEDS = flags.DEFINE_integer('seeds', 1, 'Seeds 0 … N−1.', lower_bound=1)
_WORKDIR = flags.DEFINE_string('workdir', 'runs/sweep', 'Holds a folder per cell.')
_LIST = flags.DEFINE_bool('list', False, 'List the ablations and their claims only.')
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Validate and list the cells only.')


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training run of the sweep."""

    ablation: str
    seed: int
    config: ConfigDict
    command: tuple[str, ...]
    workdir: Path

    @property
    def name(self) -> str:
        """Also that of its workdir."""
        return f'{self.ablation}-s{self.seed}'


def make_cells(
    names: Sequence[str],
    base: ConfigDict,
    base_file: str,
    base_overrides: Sequence[str],
    seeds: int,
    workdir: Path,
) -> list[Cell]:
    """Makes and validates every cell.

    Raises:
      ValueError: an unknown ablation, or a cell whose config is not valid.
    """
    cells = []
    for name in names:
        changed = ablations.overrides(name, base)
        for seed in range(seeds):
            config = ablations.apply(name, base)
            config.seed = seed
            try:
                config_lib.validate(config)
            except ValueError as error:
                raise ValueError(f'ablation {name!r}: {error}') from None
            directory = workdir / f'{name}-s{seed}'
            values = [f'--config.{key}={_flag(v)}' for key, v in changed.items()]
            command = (
                *(sys.executable, '-m', 'alexnet_jax.main', f'--config={base_file}'),
                *base_overrides,
                *values,
                f'--config.seed={seed}',
                f'--workdir={directory}',
            )
            cells.append(Cell(name, seed, config, command, directory))
    return cells


def _flag(value: object) -> str:
    return repr(value) if isinstance(value, tuple) else str(value)


def read_result(cell: Cell) -> dict[str, float] | None:
    """The results of this very config, trained to its end in the workdir, or None.

    A file that a killed process or a full disk left torn counts as not there.
    """
    result = files.read_json(cell.workdir / 'result.json')
    before = files.read_json(cell.workdir / 'config.json')
    if not isinstance(before, dict) or not isinstance(result, dict):
        return None
    if config_file.blocking_differences(before, config_file.to_json(cell.config)):
        return None
    return result if 'val/top1_error' in result else None


def run(cell: Cell) -> bool:
    """Trains one cell, its output in the cell's log; False if it failed."""
    cell.workdir.mkdir(parents=True, exist_ok=True)
    path = cell.workdir / 'log.txt'
    shown = Progress(cell.name)
    with path.open('a') as log, path.open() as news:
        news.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            cell.command,
            # In the order in which it was said: an error comes last.
            env=os.environ | {'PYTHONUNBUFFERED': '1'},
            stdout=log,
            stderr=subprocess.STDOUT,
            # Ctrl-C would reach it from the terminal too, and twice means at once.
            process_group=0,
        )
        with signals.caught_signals() as caught:
            told = False
            try:
                while process.poll() is None:
                    time.sleep(0.2)
                    shown.take(news.read())
                    if caught and not told:
                        process.send_signal(caught[0])  # it stops at a checkpoint
                        told = True
            except SystemExit:  # a second signal
                process.kill()
                raise
        if caught:
            shown.end()
            print(f'signal {caught[0]}: stopped; the same command goes on')
            raise SystemExit(128 + caught[0])
        shown.take(news.read())
    shown.end()
    if process.returncode:
        last = ' '.join(path.read_text().strip().splitlines()[-1:])
        print(f'  failed with status {process.returncode}: {last}', flush=True)
    return process.returncode == 0


class Progress:
    """Shows where a cell is: a line that changes on a terminal, one a minute elsewhere.

    Args:
      name: of the cell.
      seconds: at least so many between two lines where they do not overwrite.
    """

    def __init__(self, name: str, seconds: float = 60.0):
        self._name = name
        self._on_terminal = sys.stdout.isatty()
        self._seconds = seconds
        self._latest = -seconds
        self._unread = ''

    def take(self, text: str) -> None:
        """Takes in what the cell has printed since the last time."""
        *lines, self._unread = (self._unread + text).split('\n')
        steps = [shown for line in lines if (shown := compact(line))]
        now = time.monotonic()
        if not steps or (not self._on_terminal and now - self._latest < self._seconds):
            return
        self._latest = now
        line = f'  {self._name}: {steps[-1]}'
        if self._on_terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f'\r{line[:width]:<{width}}', end='', flush=True)
        else:
            print(line, flush=True)

    def end(self) -> None:
        """Leaves the line that is written over and over as it is."""
        if self._on_terminal and self._latest >= 0:
            print()


def compact(line: str) -> str:
    """Step, epoch, loss and time left of `progress.train_line`; '' of another line."""
    row = re.fullmatch(r'\s*([\d,]+) +(\d+\.\d\d) +(\S+) .* (\S+)', line)
    return 'step {}  epoch {}  loss {}  {} left'.format(*row.groups()) if row else ''


def tabulate(cells: Sequence[Cell]) -> list[dict[str, object]]:
    """One row per ablation: errors over its finished seeds, difference to the first.

    The difference is of runs with the same seed, where both are finished.
    """
    errors: dict[str, dict[int, dict[str, float]]] = {}
    for cell in cells:
        result = read_result(cell)
        errors.setdefault(cell.ablation, {})
        if result is not None:
            errors[cell.ablation][cell.seed] = result
    first = next(iter(errors))
    rows: list[dict[str, object]] = []
    for name, results in errors.items():
        row: dict[str, object] = {'ablation': name, 'n': len(results)}
        for metric in ('val/top1_error', 'test/top1_error'):
            values = [r[metric] for r in results.values() if metric in r]
            if values:
                row[metric] = _mean_and_deviation(values)
        pairs = results.keys() & errors[first].keys()
        if name != first and pairs:
            row['difference'] = _mean_and_deviation(
                [
                    results[seed]['val/top1_error']
                    - errors[first][seed]['val/top1_error']
                    for seed in sorted(pairs)
                ]
            )
        rows.append(row)
    return rows


def _mean_and_deviation(values: Sequence[float]) -> dict[str, float | None]:
    """Of one value there is no deviation."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {'mean': float(np.mean(values)), 'std': spread}


def as_markdown(rows: Sequence[dict[str, object]]) -> str:
    """The table as people read it; errors in percent."""
    lines = [
        '| ablation | n | validation top-1 error | Δ | test top-1 error |',
        '|---|---|---|---|---|',
    ]
    for row in rows:
        difference = _percent(row.get('difference'), sign='+', unit='')
        lines.append(
            f'| {row["ablation"]} | {row["n"]} | {_percent(row.get("val/top1_error"))} '
            f'| {"" if row is rows[0] else difference} | '
            f'{_percent(row.get("test/top1_error"))} |'
        )
    single = [str(row['ablation']) for row in rows if row['n'] == 1]
    if single:
        lines += [
            '',
            f'n = 1 for {", ".join(single)}: another seed may turn such a difference '
            'round.',
        ]
    return '\n'.join(lines) + '\n'


def _percent(value: object, sign: str = '', unit: str = ' %') -> str:
    if not isinstance(value, dict):
        return '—'
    text = f'{100 * value["mean"]:{sign}.2f}{unit}'
    return text if value['std'] is None else f'{text} ± {100 * value["std"]:.2f}'


def main(argv: list[str]) -> None:
    """Trains what is not finished, and tabulates all of it."""
    if _LIST.value:
        print(ablations.listing())
        return
    names = list(dict.fromkeys(argv[1:]))
    if _BASE.value is None or not names:
        sys.exit(
            'error: expected ABLATION … --base=FILE (--list says what each is for); '
            'ablations are ' + ', '.join(ablations.ABLATIONS)
        )
    base_file = config_flags.get_config_filename(flags.FLAGS['base'])
    overrides = config_flags.get_override_values(flags.FLAGS['base'])
    workdir = Path(_WORKDIR.value)
    with command_line.user_errors():
        cells = make_cells(
            names,
            _BASE.value,
            base_file,
            [f'--config.{key}={_flag(value)}' for key, value in overrides.items()],
            _SEEDS.value,
            workdir,
        )
    failed = []
    for number, cell in enumerate(cells, start=1):
        finished = read_result(cell) is not None
        state = (
            'finished before'
            if finished
            else f'to train, log in {cell.workdir}/log.txt'
        )
        print(f'[{number}/{len(cells)}] {cell.name}: {state}', flush=True)
        if not _DRY_RUN.value and not finished and not run(cell):
            failed.append(cell.name)
    if _DRY_RUN.value:
        return
    rows = tabulate(cells)
    files.write_json(workdir / 'table.json', rows)
    (workdir / 'table.md').write_text(as_markdown(rows))
    print(as_markdown(rows))
    print(f'written to {workdir}/table.md and table.json')
    if failed:
        sys.exit(f'error: failed: {", ".join(failed)}; see log.txt in their workdirs')


if __name__ == '__main__':
    app.run(main, flags_parser=command_line.parse_flags)
