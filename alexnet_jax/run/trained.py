"""A workdir's best network: what evaluation, fine-tuning and prediction start from."""

import dataclasses
import json
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import mesh as mesh_lib
from alexnet_jax import model as model_lib
from alexnet_jax import optimizer
from alexnet_jax import step as step_lib
from alexnet_jax.run import checkpoint


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
    config_file = workdir / 'config.json'
    if not config_file.is_file():
        raise ValueError(
            f'{workdir} holds no run: there is no {config_file.name} in it'
        )
    as_json = json.loads(config_file.read_text())
    config_lib.check_format(as_json, workdir)
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
    abstract = step_lib.abstract_train_state(network, tx, mesh)
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
