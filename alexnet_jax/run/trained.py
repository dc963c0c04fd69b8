"""A workdir's best network: what evaluation, fine-tuning and prediction start from."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax import mesh as mesh_lib
from alexnet_jax import model as model_lib
from alexnet_jax import train_state
from alexnet_jax.run import checkpoint, config_file, inputs


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained network with all that it needs to see an image as in training."""

    workdir: Path
    config: ConfigDict
    network: model_lib.Network
    params: model_lib.Params
    class_names: tuple[str, ...]
    mean_image: np.ndarray  # f32[stored, stored, 3]
    step: int
    metrics: Mapping[str, float]  # of that step


def load(
    workdir: Path,
    *,
    which: str = 'best',
    mesh: Mesh | None = None,
    held: inputs.Inputs | None = None,
) -> Trained:
    """Restores a checkpoint of a finished or running run, leaving its files alone.

    The data set is not needed, nor is the state of the update read.

    Args:
      workdir: of the run, or of `alexnet_jax.export_workdir`.
      which: 'best', by validation error, 'latest', or the folder of a step in the
        workdir, 'checkpoints/500' or 'best/500'.
      mesh: where the parameters go; None for one device.
      held: what a run of an earlier version lacks; None: as the workdir has it.

    Raises:
      ValueError: no run is there, or one of another version, or none of its
        checkpoints can be restored.
    """
    workdir = workdir.expanduser().absolute()
    config = config_file.read(workdir)
    held = held or inputs.read(workdir)
    network = model_lib.network_from_config(
        config.model, config.data.crop_size, len(held.class_names)
    )
    mesh = mesh or mesh_lib.make_mesh(
        data=1, tower=1, towers=network.towers, batch_size=1
    )
    wanted = {
        'step': jax.ShapeDtypeStruct((), np.int32, sharding=mesh_lib.replicated(mesh)),
        'params': train_state.abstract_params(network, mesh),
    }
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        kind, _, step = which.partition('/')
        if step:
            restored = checkpoints.restore_step(kind, int(step), wanted, part=True)
        elif which == 'best':
            restored = checkpoints.restore_best(wanted, part=True)
        else:
            restored = checkpoints.restore_latest(wanted, part=True)
    if restored is None:
        raise ValueError(f'{workdir} has no {which} checkpoint yet')
    state, meta = restored
    return Trained(
        workdir=workdir,
        config=config,
        network=network,
        params=state['params'],
        class_names=held.class_names,
        mean_image=held.mean_image,
        step=int(jax.device_get(state['step'])),
        metrics=meta['metrics'],
    )


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
