"""Draws the curves of runs: loss and errors against epochs.

    python -m alexnet_jax.figures --workdir=runs/cifar10 [--workdir=runs/other …]

writes `curves.png` from each workdir's metrics.jsonl: of one run into its workdir, of
several into the folder above the first, all in one picture. It needs matplotlib, which
`make install-dev` and the extra `figures` bring.
"""

from collections.abc import Sequence

from alexnet_jax.system import signals

if __name__ == '__main__':
    signals.listen()

from absl import app, flags

from alexnet_jax.analysis import curves, drawing
from alexnet_jax.system import command_line


def main(argv: Sequence[str]) -> None:
    """Draws the runs that the flags name and prints where the picture is."""
    command_line.reject_positionals(argv)
    workdirs = [
        command_line.local_path('workdir', workdir) for workdir in _WORKDIR.value or ()
    ]
    if not workdirs:
        raise SystemExit('error: --workdir=DIR is needed, the folder of a run')
    default = workdirs[0] if len(workdirs) == 1 else workdirs[0].resolve().parent
    output = command_line.local_path('output', _OUTPUT.value or default / 'curves.png')
    with command_line.user_errors():
        runs = curves.read_runs(workdirs)
        drawing.check(output)
        curves.plot_curves(runs, output)
    print(output)


if __name__ == '__main__':
    _WORKDIR = flags.DEFINE_multi_string(
        'workdir', None, 'Of a run; give several to draw them in one picture.'
    )
    _OUTPUT = flags.DEFINE_string(
        'output', None, 'The picture; its suffix says the format: png, svg, pdf.'
    )
    app.run(main, flags_parser=command_line.parse_flags)
