"""Reads weights of other projects, writes them for others, says what a file holds.

    python -m alexnet_jax.weights inspect SOURCE
    python -m alexnet_jax.weights import FILE --workdir=DIR
    python -m alexnet_jax.weights export SOURCE --out=FILE

SOURCE is a file of any format that is read, or the workdir of a run. What is imported
becomes a workdir at step 0: evaluate, predict, features, training and fine-tuning take
it as one that was trained here. docs/weights.md has the formats, and what each loses.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from alexnet_jax.system import signals, tensorflow_log

tensorflow_log.silence()
if __name__ == '__main__':
    signals.listen()

from absl import app, flags, logging

from alexnet_jax.formats import inspection, registry
from alexnet_jax.formats.weights import UnknownNetworkError, Weights
from alexnet_jax.run import transfer
from alexnet_jax.system import command_line

VERBS = ('inspect', 'import', 'export')


def main(argv: Sequence[str]) -> None:
    """Does what the first word says with the file or workdir that the second names."""
    if len(argv) != 3 or argv[1] not in VERBS:
        raise SystemExit(
            f'error: expected {", ".join(VERBS[:-1])} or {VERBS[-1]} and one file or '
            'workdir, such as: python -m alexnet_jax.weights inspect FILE'
        )
    logging.set_verbosity(logging.WARNING)
    command_line.end_when_nobody_reads()
    verb, source = argv[1], Path(argv[2]).expanduser()
    needed = {'import': ('workdir', _WORKDIR), 'export': ('out', _OUT)}.get(verb)
    if needed and not needed[1].value:
        raise SystemExit(f'error: {verb} needs --{needed[0]}=…, what it writes')
    with command_line.user_errors():
        try:
            weights = read(source, '' if verb == 'export' else _FORMAT.value)
        except UnknownNetworkError as error:
            print(error.table, file=sys.stderr)
            raise
        if verb == 'inspect':
            print(inspection.text(weights))
        elif verb == 'import':
            workdir = command_line.local_path('workdir', _WORKDIR.value)
            transfer.make_workdir(weights, workdir)
            print(inspection.text(weights))
            print(f'\nwritten: {workdir}, a run at step 0')
            print(transfer.expected(weights, workdir))
        else:
            out = command_line.local_path('out', _OUT.value)
            written = registry.write(
                weights, out, _FORMAT.value, preprocess=_PREPROCESS.value or None
            )
            for path in written:
                print(f'written: {path}')


def read(source: Path, format: str) -> Weights:
    """The weights of a workdir or a file, with what the flags add."""
    if (source / 'checkpoints').is_dir() or (source / 'best').is_dir():
        weights = transfer.weights_of(source, which=_CHECKPOINT.value)
    else:
        weights = registry.read(
            source,
            format,
            network=_NETWORK.value,
            mean=_MEAN.value,
            prototxt=_PROTOTXT.value,
        )
    if not _CLASSES.value:
        return weights
    file = Path(_CLASSES.value)
    if not file.is_file():
        raise ValueError(f'--classes={file}: there is no such file')
    names = file.read_text(encoding='utf-8').splitlines()
    return dataclasses.replace(weights, class_names=tuple(names))


if __name__ == '__main__':
    _WORKDIR = flags.DEFINE_string('workdir', '', 'A new folder, which import makes.')
    _OUT = flags.DEFINE_string('out', '', 'The file, or folder, that export writes.')
    _FORMAT = flags.DEFINE_string(
        'format', '', 'Of the file; default: told by its suffix.'
    )
    _NETWORK = flags.DEFINE_string(
        'network', '', 'The shipped network that the file holds, if it does not say.'
    )
    _MEAN = flags.DEFINE_string('mean', '', "Caffe's mean image, a .binaryproto.")
    _PROTOTXT = flags.DEFINE_string('prototxt', '', "Caffe's definition of the net.")
    _CLASSES = flags.DEFINE_string(
        'classes', '', 'The names of the classes, one a line, in order of their labels.'
    )
    _PREPROCESS = flags.DEFINE_bool(
        'preprocess', False, 'For onnx: the graph takes squares, uint8 RGB.'
    )
    _CHECKPOINT = flags.DEFINE_enum(
        'checkpoint', 'best', ('best', 'latest'), 'Of a workdir.'
    )
    app.run(main, flags_parser=command_line.parse_flags)
