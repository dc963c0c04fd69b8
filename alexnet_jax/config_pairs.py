"""Values of a config that are right each for itself and must fit together."""

from ml_collections import ConfigDict

from alexnet_jax import model
from alexnet_jax.config_data_keys import base_splits


def check(config: ConfigDict) -> None:
    """Raises a ValueError of one line about values that contradict each other."""
    if not config.data.validation_split:
        raise ValueError(
            "config.data.validation_split='': a run needs one, by which its best "
            "checkpoint is chosen, such as 'train[90%:]' beside 'train[:90%]'"
        )
    trained = base_splits(config.data.train_split)
    if other := base_splits(config.data.training_error_split) - trained:
        raise ValueError(
            f'config.data.training_error_split={config.data.training_error_split!r} '
            f'reads {min(other)!r}: expected images of '
            f'config.data.train_split={config.data.train_split!r}'
        )
    if bool(config.train.epochs) == bool(config.train.steps):
        raise ValueError(
            f'config.train.epochs={config.train.epochs} and '
            f'config.train.steps={config.train.steps}: give exactly one, the other 0'
        )
    if config.data.crop_size > config.data.stored_size:
        raise ValueError(
            f'config.data.crop_size={config.data.crop_size} is larger than '
            f'config.data.stored_size={config.data.stored_size}'
        )
    _check_layers(config)
    pool = config.model.pool
    if pool.stride > pool.size:
        raise ValueError(
            f'config.model.pool.stride={pool.stride} is larger than '
            f'config.model.pool.size={pool.size}: pixels would be skipped'
        )
    if config.optimizer.bias_annealed and config.optimizer.bias_cuts:
        raise ValueError(
            f'config.optimizer.bias_cuts={config.optimizer.bias_cuts}: read only where '
            'config.optimizer.bias_annealed=False'
        )
    _check_events(config)
    for key in ('layer_rates', 'layer_decays'):
        for target, *_ in config.optimizer[key]:
            name = str(target)
            if key == 'layer_rates':  # may be of a kernel or a bias alone
                name = name.removesuffix('/kernel').removesuffix('/bias')
            _check_is_layer(name, f'optimizer.{key}', config)
    for name in config.init.copy:
        _check_is_layer(name, 'init.copy', config)
    if config.init.copy and not config.init.workdir:
        raise ValueError(
            f'config.init.copy={tuple(config.init.copy)} takes layers from another '
            'run: name its workdir, --config.init.workdir=DIR, or start them new, '
            '--config.init.copy="()"'
        )
    if config.init.workdir and not config.init.copy:
        raise ValueError(
            f'config.init.workdir={config.init.workdir!r}, but config.init.copy names '
            f'no layers to copy; there are {", ".join(config.model.layers)}'
        )
    towers, tower, data = config.model.towers, config.mesh.tower, config.mesh.data
    if tower and towers % tower:
        raise ValueError(
            f'config.mesh.tower={tower} does not divide config.model.towers={towers}'
        )
    for key in ('batch_size', 'eval_batch_size'):
        if data and config.train[key] % data:
            raise ValueError(
                f'config.train.{key}={config.train[key]} is not divisible by '
                f'config.mesh.data={data}'
            )
    # Builds the table of shapes, which finds widths that the towers do not divide.
    try:
        model.network_from_config(
            config.model, config.data.crop_size, config.model.num_classes or 10
        )
    except ValueError as error:
        size = f', config.data.crop_size={config.data.crop_size}'
        more = size if 'images are' in str(error) else ''
        raise ValueError(f'config.{error}{more}') from None


def _check_layers(config: ConfigDict) -> None:
    """Refuses what a layer's place in the net makes senseless."""
    *hidden, last = config.model.layers
    for key, value, only in (
        ('steps', tuple(config.model[last].steps), ()),
        ('reads', config.model[last].reads, 'all'),
    ):
        if value != only:
            raise ValueError(
                f'config.model.{last}.{key}={value!r}: expected {only!r}, since its '
                'output are the logits of all classes'
            )
    for name in hidden:
        table = config.model[name]
        if not table.init_std:
            raise ValueError(
                f'config.model.{name}.init_std={table.init_std}: expected a number '
                '> 0 and ≤ 10; the units of a hidden layer that start alike stay alike'
            )
        widest = max((n for pair in table.get('padding', ()) for n in pair), default=0)
        if widest and widest >= table.kernel:
            raise ValueError(
                f'config.model.{name}.padding={table.padding}: expected numbers below '
                f'config.model.{name}.kernel={table.kernel}, or a window would see '
                'nothing but padding'
            )


def _check_events(config: ConfigDict) -> None:
    """Refuses an event of the schedule that the run would end before."""
    optimizer, data = config.optimizer, config.data
    events = {
        'optimizer.layer_rates': [since for _, since, _ in optimizer.layer_rates],
        'optimizer.bias_cuts': optimizer.bias_cuts,
    }
    if optimizer.schedule == 'steps':
        events['optimizer.steps.epochs'] = optimizer.steps.epochs
    if data.colour_std:
        events['data.colour_off_epoch'] = [data.colour_off_epoch]
    key = 'schedule_epochs' if config.train.schedule_epochs else 'epochs'
    end = config.train[key]  # 0 if only the number of images says how long it is
    for name, epochs in events.items():
        late = [epoch for epoch in epochs if 0 < end <= epoch]
        if late:
            raise ValueError(
                f'config.{name}: epoch {late[0]:g} is not before the end, '
                f'config.train.{key}={end:g}; give an earlier one, or in '
                'config.train.schedule_epochs the length that the epochs are for'
            )


def _check_is_layer(name: str, key: str, config: ConfigDict) -> None:
    if name not in config.model.layers:
        raise ValueError(
            f'config.{key} names {name!r}, which is not among config.model.layers: '
            f'{", ".join(config.model.layers)}'
        )
