"""Errors of trained networks: one view or ten, one network or an ensemble.

    python -m alexnet_jax.evaluate --workdir=runs/a [--workdir=runs/b …] --views=10

Ten views are the paper's (§4.1): the four corners and the centre, each with its mirror,
probabilities averaged. Several workdirs make an ensemble: once with equal weights, once
with weights searched on the validation split, as the released source did. Prints a
table and writes it as JSON.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from alexnet_jax.system import huge_pages, signals, tensorflow_log

tensorflow_log.silence()
if __name__ == '__main__':
    signals.listen()
    huge_pages.enable()

from absl import app, flags, logging

from alexnet_jax import mesh as mesh_lib
from alexnet_jax.analysis import ensembles
from alexnet_jax.run import progress
from alexnet_jax.system import command_line, compilation_cache, files, tables

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
    workdirs = [Path(workdir) for workdir in _WORKDIR.value or ()]
    if not workdirs:
        raise SystemExit('error: --workdir=DIR is needed, the folder of a run')
    if _VIEWS.value not in (1, 10):
        raise SystemExit(f'error: --views={_VIEWS.value}: expected 1 or 10')
    name = f'evaluation-{_SPLIT.value}-{_VIEWS.value}view.json'
    out = Path(_OUT.value) if _OUT.value else workdirs[0] / name
    if _OUT.value and not os.access(out.parent, os.W_OK | os.X_OK):
        raise SystemExit(f'error: --out={out}: {out.parent} cannot be written')
    mesh_lib.request_cpu_devices(2)
    compilation_cache.enable()
    with command_line.user_errors():
        rows = ensembles.evaluate(
            workdirs, views=_VIEWS.value, split=_SPLIT.value, which=_CHECKPOINT.value
        )
    print(table(rows))
    files.write_json(
        out,
        {
            'workdirs': [str(workdir) for workdir in workdirs],
            'checkpoint': _CHECKPOINT.value,
            'split': _SPLIT.value,
            'views': _VIEWS.value,
            'rows': rows,
        },
    )
    print(f'written to {out}')


if __name__ == '__main__':
    _WORKDIR = flags.DEFINE_multi_string(
        'workdir', None, 'Of a run; give several for an ensemble.'
    )
    _VIEWS = flags.DEFINE_integer('views', 1, '1, the centre crop, or 10.')
    _SPLIT = flags.DEFINE_enum(
        'split', 'validation', SPLITS, "Which of the config's splits."
    )
    _CHECKPOINT = flags.DEFINE_enum(
        'checkpoint', 'best', ('best', 'latest'), 'By validation error, or the newest.'
    )
    _OUT = flags.DEFINE_string('out', None, 'JSON file; default: in the first workdir.')
    app.run(main, flags_parser=command_line.parse_flags)
