"""Measures on the nets that a study's cells have trained.

    python -m experiments.inspect_cells --study=figure3,figure4 --workdir=runs/studies

For each finished cell of a sweep's workdir it measures what the study asks of its net
(`experiments/inspections/`) and keeps it there in `measured.json`, one cell after
another: what was measured before is not measured again, so that the command may be
stopped and started at any time, also while a sweep goes on. The numbers come with the
runs into `<workdir>/records/<study>.jsonl`, from which `experiments.summarize` makes
the record; pictures of the first arm's seed 0 lie beside it.

A cell of an earlier version gets the class names and the mean image of its data set,
if its net then has the loss that was logged.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from alexnet_jax.system import tensorflow_log

tensorflow_log.silence()

from absl import app, flags, logging

from alexnet_jax.run import provenance
from alexnet_jax.system import command_line
from experiments import cells, measured, runs, studies, study_cells
from experiments.inspections import INSPECTIONS, adoption
from experiments.study_cells import Sweep


def finished(sweep: Sweep) -> list[cells.Cell]:
    """The cells that have come to their end.

    Raises:
      ValueError: none has, or the study asks for nothing.
    """
    assert sweep.study
    name = sweep.study.name
    if not sweep.study.inspections:
        able = [s.name for s in studies.STUDIES.values() if s.inspections]
        raise ValueError(
            f'--study={name} measures nothing on its nets; {", ".join(able)} do'
        )
    found = [cell for cell in sweep.cells if cells.read_result(cell) is not None]
    if not found:
        raise ValueError(
            f'--workdir={sweep.workdir} has no finished cell of {name}; train them '
            f'with python -m experiments.sweep --study={name}'
        )
    return found


def inspect(sweep: Sweep, changes: Mapping[str, Any]) -> int:
    """Measures what is missing, and draws.

    Args:
      sweep: of a study.
      changes: of config.data, where the data are other than in training.

    Returns:
      how many measurements were made.
    """
    assert sweep.study
    there = finished(sweep)
    by_cell = {(cell.arm, cell.seed): cell for cell in there}
    commit = runs.commit(provenance.provenance())
    made = 0
    for cell in there:
        if adoption.adopt(cell, changes):
            print(f'{cell.name}: of an earlier version; its loss is as logged')
    for cell in there:
        for name in sweep.study.inspections:
            group = [
                by_cell.get((cell.arm, seed))
                for seed in INSPECTIONS[name].seeds(cell.seed)
            ]
            workdirs = [member.workdir for member in group if member]
            if not workdirs or len(workdirs) < len(group):
                continue  # no group begins here, or a member is not finished
            if name in measured.read(cell.workdir):
                continue
            began = time.monotonic()
            numbers = INSPECTIONS[name].measure(workdirs, changes)
            measured.add(cell.workdir, name, numbers, commit)
            study_cells.keep_runs(sweep)
            made += 1
            took = time.monotonic() - began
            print(f'{cell.name}: {name} in {took:.1f} s', flush=True)
    study_cells.keep_runs(sweep)
    draw(sweep, by_cell, changes)
    return made


def draw(
    sweep: Sweep,
    by_cell: Mapping[tuple[str, int], cells.Cell],
    changes: Mapping[str, Any],
) -> None:
    """Draws the pictures of the first arm's seed 0 that are not there yet."""
    assert sweep.study
    shown = by_cell.get((sweep.study.arms[0], 0))
    if shown is None:
        return
    folder = sweep.workdir / 'records' / sweep.study.name
    for name in sweep.study.inspections:
        for file, picture in INSPECTIONS[name].pictures.items():
            if not (folder / file).is_file():
                folder.mkdir(parents=True, exist_ok=True)
                picture(shown.workdir, changes, folder / file)
                print(f'drawn: {folder / file}')


def main(argv: Sequence[str]) -> None:
    """Inspects the studies named, one after the other."""
    command_line.reject_positionals(argv)
    logging.set_verbosity(logging.WARNING)
    if not _STUDY.value:
        sys.exit('error: --study=NAME is needed, of experiments.sweep --list')
    workdir = command_line.local_path('workdir', _WORKDIR.value)
    places = study_cells.places(_DATA_DIR.value, _PREPARED_DIR.value)
    changes = {key.removeprefix('data.'): value for key, value in places.items()}
    with command_line.user_errors():
        sweeps = [
            study_cells.of_study(
                studies.named(name), (), workdir, places=places, seeds=_SEEDS.value
            )
            for name in _STUDY.value
        ]
        for sweep in sweeps:
            finished(sweep)
        for name, sweep in zip(_STUDY.value, sweeps, strict=True):
            there = len(finished(sweep))
            made = inspect(sweep, changes)
            print(f'{name}: {there} of {len(sweep.cells)} cells, {made} measured now')


if __name__ == '__main__':
    _STUDY = flags.DEFINE_list('study', [], 'Studies whose cells are inspected.')
    _WORKDIR = flags.DEFINE_string('workdir', 'runs/studies', 'Of their sweep.')
    _SEEDS = flags.DEFINE_integer(
        'seeds', None, 'Seeds 0 … N−1; default: as the study says.', lower_bound=1
    )
    _DATA_DIR = flags.DEFINE_string(
        'data_dir', '', 'config.data.data_dir, if it is another than in training.'
    )
    _PREPARED_DIR = flags.DEFINE_string(
        'prepared_dir', '', 'config.data.prepared_dir, likewise.'
    )
    app.run(main, flags_parser=command_line.parse_flags)
