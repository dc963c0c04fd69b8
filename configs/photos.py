"""Your own photographs, from a hundred on: sizes and rates follow their number.

    python -m alexnet_jax.main --config=photos --config.data.data_dir=DIR
    python -m alexnet_jax.main --config=photos --config.data.data_dir=DIR \
        --config.init.workdir=RUN

DIR holds `train/<class>/*.jpg`, and `validation/` and `test/` likewise if you have
them; without `validation/` a fifth of `train/` is held out for validation.
`<class>/*.jpg` alone is divided (docs/preparation.md). The first command trains a net
from scratch, the second goes on from the layers of another run of photographs, whose
errors with 150 and 1,500 are in experiments/records/photos/table.md. Whatever you set
yourself stays as you set it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.configs import clothing, paper

# From so many photographs to learn from on: batch, epochs, width, rate. What is small
# needs many more steps an epoch than 128 at a time would leave, and fewer maps.
FROM_SCRATCH = (
    (0, 16, 60.0, 0.125, 0.005),
    (500, 32, 40.0, 0.125, 0.01),
    (2_000, 128, 20.0, 0.25, 0.01),  # configs/clothing.py's; the next two not measured
    (20_000, 128, 20.0, 0.5, 0.01),
    (200_000, 128, 30.0, 1.0, 0.01),
)
# Batch, epochs, rate; the width is the other run's.
FROM_RUN = (
    (0, 16, 30.0, 0.005),
    (500, 32, 10.0, 0.01),
    (5_000, 64, 8.0, 0.01),  # not measured
)
# The new last layer learns alone for this part of the run, so that its first, random
# gradients do not undo what the others know; then they follow at a part of its rate.
ALONE, FOLLOWING = 1 / 3, 0.2


def get_config() -> ConfigDict:
    config = clothing.get_config()
    config.data.train_split = 'train[:80%]'
    config.data.validation_split = 'train[80%:]'
    config.data.test_split = ''
    _set(config, FROM_SCRATCH[0])
    config.train.log_every_steps = 10
    config.train.eval_batch_size = 64
    return config


def complete(config: ConfigDict, given: Mapping[str, Any]) -> str:
    """Chooses what depends on the photographs, once the folder is known.

    Args:
      config: of `get_config`, with the overrides.
      given: the overrides by dotted key, which stand.

    Returns:
      What was chosen, for the terminal.

    Raises:
      ValueError: the folder or the run is not there, or not of the right form.
    """
    if config.data.source != 'folder':
        raise ValueError(
            f'config.data.source={config.data.source!r}: the config photos counts the '
            'images of a folder; take the config clothing for other sets'
        )
    # Within the function: a config is looked at where no data are read.
    from alexnet_jax import config as config_lib
    from alexnet_jax.data import listing

    sizes = listing.open_folder(config.data).split_sizes
    if 'validation' in sizes:
        config.data.train_split, config.data.validation_split = 'train', 'validation'
    if 'test' in sizes:
        config.data.test_split = 'test'
    config.update_from_flattened_dict(given)  # the splits, of which one counts
    images = _count(config, sizes)
    with config.unlocked():
        said = (
            _go_on_from_run(config, images)
            if config.init.workdir
            else _from_scratch(config, images, given)
        )
    if lacking := given.keys() - dict(config_lib.flat(config)).keys():
        raise ValueError(
            f'config.{min(lacking)}: the network of {config.init.workdir}, which this '
            'run takes, has no such key; leave it out'
        )
    if isinstance(config.data.scale, tuple) and 'data.scale' in given:
        raise ValueError(
            f'config.data.scale={given["data.scale"]}: the network of '
            f'{config.init.workdir}, which this run takes, has a scale for each '
            'channel; leave it out'
        )
    config.update_from_flattened_dict(given)
    train, rate = config.train, config.optimizer.learning_rate
    length = f'{train.epochs:g} epochs' if train.epochs else f'{train.steps:,} steps'
    return (
        f'{images:,} photographs to learn from: batches of {train.batch_size}, '
        f'{length}, rate {rate:g}, {said}'
    )


def _count(config: ConfigDict, sizes: Mapping[str, int]) -> int:
    """How many photographs the training split reads, as its name says."""
    from alexnet_jax.data import splits

    names = splits.base_splits(config.data.train_split)
    if missing := [name for name in names if name not in sizes]:
        folder = config.data.data_dir
        raise ValueError(
            f'{folder} has no folder {missing[0]!r}; photographs to learn from lie in '
            f'{folder}/{missing[0]}/<class>/*.jpg, or all in {folder}/<class>/*.jpg'
        )
    count = sum(sizes[name] for name in names)
    return round(0.8 * count) if config.data.train_split == 'train[:80%]' else count


def _set(config: ConfigDict, row: tuple[float, ...]) -> None:
    _, config.train.batch_size, config.train.epochs, width, rate = row
    config.optimizer.learning_rate = rate
    config.model.width = width
    paper.start_as_he(config)


def _from_scratch(config: ConfigDict, images: int, given: Mapping[str, Any]) -> str:
    _set(config, _row(FROM_SCRATCH, images))
    if 'model.width' in given:  # before the deviations, which follow it
        config.model.width = given['model.width']
        paper.start_as_he(config)
    said = f'width {config.model.width:g}, from scratch'
    if images < FROM_SCRATCH[2][0]:
        said += (
            '; with so few, try to go on from the layers of another run of '
            'photographs, --config.init.workdir=RUN'
        )
    return said


def _go_on_from_run(config: ConfigDict, images: int) -> str:
    from alexnet_jax.run import config_file

    other = config_file.read(Path(config.init.workdir).expanduser())
    _, config.train.batch_size, config.train.epochs, rate = _row(FROM_RUN, images)
    config.optimizer.learning_rate = rate
    # The same network must see the same kind of image.
    config.model = other.model
    config.model.num_classes = 0
    with config.ignore_type():  # a scale is one number or three
        for key in ('stored_size', 'fit', 'crop_size', 'mean', 'scale'):
            config.data[key] = other.data[key]
    *copied, new = config.model.layers
    config.init.copy = tuple(copied)
    config.train.schedule_epochs = config.train.epochs
    start = ALONE * config.train.epochs
    config.optimizer.layer_rates = (
        *((name, 0.0, 0.0) for name in copied),
        *((name, start, FOLLOWING) for name in copied),
    )
    return (
        f'from the layers {copied[0]} to {copied[-1]} of {config.init.workdir}, whose '
        f'network it is; {new} is new and learns alone for the first third'
    )


def _row(table: tuple[tuple[float, ...], ...], images: int) -> tuple[float, ...]:
    """The last row whose number is reached."""
    return [row for row in table if images >= row[0]][-1]
