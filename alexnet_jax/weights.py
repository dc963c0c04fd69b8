"""Reads weights of other projects, writes them for others, says what a file holds.

    python -m alexnet_jax.weights inspect SOURCE
    python -m alexnet_jax.weights import SOURCE --workdir=DIR
    python -m alexnet_jax.weights export SOURCE --out=FILE

SOURCE is a file of any format that is read, the workdir of a run, or the folder of one
of its checkpoints, such as runs/demo/checkpoints/500. What is imported
becomes a workdir at step 0: evaluate, predict, features, training and fine-tuning take
it as one that was trained here. docs/weights.md has the formats, and what each loses.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from alexnet_jax.system import signals, tensorflow_log

tensorflow_log.silence()
if __name__ == '__main__':
    signals.listen()

from absl import app, flags, logging

from alexnet_jax.formats import companions, inspection, registry
from alexnet_jax.formats.weights import UnknownNetworkError, Weights, check_names
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
    verb, source = argv[1], Path(argv[2]).expanduser()
    needed = {'import': ('workdir', _WORKDIR), 'export': ('out', _OUT)}.get(verb)
    if needed and not needed[1].value:
        raise SystemExit(f'error: {verb} needs --{needed[0]}=…, what it writes')
    if _FORMAT.value and verb != 'export':
        raise SystemExit(
            f'error: --format={_FORMAT.value} is of the file that export writes; say '
            f'what {source} is with --from={_FORMAT.value}'
        )
    with command_line.user_errors():
        beside = verb == 'inspect' and not _FROM.value and source.is_file()
        if beside and (said := companions.text(source)):
            print(said)
            return
        try:
            weights = read(source)
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


def read(source: Path) -> Weights:
    """The weights of a workdir, a checkpoint or a file, with what the flags add."""
    absolute = source.absolute()
    of_file = {'from': _FROM, 'network': _NETWORK, 'mean': _MEAN, 'prototxt': _PROTOTXT}
    of_step = (source / 'meta').is_dir() and absolute.parent.name in (
        'checkpoints', 'best',
    )  # fmt: skip
    of_run = (source / 'checkpoints').is_dir() or (source / 'best').is_dir()
    given = [flag for flag, value in of_file.items() if value.value]
    if given and (of_run or of_step):
        raise ValueError(
            f'--{given[0]} is of a file of weights; {source} is of a run, which has '
            'its network and its mean image: leave it out'
        )
    if of_run:
        weights = transfer.weights_of(source, which=_CHECKPOINT.value)
    elif of_step:
        step = f'{absolute.parent.name}/{absolute.name}'
        if not absolute.name.isdecimal():  # one that was set aside
            raise ValueError(f'{source} is no step: its name is no number')
        weights = transfer.weights_of(absolute.parents[1], which=step)
    else:
        weights = registry.read(
            source,
            _FROM.value,
            network=_NETWORK.value,
            mean=os.path.expanduser(_MEAN.value),
            prototxt=os.path.expanduser(_PROTOTXT.value),
        )
    if not _CLASSES.value:
        return weights
    file = Path(_CLASSES.value).expanduser()
    if not file.is_file():
        raise ValueError(f'--classes={file}: there is no such file')
    try:
        names = file.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f'--classes={file} is not UTF-8 ({error}); save it as UTF-8, a name a line'
        ) from None
    check_names(names, f'--classes={file}')
    return dataclasses.replace(weights, class_names=tuple(names))


if __name__ == '__main__':
    _WORKDIR = flags.DEFINE_string('workdir', '', 'A new folder, which import makes.')
    _OUT = flags.DEFINE_string('out', '', 'The file, or folder, that export writes.')
    _FORMAT = flags.DEFINE_string(
        'format', '', 'Of what export writes; default: told by its suffix.'
    )
    _FROM = flags.DEFINE_string(
        'from', '', 'The format of SOURCE; default: told by its suffix.'
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
