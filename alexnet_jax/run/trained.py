"""A workdir's best network: what evaluation, fine-tuning and prediction start from."""

import dataclasses
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax import mesh as mesh_lib
from alexnet_jax import model as model_lib
from alexnet_jax import optimizer, train_state
from alexnet_jax.run import checkpoint, config_file
from alexnet_jax.system.files import read_json


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained network and the config that it was trained with."""

    workdir: Path
    config: ConfigDict
    network: model_lib.Network
    params: model_lib.Params
    step: int


def load(workdir: Path, *, which: str = 'best', mesh: Mesh | None = None) -> Trained:
    """Restores a checkpoint of a finished or running run, leaving its files alone.

    Args:
      workdir: of the run.
      which: 'best', by validation error, or 'latest'.
      mesh: where the parameters go; None for one device.

    Raises:
      ValueError: no run is there, or one of another version, or none of its
        checkpoints can be restored.
    """
    workdir = workdir.expanduser().absolute()
    path = workdir / 'config.json'
    if not path.is_file():
        raise ValueError(f'{workdir} holds no run: there is no {path.name} in it')
    as_json = read_json(path)
    if not isinstance(as_json, dict) or 'model' not in as_json:
        as_json = (checkpoint.newest_meta(workdir) or {}).get('config')
    if as_json is None:
        raise ValueError(
            f'{path} is damaged, and no checkpoint says what was in it; start the '
            'command of the run once more, which writes it again'
        )
    config_file.check_format(as_json, workdir)
    del as_json['format']
    config = ConfigDict(as_json)
    checkpoints = checkpoint.Checkpoints(workdir, read_only=True)
    network = model_lib.network_from_config(
        config.model,
        config.data.crop_size,
        checkpoints.shape_of('params', config.model.layers[-1], 'bias', which=which)[0],
    )
    mesh = mesh or mesh_lib.make_mesh(
        data=1, tower=1, towers=network.towers, batch_size=1
    )
    # The update's state is restored too, because its digests are checked with it; how
    # many steps an epoch has does not change its shape.
    tx = optimizer.create_optimizer(config.optimizer, steps_per_epoch=1.0)
    abstract = train_state.abstract_train_state(network, tx, mesh)
    with checkpoints:
        restored = (
            checkpoints.restore_best(abstract)
            if which == 'best'
            else checkpoints.restore_latest(abstract)
        )
    if restored is None:
        raise ValueError(f'{workdir} has no {which} checkpoint yet')
    state, _ = restored
    step = int(jax.device_get(state.step))
    return Trained(workdir, config, network, state.params, step)


def copy_layers(
    params: model_lib.Params,
    init: ConfigDict,
    network: model_lib.Network,
    mesh: Mesh,
) -> model_lib.Params:
    """Puts the layers that `config.init` names from another run in place.

    Args:
      params: of the new run.
      init: `workdir`, whose best checkpoint is taken, and `copy`, names of layers.
      network: of the new run.
      mesh: the devices.

    Raises:
      ValueError: that run has no such layer, or with another shape.
    """
    source = init.workdir
    found = load(Path(source), mesh=mesh)
    theirs = found.params
    shapes = model_lib.layer_shapes(network)
    flattens = next(s.name for s in shapes if len(s.linear) == 1)
    if flattens in init.copy and found.network.towers != network.towers:
        raise ValueError(
            f'config.init.copy: {flattens} reads the maps tower by tower, of '
            f'{found.network.towers} towers in {source} and of {network.towers} here, '
            f'in another order; leave {flattens!r} out of config.init.copy'
        )
    for name in init.copy:
        if name not in theirs:
            raise ValueError(
                f'config.init.copy names {name!r}, which the run in {source} does not '
                f'have; it has {", ".join(theirs)}'
            )
        for key, own in params[name].items():
            if theirs[name][key].shape != own.shape:
                raise ValueError(
                    f'config.init.copy: {name}/{key} has shape '
                    f'{theirs[name][key].shape} in {source} and {own.shape} here; '
                    f'leave {name!r} out of config.init.copy to start it new'
                )
    copied = {name: theirs[name] for name in init.copy}
    return params | mesh_lib.put_params(copied, network, mesh)
