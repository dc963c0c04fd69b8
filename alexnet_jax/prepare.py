"""Turns a data set into square records, with its mean image and colour PCA.

    python -m alexnet_jax.prepare --source=imagenet2012 --workers=8
    python -m alexnet_jax.prepare --config=cifar10 --workers=2

One of the two is needed: --config=NAME prepares what the `data` part of a config
describes; --source=NAME (a TFDS name, or 'folder' with --config.data.data_dir=DIR)
alone takes the rest from the config paper. Either goes with --config.data.KEY=VALUE.
--verify reads a prepared set again, every record of it. docs/preparation.md has what it
writes, the decoders and the checks.
"""

import sys
from collections.abc import Sequence

from alexnet_jax.system import signals

if __name__ == '__main__':
    signals.listen(goes_on=True)

import numpy as np
from absl import app, flags, logging

from alexnet_jax import config
from alexnet_jax.data import prepare, prepared, report, verify
from alexnet_jax.system import command_line


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses the flags; --source without --config stands on the config paper."""
    names = [a.lstrip('-').partition('=')[0] for a in argv[1:] if a.startswith('-')]
    if 'source' in names and 'config.data.source' in names:
        sys.exit(
            'error: --source and --config.data.source name the same thing; give one'
        )
    if 'source' in names and 'config' not in names:
        argv = [argv[0], '--config=paper', *argv[1:]]
    return command_line.parse_flags(argv)


def main(argv: Sequence[str]) -> None:
    """Prepares what the flags describe and prints what there is."""
    command_line.reject_positionals(argv)
    logging.set_verbosity(logging.WARNING)
    if _WORKERS.value < 1:
        raise SystemExit(
            f'error: --workers={_WORKERS.value} is not allowed; at least 1'
        )
    if _CONFIG.value is None:
        raise SystemExit(
            'error: --source=NAME or --config=NAME is needed, e.g. '
            '--source=imagenet2012 or --config=cifar10'
        )
    command_line.complete(_CONFIG)
    data = _CONFIG.value.data  # the network need not fit it
    if _SOURCE.value is not None:
        data.source = _SOURCE.value
    with command_line.user_errors():
        config.validate_data(data)
        if _VERIFY.value:
            dataset = prepare.open_prepared(data, prepare_missing=False)
            count = verify.verify(dataset, data)
            print(f'verified: {count:,} records are as they were written')
        else:
            source = prepare.open_source(data)
            directory = prepare.prepare(
                data, source, workers=_WORKERS.value, skip_bad=_SKIP_BAD.value
            )
            dataset = prepared.load(directory, data, source)
        about = list(report.lines(dataset, data))
    for split, count in sorted(dataset.split_sizes.items()):
        listed = prepared.undecodable_report(dataset.directory, split)
        left_out = dataset.left_out[split]
        more = f', {left_out:,} left out, listed in {listed}' if left_out else ''
        print(f'{split}: {count:,} images{more}')
    print(f'classes: {dataset.num_classes}')
    means = dataset.mean_image.mean((0, 1), np.float64)
    colour = ', '.join(f'{mean:.1f}' for mean in means)
    print(f'mean colour (RGB): {colour}')
    print('\n'.join(about))
    if not _PARTIAL.value and any(prepare.differences_from_published(dataset, data)):
        raise SystemExit(
            f'error: this is not the whole of {data.source}, see the warnings; the '
            'records are good, and --partial accepts them'
        )


if __name__ == '__main__':
    _CONFIG = command_line.define_config()
    _SOURCE = flags.DEFINE_string(
        'source',
        None,
        "A TFDS name, or 'folder' with --config.data.data_dir=DIR; without --config "
        'the rest is that of the config paper.',
    )
    _WORKERS = flags.DEFINE_integer('workers', 1, 'Processes that decode and resize.')
    _SKIP_BAD = flags.DEFINE_bool(
        'skip_bad',
        False,
        'Leave images out that cannot be decoded, instead of stopping; either way '
        'undecodable-<split>.txt lists them.',
    )
    _VERIFY = flags.DEFINE_bool(
        'verify',
        False,
        'Prepare nothing; read every record of the set that is there, and compare it '
        'with what was written.',
    )
    _PARTIAL = flags.DEFINE_bool(
        'partial', False, 'Accept fewer images than the source is published with.'
    )
    app.run(main, flags_parser=parse_flags)
