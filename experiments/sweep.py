"""Trains every cell of (ablation × seed) and tabulates the errors.

    python -m experiments.sweep base no_lrn tanh --base=configs/cifar10.py --seeds=3 \\
        --workdir=runs/sweep [--base.train.epochs=5 …]

All cells are validated before the first one starts. Each is trained by a process of its
own in `<workdir>/<ablation>-s<seed>`: a finished one is skipped, a killed one goes on
where it stood, and a failure does not stop the others. At the end `table.md` and
`table.json` have the mean ± sample standard deviation over the seeds and the difference
to the first ablation; TensorBoard's HParams tab compares the same runs.

    tensorboard --logdir=runs/sweep
"""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from alexnet_jax import config as config_lib
from alexnet_jax.system import command_line
from experiments import ablations

_BASE = config_flags.DEFINE_config_file(
    'base',
    None,
    'Base config; --base.key=value holds for every cell.',
    lock_config=True,
)
_SEEDS = flags.DEFINE_integer('seeds', 1, 'Seeds 0 … N−1.', lower_bound=1)
_WORKDIR = flags.DEFINE_string('workdir', 'runs/sweep', 'Holds a folder per cell.')
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


def is_finished(cell: Cell) -> bool:
    """Says whether this very config has been trained to its end in the workdir."""
    if not (cell.workdir / 'result.json').exists():
        return False
    before = json.loads((cell.workdir / 'config.json').read_text())
    return not config_lib.blocking_differences(before, config_lib.to_json(cell.config))


def run(cell: Cell) -> bool:
    """Trains one cell, its output in the cell's log; False if it failed."""
    cell.workdir.mkdir(parents=True, exist_ok=True)
    with (cell.workdir / 'log.txt').open('a') as log:
        status = subprocess.run(
            cell.command, stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode
    if status:
        last = (cell.workdir / 'log.txt').read_text().strip().splitlines()[-1:]
        print(f'{cell.name}: failed with status {status}: {" ".join(last)}', flush=True)
    return status == 0


def tabulate(cells: Sequence[Cell]) -> list[dict[str, object]]:
    """One row per ablation: errors over its finished seeds, difference to the first."""
    rows: list[dict[str, object]] = []
    for name in dict.fromkeys(cell.ablation for cell in cells):
        results = [
            json.loads((cell.workdir / 'result.json').read_text())
            for cell in cells
            if cell.ablation == name and is_finished(cell)
        ]
        row: dict[str, object] = {'ablation': name, 'n': len(results)}
        for metric in ('val/top1_error', 'test/top1_error'):
            values = [r[metric] for r in results if metric in r]
            if values:
                spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
                row[metric] = {'mean': float(np.mean(values)), 'std': spread}
        rows.append(row)
    return rows


def as_markdown(rows: Sequence[dict[str, object]]) -> str:
    """The table as people read it; errors in percent."""
    lines = [
        '| ablation | n | validation top-1 error | Δ | test top-1 error |',
        '|---|---|---|---|---|',
    ]
    first = rows[0].get('val/top1_error')
    for row in rows:
        value = row.get('val/top1_error')
        difference = ''
        if isinstance(first, dict) and isinstance(value, dict) and row is not rows[0]:
            difference = f'{100 * (value["mean"] - first["mean"]):+.2f}'
        lines.append(
            f'| {row["ablation"]} | {row["n"]} | {_percent(value)} | {difference} | '
            f'{_percent(row.get("test/top1_error"))} |'
        )
    return '\n'.join(lines) + '\n'


def _percent(value: object) -> str:
    if not isinstance(value, dict):
        return '—'
    text = f'{100 * value["mean"]:.2f} %'
    return text if value['std'] is None else f'{text} ± {100 * value["std"]:.2f}'


def main(argv: list[str]) -> None:
    names = list(dict.fromkeys(argv[1:]))
    if _BASE.value is None or not names:
        sys.exit(
            'error: expected ABLATION … --base=FILE; ablations are '
            + ', '.join(ablations.ABLATIONS)
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
        state = 'finished before' if is_finished(cell) else 'to train'
        print(f'[{number}/{len(cells)}] {cell.name}: {state}', flush=True)
        if not _DRY_RUN.value and not is_finished(cell) and not run(cell):
            failed.append(cell.name)
    if _DRY_RUN.value:
        return
    rows = tabulate(cells)
    (workdir / 'table.json').write_text(json.dumps(rows, indent=2) + '\n')
    (workdir / 'table.md').write_text(as_markdown(rows))
    print(as_markdown(rows))
    if failed:
        sys.exit(f'error: failed: {", ".join(failed)}; see log.txt in their workdirs')


if __name__ == '__main__':
    app.run(main, flags_parser=command_line.parse_flags)
