"""Finds the training images that are nearest to an image, as Figure 4 of the paper.

    python -m alexnet_jax.neighbours --workdir=runs/demo --split=test --figure=neighbours.png

looks for the six nearest training images of each query by the last hidden layer, by
pixels, and by a net with random weights, and prints how many of them are of its class.
Queries are a split of the run's data set, or files and folders of your own.

    python -m alexnet_jax.neighbours --workdir=runs/demo --split=test --probe=conv1,fc7

fits a linear classifier to the features of the training images besides, and prints its
error on the queries. The training images must be at hand; --config.data.data_dir and
--config.data.prepared_dir say where, if not where they were in training.
"""  # noqa: E501

from collections.abc import Sequence
from pathlib import Path

from alexnet_jax.system import huge_pages, signals, tensorflow_log

tensorflow_log.silence()
if __name__ == '__main__':
    huge_pages.enable()
    signals.listen()

from absl import app, flags, logging

from alexnet_jax.analysis import drawing, features, net
from alexnet_jax.run import data_changes
from alexnet_jax.system import command_line, compilation_cache, files, tables


def main(argv: Sequence[str]) -> None:
    """Finds and prints the neighbours of what the command line names."""
    logging.set_verbosity(logging.WARNING)
    paths = [Path(word) for word in argv[1:]]
    if not _WORKDIR.value:
        raise SystemExit('error: --workdir=DIR is needed, the folder of a run')
    if bool(paths) == bool(_SPLIT.value):
        raise SystemExit(
            'error: name either query images (files, or folders that hold them) or a '
            "split of the run's data set, --split=test"
        )
    compilation_cache.enable()
    with command_line.user_errors():
        if _FIGURE.value:
            drawing.check(command_line.local_path('figure', _FIGURE.value))
        if _OUTPUT.value:
            command_line.check_output('output', _OUTPUT.value)
        trained = net.load(_WORKDIR.value, checkpoint=_CHECKPOINT.value)
        layer = _LAYER.value or trained.network.layers[-2].name
        features.shapes(trained, [layer, *_PROBE.value])  # a wrong name, at once

        from alexnet_jax.analysis import (
            neighbour_picture,
            neighbour_search,
            prediction,
            prepared_split,
        )

        train = prepared_split.open_split(
            trained, 'train', data_changes.CHANGES, _LIMIT.value
        )
        looked_at = [train.split]
        if not _SPLIT.value:
            _, queries = features.files_of(trained, paths)
        else:
            queries = prepared_split.open_split(
                trained, _SPLIT.value, data_changes.CHANGES, _QUERIES.value
            )
            asked, among = queries.split, train.split
            looked_at.append(asked)
            if (asked.dataset.directory, asked.instruction) == (
                among.dataset.directory, among.instruction
            ):  # fmt: skip
                raise ValueError(
                    f'--split={_SPLIT.value} is what is looked among: each image would '
                    'be its own neighbour; name another split'
                )
        if data_changes.of_images(data_changes.CHANGES, trained.config.data):
            prediction.print_notes(*looked_at)
        found = neighbour_search.search(
            trained, queries, train,
            layer=layer, k=_NEIGHBOURS.value, seed=_SEED.value, probed=_PROBE.value,
        )  # fmt: skip
        print(f'{len(found.queries):,} queries among {train.count:,} training images')
        ks = list(dict.fromkeys([1, _NEIGHBOURS.value]))
        if rows := neighbour_search.precisions(found, ks):
            print(tables.aligned(rows))
        if found.probes:
            rows = [['linear probe of', 'C', 'error held out', 'error on the queries']]
            for tap, each in found.probes.items():
                errors = f'{each.held_out_error:.2%}', f'{each.error:.2%}'
                rows.append([tap, f'{each.strength:g}', *errors])
            print(tables.aligned(rows))
        if _OUTPUT.value:
            content = neighbour_search.as_json(found, train, trained.class_names)
            files.write_json(command_line.local_path('output', _OUTPUT.value), content)
            print(f'written to {_OUTPUT.value}')
        if _FIGURE.value:
            neighbour_picture.draw(
                found,
                train.split.images,
                trained.class_names,
                neighbour_picture.spread(found, _SHOWN.value),
                command_line.local_path('figure', _FIGURE.value),
            )
            print(f'drawn in {_FIGURE.value}')
    if found.unread:
        raise SystemExit(
            f'error: {found.unread:,} files could not be read, see above; the others '
            'are done'
        )


if __name__ == '__main__':
    _WORKDIR = flags.DEFINE_string('workdir', None, 'Of a run.')
    _CHECKPOINT = flags.DEFINE_enum(
        'checkpoint', 'best', ('best', 'latest'), 'By validation error, or the newest.'
    )
    _LAYER = flags.DEFINE_string(
        'layer', None, 'What distances are measured in; default: the last hidden layer.'
    )
    _SPLIT = flags.DEFINE_enum(
        'split',
        None,
        ('validation', 'test'),
        "Instead of files: a split of the run's data set.",
    )
    _QUERIES = flags.DEFINE_integer(
        'queries', 500, 'Images of the split that are queries, the first.',
        lower_bound=1,
    )  # fmt: skip
    _LIMIT = flags.DEFINE_integer(
        'limit', 0, 'Training images that are looked among, the first; 0: all.',
        lower_bound=0,
    )  # fmt: skip
    _NEIGHBOURS = flags.DEFINE_integer(
        'neighbours', 6, 'How many of each query.', lower_bound=1
    )
    _SEED = flags.DEFINE_integer('seed', 1, 'Of the random weights.', lower_bound=0)
    _PROBE = flags.DEFINE_list('probe', [], 'Taps for a linear probe, such as fc7.')
    _FIGURE = flags.DEFINE_string('figure', None, 'The picture (png, svg, pdf).')
    _SHOWN = flags.DEFINE_integer('shown', 5, 'Queries in the picture.', lower_bound=1)
    _OUTPUT = flags.DEFINE_string('output', None, 'JSON file for all neighbours.')
    app.run(main, flags_parser=data_changes.parse_flags)
