"""Writes the features of photographs, or of a data set, at any layers.

    python -m alexnet_jax.features --workdir=runs/demo --layers=conv1/linear,conv1,fc7 photographs/

writes `conv1.linear.npy`, `conv1.npy`, `fc7.npy` and `images.csv`, which names the
image of each row, into the folder `features`. `conv1/linear` is a layer's weighted sum,
`conv1/lrn` the output of one of its steps, `conv1` that of the layer. A file that cannot
be read is named, the others are done, and the exit status is 1.

    python -m alexnet_jax.features --workdir=runs/demo --split=test --format=hdf5 --output=test_features

does the same of a split of the run's data set, or of another, which --config.data.source,
--config.data.data_dir and the like name as for evaluate. docs/features.md has the files and how to
read them.
"""  # noqa: E501

from collections.abc import Sequence
from pathlib import Path

from alexnet_jax.system import huge_pages, signals, tensorflow_log

tensorflow_log.silence()
if __name__ == '__main__':
    huge_pages.enable()
    signals.listen()

from absl import app, flags, logging

from alexnet_jax.analysis import feature_files, features, net, views
from alexnet_jax.run import data_changes
from alexnet_jax.system import command_line, compilation_cache


def main(argv: Sequence[str]) -> None:
    """Writes the features of what the command line names."""
    logging.set_verbosity(logging.WARNING)
    paths = [Path(word) for word in argv[1:]]
    if not _WORKDIR.value:
        raise SystemExit('error: --workdir=DIR is needed, the folder of a run')
    if bool(paths) == bool(_SPLIT.value):
        raise SystemExit(
            'error: name either images (files, or folders that hold them) or a split '
            "of the run's data set, --split=test"
        )
    if _VIEWS.value not in (1, 10):
        raise SystemExit(f'error: --views={_VIEWS.value}: expected 1 or 10')
    compilation_cache.enable()
    with command_line.user_errors():
        trained = net.load(_WORKDIR.value, checkpoint=_CHECKPOINT.value)
        views.warn_without_mirrors(trained.config, _VIEWS.value)
        taps = _LAYERS.value or [trained.network.layers[-2].name]
        features.shapes(trained, taps)  # a wrong name, before anything is read
        if not _SPLIT.value:
            count, pictures = features.files_of(trained, paths)
        else:
            # It imports TensorFlow, which files do not need.
            from alexnet_jax.analysis import prediction, prepared_split

            pictures = prepared_split.open_split(
                trained, _SPLIT.value, data_changes.CHANGES
            )
            count = pictures.count
            if data_changes.of_images(data_changes.CHANGES, trained.config.data):
                prediction.print_notes(pictures.split)
        written, bad = features.write(
            trained,
            taps,
            pictures,
            count,
            command_line.local_path('output', _OUTPUT.value),
            form=_FORMAT.value,
            views=_VIEWS.value,
            memory_bytes=_MEMORY_GB.value * 1e9,
        )
    files = [path.name for path in written.written]
    shown = ', '.join(files[:6]) + (
        f' … ({len(files)} files)' if len(files) > 6 else ''
    )
    print(f'{written.count:,} images: {shown or "nothing"} in {written.folder}')
    if bad:
        raise SystemExit(
            f'error: {bad:,} of {count:,} files could not be read, see above; the '
            'others are done'
        )


if __name__ == '__main__':
    _WORKDIR = flags.DEFINE_string('workdir', None, 'Of a run, or exported.')
    _CHECKPOINT = flags.DEFINE_enum(
        'checkpoint', 'best', ('best', 'latest'), 'By validation error, or the newest.'
    )
    _LAYERS = flags.DEFINE_list(
        'layers', [], 'Taps, with commas between; default: the last hidden layer.'
    )
    _SPLIT = flags.DEFINE_enum(
        'split',
        None,
        ('train', 'validation', 'test'),
        "Instead of files: a split of the run's data set, or of the one that "
        '--config.data.… names.',
    )
    _VIEWS = flags.DEFINE_integer('views', 1, '1, the centre crop, or the mean of 10.')
    _FORMAT = flags.DEFINE_enum(
        'format', 'npy', list(feature_files.WRITERS), 'Of the files.'
    )
    _OUTPUT = flags.DEFINE_string('output', 'features', 'Folder for the files.')
    _MEMORY_GB = flags.DEFINE_float(
        'memory_gb',
        1.0,
        'Features that are held; more are written in numbered parts.',
        lower_bound=1e-6,
    )
    app.run(main, flags_parser=data_changes.parse_flags)
