"""Reads weights of other projects, writes them for others, says what a file holds.

    python -m alexnet_jax.weights inspect FILE
    python -m alexnet_jax.weights export FILE --out=FILE

FILE is of any format that is read. docs/weights.md has the formats, and what each
keeps and loses.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from alexnet_jax.formats import inspection, registry
from alexnet_jax.formats.weights import UnknownNetworkError, Weights
from alexnet_jax.system import command_line

VERBS = ('export', 'inspect')


def main(argv: Sequence[str]) -> None:
    """Does what the first word says with the file that the second names."""
    if len(argv) != 3 or argv[1] not in VERBS:
        raise SystemExit(
            f'error: expected {", ".join(VERBS[:-1])} or {VERBS[-1]} and one file, '
            'such as: python -m alexnet_jax.weights inspect FILE'
        )
    verb, source = argv[1], Path(argv[2])
    with command_line.user_errors():
        try:
            weights = read(source)
        except UnknownNetworkError as error:
            print(error.table, file=sys.stderr)
            raise
        if verb == 'inspect':
            print(inspection.text(weights))
        elif not _OUT.value:
            raise ValueError('export needs --out=FILE')
        else:
            out = command_line.local_path('out', _OUT.value)
            for path in registry.write(weights, out, _FORMAT.value):
                print(f'written: {path}')


def read(source: Path) -> Weights:
    """The weights of a file, with what the flags add."""
    return registry.read(source, network=_NETWORK.value)


if __name__ == '__main__':
    _OUT = flags.DEFINE_string('out', '', 'The file, or folder, that export writes.')
    _FORMAT = flags.DEFINE_string('format', '', 'Of the file; default: by its suffix.')
    _NETWORK = flags.DEFINE_string(
        'network', '', 'The shipped network that the file holds, if it does not say.'
    )
    app.run(main, flags_parser=command_line.parse_flags)
