"""What a run prints before its first step and after its last."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax import optimizer
from alexnet_jax.model import Network
from alexnet_jax.run import progress
from alexnet_jax.step import TrainState
from alexnet_jax.system import tables


def print_overview(
    config: ConfigDict,
    network: Network,
    mesh: Mesh,
    state: TrainState,
    workdir: Path,
    length: progress.RunLength,
) -> None:
    """Prints the parameters with each device's part, the mesh and the length."""
    rows = [('parameter', 'shape', 'per device', 'size', 'rate', 'decay')]
    decays = dict(config.optimizer.layer_decays)
    for layer in network.layers:
        for name, value in state.params[layer.name].items():
            part = value.sharding.shard_shape(value.shape)
            multiplier = optimizer.rate_multiplier(
                config.optimizer, layer.name, name, 0.0
            )
            rate = config.optimizer.learning_rate * float(np.asarray(multiplier))
            decay = decays.get(layer.name, config.optimizer.weight_decay)
            if name == 'bias':
                rate, decay = rate * config.optimizer.bias_rate, 0.0
            rows.append(
                (
                    f'{layer.name}/{name}', tables.shape(value.shape),
                    tables.shape(part), f'{value.size:,}', f'{rate:g}', f'{decay:g}',
                )
            )  # fmt: skip
    total = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    rows.append(('total', '', '', f'{total:,}', '', ''))
    print(tables.aligned(rows, left=(0, 1, 2)))
    if config.init.workdir:
        print(f'{", ".join(config.init.copy)}: from {config.init.workdir}')
    layout = ' × '.join(f'{axis}={size}' for axis, size in mesh.shape.items())
    device = mesh.devices.flat[0]
    print(f'mesh: {layout} ({mesh.size} × {device.device_kind})')
    print(
        f'steps: {length.total_steps:,}, {length.steps_per_epoch:,.1f} an epoch, '
        f'{length.epoch(length.total_steps):.2f} epochs'
        + (f'; going on from step {int(state.step):,}' if int(state.step) else '')
    )
    print(f'workdir: {workdir}', flush=True)


def print_end(
    workdir: Path,
    latest: Mapping[str, float],
    last: int,
    best: int,
    network: Network,
) -> None:
    """Prints the results, and of which step they and the best checkpoint are.

    Args:
      workdir: of the run.
      latest: its metrics after the last step.
      last: the last step.
      best: the step of the best checkpoint, 0 if there is none.
      network: that was trained.
    """
    for split in ('val', 'test'):
        if f'{split}/loss' in latest:
            line = progress.evaluation_line(split, latest, network.num_classes).strip()
            print(f'step {last:,}, the last: {line}')
    if best:
        print(f'best: step {best:,} by validation error; evaluate takes it')
    print(f'kernels: {workdir / "conv1_kernels.png"}')
    print(f'curves:  tensorboard --logdir={workdir}')
