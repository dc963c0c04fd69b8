"""Errors of trained networks: one view or ten, one network or several, on any images.

    python -m alexnet_jax.evaluate --workdir=runs/a [--workdir=runs/b …] --views=10

Ten views are the paper's (§4.1): the four corners and the centre, each with its mirror,
probabilities averaged. Several workdirs make an ensemble: once with equal weights, once
with weights searched on the validation split, as the released source did, where that
is there. Prints a table and writes it as JSON.

    python -m alexnet_jax.evaluate --workdir=runs/a --report=report --split=test

adds what is right and wrong about each class, as text, CSV and pictures. On other
images, whose classes are found by their names:

    python -m alexnet_jax.evaluate --workdir=runs/a --split=test --config.data.source=folder --config.data.data_dir=DIR
"""  # noqa: E501

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alexnet_jax.system import huge_pages, signals, tensorflow_log

tensorflow_log.silence()
if __name__ == '__main__':
    huge_pages.enable()
    signals.listen()

from absl import app, flags, logging

from alexnet_jax import mesh as mesh_lib
from alexnet_jax.analysis import ensembles, prediction, report, submission, views
from alexnet_jax.data import sources
from alexnet_jax.run import config_file, data_changes, progress
from alexnet_jax.system import (
    command_line,
    compilation_cache,
    files,
    tables,
)

SPLITS = ('validation', 'test', 'train')


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as aligned text; without top-5 errors where there are few classes."""
    cells = [['network', 'examples', 'loss', 'top-1 error', 'top-5 error']]
    for row in rows:
        weights = row.get('weights')
        name = str(row['network'])
        if isinstance(weights, list) and len(set(weights)) > 1:
            name += ' ' + ' '.join(f'{w:g}' for w in weights)
        cells.append(
            [
                name,
                f'{row["examples"]:,}',
                f'{row["loss"]:.4f}',
                f'{row["top1_error"]:.2%}',
                f'{row["top5_error"]:.2%}',
            ]
        )
    if rows[0]['classes'] < progress.MANY_CLASSES:  # pyrefly: ignore
        cells = [line[:-1] for line in cells]
    return tables.aligned(cells)


def main(argv: Sequence[str]) -> None:
    """Evaluates what the flags name, prints the table and writes the JSON."""
    command_line.reject_positionals(argv)
    logging.set_verbosity(logging.WARNING)
    workdirs = [
        command_line.local_path('workdir', workdir) for workdir in _WORKDIR.value or ()
    ]
    if not workdirs:
        raise SystemExit('error: --workdir=DIR is needed, the folder of a run')
    if _VIEWS.value not in (1, 10):
        raise SystemExit(f'error: --views={_VIEWS.value}: expected 1 or 10')
    changes = data_changes.CHANGES
    out, folder, predictions = (
        command_line.local_path(flag, value) if value else None
        for flag, value in (
            ('out', _OUT.value),
            ('report', _REPORT.value),
            ('predictions', _PREDICTIONS.value),
        )
    )
    mesh_lib.request_cpu_devices(2)
    compilation_cache.enable()
    with command_line.user_errors():
        if folder:
            report.check(folder)
        if predictions:
            report.check_predictions(predictions)
        configs = [config_file.read(workdir.absolute()) for workdir in workdirs]
        for config in configs:
            views.warn_without_mirrors(config, _VIEWS.value)
        other_images = data_changes.name(changes, configs[0].data)
        name = f'{other_images}{_SPLIT.value}-{_VIEWS.value}view'
        guesses = out or workdirs[0] / f'submission-{name}.txt'
        out = out or workdirs[0] / f'evaluation-{name}.json'
        command_line.check_output('out', out)
        try:
            evaluation = ensembles.evaluate(
                workdirs,
                views=_VIEWS.value,
                split=_SPLIT.value,
                which=_CHECKPOINT.value,
                changes=changes,
            )
        except sources.NoLabelsError:
            _guess(workdirs, guesses)
            return
        content: dict[str, Any] = {
            'workdirs': [str(workdir) for workdir in workdirs],
            'checkpoint': _CHECKPOINT.value,
            'split': _SPLIT.value,
            'views': _VIEWS.value,
            'rows': evaluation.rows,
        }
        if changes:
            content['config.data'] = changes
        files.write_json(out, content)
        if other_images:
            prediction.print_notes(evaluation.split)
        print(table(evaluation.rows))
        if folder:
            print('\n' + report.write(evaluation, folder) + '\n')
        if predictions:
            report.write_predictions(evaluation, predictions)
    for written in (out, folder, predictions):
        if written:
            print(f'written to {written}')


def _guess(workdirs: Sequence[Path], out: Path) -> None:
    """Writes guesses where there are no labels to compare with."""
    if len(workdirs) > 1 or _REPORT.value or _PREDICTIONS.value:
        raise ValueError(
            f'the {_SPLIT.value} split has no labels: guesses can be written for one '
            '--workdir, without --report and --predictions'
        )
    count, numbered = submission.write(
        workdirs[0],
        out,
        split=_SPLIT.value,
        which=_CHECKPOINT.value,
        views=_VIEWS.value,
        changes=data_changes.CHANGES,
        class_numbers=Path(_CLASS_NUMBERS.value).expanduser()
        if _CLASS_NUMBERS.value
        else None,
    )
    print(
        f'the {_SPLIT.value} split has no labels: five guesses for each of {count:,} '
        f'images, in the order of their names, written to {out}'
    )
    if not numbered:
        print(
            'warning: classes are numbered 1, 2, … in their order; the numbers of '
            "ILSVRC's development kit need --class_numbers=map_clsloc.txt",
            file=sys.stderr,
        )


if __name__ == '__main__':
    _WORKDIR = flags.DEFINE_multi_string(
        'workdir', None, 'Of a run, or exported; give several for an ensemble.'
    )
    _VIEWS = flags.DEFINE_integer('views', 1, '1, the centre crop, or 10.')
    _SPLIT = flags.DEFINE_enum(
        'split', 'validation', SPLITS, "Which of the config's splits."
    )
    _CHECKPOINT = flags.DEFINE_enum(
        'checkpoint', 'best', ('best', 'latest'), 'By validation error, or the newest.'
    )
    _OUT = flags.DEFINE_string('out', None, 'JSON file; default: in the first workdir.')
    _REPORT = flags.DEFINE_string(
        'report',
        None,
        'Folder for the errors of each class, the confusion matrix, the calibration '
        'and the worst mistakes.',
    )
    _PREDICTIONS = flags.DEFINE_string(
        'predictions',
        None,
        'File for every example: .csv or .jsonl with the five best classes, .npz with '
        'all probabilities.',
    )
    _CLASS_NUMBERS = flags.DEFINE_string(
        'class_numbers',
        None,
        "For a split without labels: the development kit's map_clsloc.txt.",
    )
    app.run(main, flags_parser=data_changes.parse_flags)
