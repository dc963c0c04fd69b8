"""Runs the step again whose loss was not finite, from the dump that the run left."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import build, train
from alexnet_jax import mesh as mesh_lib
from alexnet_jax.data import augment, pipeline, prepare
from alexnet_jax.run import checkpoint, config_file, inputs, nonfinite, progress
from alexnet_jax.run import workdir as workdir_lib
from alexnet_jax.system import tables
from alexnet_jax.system.files import read_json


@dataclasses.dataclass(frozen=True)
class Dump:
    """A folder that `run.nonfinite.write_dump` made."""

    folder: Path
    config: ConfigDict
    step: int
    rate_cuts: int


def read(folder: Path) -> Dump:
    """Opens a dump.

    Raises:
      ValueError: there is none, or another version made it.
    """
    folder = folder.expanduser()
    cause = read_json(folder / 'cause.json')
    as_json = read_json(folder / 'config.json')
    if not isinstance(cause, dict) or not isinstance(as_json, dict):
        raise ValueError(
            f'--replay={folder} is no dump of a step: it lacks cause.json or '
            'config.json; a run leaves one in nonfinite/<step> of its workdir'
        )
    config_file.check_format(as_json, folder)
    del as_json['format']
    config = ConfigDict(as_json)
    return Dump(folder.absolute(), config, cause['step'], cause['rate_cuts'])


def replay(dump: Dump) -> str:
    """Trains from the dump's checkpoint up to its step, and makes that step.

    The state before the step stays in the dump, so that the next time is quick.

    Returns:
      What the step did to each parameter, as text.

    Raises:
      ValueError: the loss of a step before it is not finite here.
    """
    config, step = dump.config, dump.step
    workdir = workdir_lib.check_place(dump.folder)
    with workdir_lib.owned(workdir):
        if step > 1:
            startup = progress.Startup()
            try:
                train.attempt(config, workdir, step - 1, startup, dump.rate_cuts)
            except nonfinite.NonFiniteLossError as error:
                raise ValueError(
                    f'{error}, sooner than in the run, whose loss was not finite at '
                    f'step {step}; replay with the devices and versions of the run, '
                    f'which {workdir.parent.parent}/provenance.json names'
                ) from None
        return _make_step(dump)


def _make_step(dump: Dump) -> str:
    config, step = dump.config, dump.step
    dataset = prepare.open_prepared(config.data)
    training = build.training(
        nonfinite.with_cut_rate(config, dump.rate_cuts),
        num_classes=train.count_classes(config, dataset),
        num_examples=pipeline.num_examples(dataset, config.data.train_split),
    )
    mesh, batch_size = training.mesh, config.train.batch_size
    with checkpoint.Checkpoints(dump.folder, read_only=True) as checkpoints:
        restored = checkpoints.restore_latest(training.abstract_state)
    state = restored[0] if restored else train.first_state(config, training)
    if int(state.step) != step - 1:
        raise ValueError(
            f'{dump.folder} stands at step {int(state.step)}, not before {step}; start '
            'the run again, which leaves a new one'
        )
    batches = pipeline.train_batches(
        dataset,
        config.data,
        batch_size=batch_size,
        seed=config.seed,
        first_step=step - 1,
        rows=mesh_lib.local_rows(mesh, batch_size),
        steps_per_epoch=training.length.steps_per_schedule_epoch,
    )
    batch = mesh_lib.put_batch(next(batches), mesh, batch_size)
    held = inputs.of_run(
        dump.folder, inputs.Inputs(dataset.class_names, dataset.mean_image)
    )
    mean = mesh_lib.put_everywhere(
        augment.mean_to_subtract(held.mean_image, config.data), mesh
    )
    before = jax.tree.map(mesh_lib.to_host, state.params)
    state, metrics = training.train_step(state, batch, mean)
    after = jax.tree.map(mesh_lib.to_host, state.params)
    loss = float(np.asarray(metrics['sums'])[0]) / batch_size
    norms = np.sqrt(mesh_lib.to_host(metrics['squared_norms']).sum(axis=0))
    rows = [('parameter', 'largest before', 'largest after', 'not finite after')]
    for layer in training.network.layers:
        for name, old in before[layer.name].items():
            new = after[layer.name][name]
            rows.append(
                (
                    f'{layer.name}/{name}',
                    f'{np.abs(old).max():.4g}',
                    f'{np.abs(new).max():.4g}',
                    f'{(~np.isfinite(new)).sum():,} of {new.size:,}',
                )
            )
    rate = float(metrics['learning_rate'])
    return (
        f'step {step} again: loss {loss:.4g}, learning rate {rate:.4g}, norms: '
        f'gradient {norms[0]:.4g}, parameters {norms[1]:.4g}, update {norms[2]:.4g}\n'
        + tables.aligned(rows)
    )
