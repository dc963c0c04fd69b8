r"""Trains every cell of (arm × seed) and tabulates the errors.

    python -m experiments.sweep --list
    python -m experiments.sweep base no_lrn tanh --base=cifar10 --seeds=3 --jobs=2 \
        --workdir=runs/sweep [--base.train.epochs=5 …]
    python -m experiments.sweep --study=lrn,pools --data_dir=DIR --jobs=2 \
        --workdir=runs/studies

An arm is an ablation of a base config; `--list` names them with the claims that they
test, and the studies, which have base, arms, seeds and the rule of their verdicts. All
cells are validated before the first one starts. `--jobs` cells are trained at a time,
each by a process of its own on cores of its own, in `<workdir>/<arm>-s<seed>` (of a
study in `<workdir>/<base>/…`, which studies of one base share), its output in `log.txt`
there and its progress in a line here: a finished one is skipped, a killed one goes on
where it stood, and a failure does not stop the others. SIGTERM and Ctrl-C stop the
cells at a checkpoint; the same command goes on.

At the end `table.md` and `table.json` have the mean ± sample standard deviation over
the seeds; Δ is the difference to the first arm, seed by seed, with its 95 % interval
(Student's t). A study's runs go to `<workdir>/records/<study>.jsonl` as they end, from
which `experiments.summarize` makes its record. TensorBoard's HParams tab compares the
runs.

    tensorboard --logdir=runs/sweep
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from alexnet_jax.system import tensorflow_log

tensorflow_log.silence()

from absl import app, flags, logging
from ml_collections import config_flags

from alexnet_jax.data import prepare
from alexnet_jax.system import command_line, config_arguments, files
from experiments import ablations, cells, paired, report, studies, workers
from experiments.study_cells import Sweep, keep_runs, of_study, places

_BASE = config_flags.DEFINE_config_file(
    'base',
    None,
    'Base config; --base.key=value holds for every cell.',
    lock_config=True,
)
_STUDY = flags.DEFINE_list(
    'study', [], 'Studies to run in this order, instead of --base; arms select of one.'
)
_DATA_DIR = flags.DEFINE_string('data_dir', '', 'config.data.data_dir of the studies.')
_PREPARED_DIR = flags.DEFINE_string('prepared_dir', '', 'config.data.prepared_dir.')
_SEEDS = flags.DEFINE_integer(
    'seeds', None, 'Seeds 0 … N−1; default: 1, or as the study says.', lower_bound=1
)
_FIRST_SEED = flags.DEFINE_integer(
    'first_seed', 0, 'Leave out the seeds before it, recorded earlier.', lower_bound=0
)
_WORKDIR = flags.DEFINE_string('workdir', 'runs/sweep', 'Holds a folder per cell.')
_JOBS = flags.DEFINE_integer(
    'jobs', 1, 'Cells at a time; the cores are divided among them.', lower_bound=1
)
_LIST = flags.DEFINE_bool('list', False, 'List ablations, claims and studies only.')
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Validate and list the cells only.')
_PRINT_COMMANDS = flags.DEFINE_bool(
    'print_commands', False, 'Print the commands of what is missing, and run nothing.'
)


def of_ablations(names: Sequence[str], workdir: Path) -> Sweep:
    """The sweep of `--base` and the ablations named.

    Raises:
      ValueError: an unknown ablation, or a cell whose config is not valid.
    """
    file = config_flags.get_config_filename(flags.FLAGS['base'])
    given = config_flags.get_override_values(flags.FLAGS['base'])
    # An arm may double what the config's file chooses by the data.
    chosen = _BASE.value.copy_and_resolve_references()
    if said := config_arguments.complete(file, chosen, given):
        print(f'{Path(file).stem}: {said}', file=sys.stderr, flush=True)
    arms = {name: ablations.overrides(name, chosen) for name in names}
    made = cells.make_cells(
        arms,
        _BASE.value,
        file,
        given,
        _SEEDS.value or 1,
        workdir,
        first_seed=_FIRST_SEED.value,
    )
    return Sweep(None, made, workdir)


def prepare_once(made: Sequence[cells.Cell]) -> None:
    """Prepares the data of cells that are to be trained, before several want to.

    Raises:
      ValueError: as `alexnet_jax.main` has it.
    """
    to_train = [cell for cell in made if cells.read_result(cell) is None]
    data = {cell.config.data.to_json(): cell.config.data for cell in to_train}
    for one in data.values():
        prepare.open_prepared(one)


def tabulate(made: Sequence[cells.Cell]) -> list[dict[str, object]]:
    """One row per arm: errors over its finished seeds, difference to the first.

    The difference is of runs with the same seed, where both are finished.
    """
    found: dict[str, dict[int, dict[str, float]]] = {cell.arm: {} for cell in made}
    for cell in made:
        result = cells.read_result(cell)
        if result is not None:
            ten_views = cells.read_ten_views(cell) if cell.evaluate else None
            found[cell.arm][cell.seed] = result | (ten_views or {})
    first = next(iter(found))
    rows: list[dict[str, object]] = []
    for name, results in found.items():
        row: dict[str, object] = {'ablation': name, 'n': len(results)}
        for metric in COLUMNS:
            values = [r[metric] for r in results.values() if metric in r]
            if values:
                row[metric] = dataclasses.asdict(paired.interval(values))
        if name != first and results.keys() & found[first].keys():
            values = paired.differences(
                *({seed: r['val/top1_error'] for seed, r in found[arm].items()}
                  for arm in (name, first))
            )  # fmt: skip
            row['difference'] = dataclasses.asdict(paired.interval(values))
        rows.append(row)
    return rows


COLUMNS = {
    'train_view/top1_error': 'training top-1 error',
    'val/top1_error': 'validation top-1 error',
    'test/top1_error': 'test top-1 error',
    'test/top1_error_10view': 'test, ten views',
}


def as_markdown(rows: Sequence[dict[str, object]]) -> str:
    """The table as people read it; errors in percent."""
    shown = {k: v for k, v in COLUMNS.items() if any(k in row for row in rows)}
    header = ['ablation', 'n', *shown.values(), 'Δ validation [95 %]']
    content = [
        [
            *(str(row['ablation']), str(row['n'])),
            *(_percent(row.get(metric)) for metric in shown),
            '' if row is rows[0] else _points(row.get('difference')),
        ]
        for row in rows
    ]
    lines = [report.markdown_table(header, content)]
    single = [str(row['ablation']) for row in rows if row['n'] == 1]
    if single:
        lines += [
            '',
            f'n = 1 for {", ".join(single)}: another seed may turn such a difference '
            'round.',
        ]
    return '\n'.join(lines) + '\n'


def _percent(value: object) -> str:
    if not isinstance(value, dict):
        return '—'
    text = f'{100 * value["mean"]:.2f} %'
    return text if value['n'] == 1 else f'{text} ± {100 * value["deviation"]:.2f}'


def _points(value: object) -> str:
    if not isinstance(value, dict):
        return '—'
    text = f'{100 * value["mean"]:+.2f}'
    if value['n'] == 1:
        return text
    return f'{text} [{100 * value["low"]:+.2f}, {100 * value["high"]:+.2f}]'


def write_tables(sweep: Sweep) -> None:
    """Writes and prints what the sweep found so far."""
    name = f'-{sweep.study.name}' if sweep.study else ''
    rows = tabulate(sweep.cells)
    # NaN, of one run, is no JSON.
    files.write_json(
        sweep.workdir / f'table{name}.json',
        [
            {
                key: {k: v for k, v in value.items() if v == v}
                if isinstance(value, dict)
                else value
                for key, value in row.items()
            }
            for row in rows
        ],
    )
    path = sweep.workdir / f'table{name}.md'
    files.write_atomically(path, as_markdown(rows))
    print(f'\n{as_markdown(rows)}\nwritten to {path} and {path.stem}.json')


def main(argv: list[str]) -> None:
    """Trains what is not finished, and tabulates all of it."""
    if _LIST.value:
        with command_line.user_errors():
            print(ablations.listing())
            for study in studies.STUDIES.values():
                print(f'--study={study.name}\n    {study.question}')
        return
    logging.set_verbosity(logging.WARNING)
    names = list(dict.fromkeys(argv[1:]))
    if not _STUDY.value and (_BASE.value is None or not names):
        sys.exit(
            'error: expected ABLATION … --base=NAME, or --study=NAME (--list says '
            'what each is for); ablations are ' + ', '.join(ablations.ABLATIONS)
        )
    workdir = command_line.local_path('workdir', _WORKDIR.value)
    given = places(_DATA_DIR.value, _PREPARED_DIR.value)
    with command_line.user_errors():
        if _STUDY.value and _BASE.value is not None:
            raise ValueError('--study has its own base; take --base away')
        if len(_STUDY.value) > 1 and names:
            raise ValueError(f'arms such as {names[0]!r} select of one --study')
        if given and not _STUDY.value:
            raise ValueError(
                '--data_dir and --prepared_dir are of a --study; with a base they are '
                '--base.data.data_dir and --base.data.prepared_dir'
            )
        sweeps = [
            of_study(
                studies.named(name),
                names,
                workdir,
                places=given,
                seeds=_SEEDS.value,
                first_seed=_FIRST_SEED.value,
            )
            for name in _STUDY.value
        ] or [of_ablations(names, workdir)]
        # Studies of one base share cells.
        by_workdir = {c.workdir: c for sweep in sweeps for c in sweep.cells}
        made = list(by_workdir.values())
        if _PRINT_COMMANDS.value:
            for cell in made:
                for command in cells.missing_commands(cell):
                    print(workers.as_shell(command))
            return
        for number, cell in enumerate(made, start=1):
            state = (
                f'to train, log in {cell.workdir}/log.txt'
                if cells.missing_commands(cell)
                else 'finished before'
            )
            print(
                f'[{number}/{len(made)}] {cell.path_in(workdir)}: {state}', flush=True
            )
        if _DRY_RUN.value:
            return
        prepare_once(made)

        def keep(cell: cells.Cell) -> None:
            for sweep in sweeps:
                if cell.workdir in {one.workdir for one in sweep.cells}:
                    keep_runs(sweep)

        failed = workers.run(made, workdir, _JOBS.value, ended=keep)
    for sweep in sweeps:
        keep_runs(sweep)
        write_tables(sweep)
    if failed:
        sys.exit(f'error: failed: {", ".join(failed)}; see log.txt in their workdirs')


if __name__ == '__main__':
    app.run(main, flags_parser=command_line.parse_flags)
