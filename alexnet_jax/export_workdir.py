"""Copies what prediction needs of a run into a folder of its own.

    python -m alexnet_jax.export_workdir --workdir=runs/demo --output=demo-net

leaves the weights, the config, the class names and the mean image: a third of a
workdir's bytes or less, 244 MB for the paper's net. `predict`, `evaluate` and
`alexnet_jax.load` take it as they take the run itself, here or on another machine; the
run cannot be gone on with from it.
"""

from collections.abc import Sequence

from alexnet_jax.system import signals

if __name__ == '__main__':
    signals.listen()

from absl import app, flags, logging

from alexnet_jax.analysis import export
from alexnet_jax.system import command_line


def main(argv: Sequence[str]) -> None:
    """Exports what the flags name and says how large it is."""
    command_line.reject_positionals(argv)
    logging.set_verbosity(logging.WARNING)
    if not _WORKDIR.value or not _OUTPUT.value:
        raise SystemExit('error: --workdir=DIR and --output=DIR are needed')
    with command_line.user_errors():
        size = export.export(
            command_line.local_path('workdir', _WORKDIR.value),
            command_line.local_path('output', _OUTPUT.value),
            which=_CHECKPOINT.value,
        )
    print(f'{_OUTPUT.value}: {size / 1e6:.1f} MB')


if __name__ == '__main__':
    _WORKDIR = flags.DEFINE_string('workdir', None, 'Of a run.')
    _OUTPUT = flags.DEFINE_string('output', None, 'A new folder.')
    _CHECKPOINT = flags.DEFINE_enum(
        'checkpoint', 'best', ('best', 'latest'), 'By validation error, or the newest.'
    )
    app.run(main, flags_parser=command_line.parse_flags)
