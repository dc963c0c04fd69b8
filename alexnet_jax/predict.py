"""Predicts the classes of photographs with a trained network.

    python -m alexnet_jax.predict --workdir=runs/demo photograph.jpg folder/

prints the five best classes of each file with their probabilities. Folders are read
with all that is in them. The data set that the network was trained on is not needed.

    python -m alexnet_jax.predict --workdir=runs/demo folder/ --format=csv --output=guesses.csv --figure=guesses.png

writes them to a file, and draws eight of the images with their guesses, as Figure 4 of
the paper. A file that cannot be read is named, the others are done, and the exit status
is 1; with --format=ilsvrc, whose lines have no names, it ends the command.
"""  # noqa: E501

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from alexnet_jax.system import huge_pages, signals

if __name__ == '__main__':
    huge_pages.enable()
    signals.listen()

from absl import app, flags, logging

from alexnet_jax.analysis import drawing, guesses, net, panels, views
from alexnet_jax.data import entries
from alexnet_jax.system import command_line, compilation_cache, files

SHOWN = 8  # images of Figure 4, left


def main(argv: Sequence[str]) -> None:
    """Predicts what the command line names and says what could not be read."""
    logging.set_verbosity(logging.WARNING)
    paths = [Path(word) for word in argv[1:]]
    if not _WORKDIR.value:
        raise SystemExit('error: --workdir=DIR is needed, the folder of a run')
    if not paths:
        raise SystemExit('error: name the images: files, or folders that hold them')
    if _VIEWS.value not in (1, 10):
        raise SystemExit(f'error: --views={_VIEWS.value}: expected 1 or 10')
    compilation_cache.enable()
    with command_line.user_errors():
        if _FIGURE.value:
            drawing.check(command_line.local_path('figure', _FIGURE.value))
        if _OUTPUT.value:
            command_line.check_output('output', _OUTPUT.value)
            if _OUTPUT.value.lower().endswith(entries.SUFFIXES):
                raise ValueError(
                    f'--output={_OUTPUT.value} is the name of an image, and what is '
                    'written is text; --figure=FILE draws a picture'
                )
        trained = net.load(_WORKDIR.value, checkpoint=_CHECKPOINT.value)
        views.warn_without_mirrors(trained.config, _VIEWS.value)
        numbers = None
        if _CLASS_NUMBERS.value:
            file = Path(_CLASS_NUMBERS.value).expanduser()
            numbers = guesses.ilsvrc_numbers(file, trained.class_names)
        counted = guesses.count(paths)
        with _output(_OUTPUT.value, whole=_FORMAT.value == 'ilsvrc') as file:
            shown, bad = guesses.write(
                trained,
                paths,
                counted,
                file,
                how=_FORMAT.value,
                top=_TOP.value,
                views=_VIEWS.value,
                numbers=numbers,
                shown=SHOWN if _FIGURE.value else 0,
            )
        if _FIGURE.value and shown:
            panels.draw_guesses(
                shown, trained, command_line.local_path('figure', _FIGURE.value)
            )
            print(f'drawn in {_FIGURE.value}', file=sys.stderr)
    if bad:
        total = counted.total
        done = 'the others are done' if bad < total else 'nothing was predicted'
        raise SystemExit(
            f'error: {bad:,} of {total:,} files could not be read, see above; {done}'
        )


@contextlib.contextmanager
def _output(name: str | None, *, whole: bool) -> Iterator[TextIO]:
    """The file that the lines go to as they come; stdout without a name.

    Args:
      name: of the file.
      whole: the file is there when the block ends without an error, and not before.
    """
    if not name:
        yield sys.stdout
        return
    path = command_line.local_path('output', name)
    with (
        files.whole(path) if whole else contextlib.nullcontext(path) as written,
        written.open('w', encoding='utf-8') as file,
    ):
        yield file


if __name__ == '__main__':
    _WORKDIR = flags.DEFINE_string('workdir', None, 'Of a run, or exported.')
    _CHECKPOINT = flags.DEFINE_enum(
        'checkpoint', 'best', ('best', 'latest'), 'By validation error, or the newest.'
    )
    _TOP = flags.DEFINE_integer('top', 5, 'Classes of each image.', lower_bound=1)
    _VIEWS = flags.DEFINE_integer('views', 1, '1, the centre crop, or 10.')
    _FORMAT = flags.DEFINE_enum(
        'format',
        'table',
        guesses.FORMATS,
        'How the lines look; ilsvrc: five numbers of classes a line, as the '
        'challenge asks for.',
    )
    _OUTPUT = flags.DEFINE_string('output', None, 'File for the lines; default: print.')
    _FIGURE = flags.DEFINE_string(
        'figure', None, 'Picture of eight images with their guesses (png, svg, pdf).'
    )
    _CLASS_NUMBERS = flags.DEFINE_string(
        'class_numbers',
        None,
        "For ilsvrc: the development kit's map_clsloc.txt; default: 1, 2, … in the "
        'order of the classes.',
    )
    app.run(main, flags_parser=command_line.parse_flags)
