"""How much memory a run needs, worked out from its table before anything is allocated.

XLA's scratch is known only once it has compiled, so there are two ends: what no
program for this net can do without, and a bound that the compiled steps keep
(`tests/test_memory.py` compares both with `memory_analysis` of shipped nets). A run is
refused by the lower one alone.
"""

import dataclasses
import math
import os
from pathlib import Path

from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax import mesh as mesh_lib
from alexnet_jax import model, summary

_IN_FLIGHT = 2  # batches on the devices: one computed on, one put there
# A step holds gradients, and what the layers make forward. XLA's CPU backend was seen
# to hold up to 3.3 times as much of the one (updates, sums) and 2.4 of the other; in an
# evaluation 1.4, and kernels once more where they are split or cast.
_MOST_PARAMETERS, _MOST_ACTIVATIONS, _MOST_EVALUATION = 4.0, 3.0, 1.75
_MOST_KERNELS = 1.25


@dataclasses.dataclass(frozen=True)
class Range:
    """Bytes: at least so many, at most so many."""

    least: int
    most: int


@dataclasses.dataclass(frozen=True)
class Needs:
    """Bytes in one memory: a CPU's, which its devices share, or one accelerator's."""

    parameters: int
    state: int  # parameters and momentum
    batches: Range  # training batches on the devices and read ahead
    training: Range  # scratch of a training step
    evaluated: Range  # batches of an evaluation
    evaluation: Range  # its scratch

    @property
    def total(self) -> Range:
        """Of all that is there at a time: a step, or an evaluation between two."""

        def at(end: str) -> int:
            evaluation = getattr(self.evaluated, end) + getattr(self.evaluation, end)
            step = max(getattr(self.training, end), evaluation)
            return self.state + getattr(self.batches, end) + step

        return Range(least=at('least'), most=at('most'))


@dataclasses.dataclass(frozen=True)
class Limit:
    """What there is."""

    num_bytes: int
    of: str  # what sets it, for a message


def needs(
    network: model.Network,
    config: ConfigDict,
    *,
    data: int = 1,
    tower: int = 1,
    sharing: int = 1,
    on_host: bool = True,
) -> Needs:
    """What a run needs in one memory.

    Args:
      network: of the config and its data set's classes.
      config: its `data` and `train` parts are read.
      data: devices along the batch.
      tower: devices along the towers.
      sharing: how many of the devices share this memory.
      on_host: whether batches that are read ahead lie in it too.
    """
    batch = -(-config.train.batch_size // data)
    evaluated = -(-config.train.eval_batch_size // data)
    parameters = _parameters(network, tower)
    small = 2 if network.compute_dtype == 'bfloat16' else 4
    made, largest, _ = _activations(network, tower, small)
    # On a CPU, XLA computes in float32 whatever is asked for.
    most, _, windows = _activations(network, tower, 4)
    crop = batch * config.data.crop_size**2 * 3
    whole = evaluated * config.data.stored_size**2 * 3
    # Read ahead for all devices that share it; reading is the faster side.
    rows = max(1, sharing // tower)
    ahead = rows * config.data.prefetch_batches if on_host else 0
    return Needs(
        parameters=sharing * parameters,
        state=sharing * 2 * parameters,
        batches=Range(
            (sharing + ahead) * crop, (sharing * _IN_FLIGHT + ahead + rows) * crop
        ),
        training=Range(
            sharing * (parameters + batch * made),
            sharing
            * int(
                _MOST_PARAMETERS * parameters
                + _MOST_ACTIVATIONS * batch * (most + windows)
            ),
        ),
        evaluated=Range(
            (sharing + ahead) * whole, (sharing * _IN_FLIGHT + ahead + rows) * whole
        ),
        evaluation=Range(
            sharing * evaluated * largest,
            sharing
            * int(
                _MOST_KERNELS * parameters
                + _MOST_EVALUATION * evaluated * (most + windows)
            ),
        ),
    )


def of_config(config: ConfigDict) -> Needs:
    """What a config needs on one device; classes as `summary.network_of` takes them."""
    return needs(summary.network_of(config), config)


def on_mesh(network: model.Network, config: ConfigDict, mesh: Mesh) -> Needs:
    """What a run needs in the memory of this process's first device."""
    cpu = mesh.devices.flat[0].platform == 'cpu'
    return needs(
        network,
        config,
        data=mesh.shape[mesh_lib.DATA],
        tower=mesh.shape[mesh_lib.TOWER],
        sharing=len(mesh.local_devices) if cpu else 1,
        on_host=cpu,
    )


def limit(mesh: Mesh) -> Limit | None:
    """How much memory there is; None if the device does not say."""
    device = mesh.local_devices[0]
    if device.platform != 'cpu':
        found = (device.memory_stats() or {}).get('bytes_limit')
        return Limit(found, f'of a {device.device_kind}') if found else None
    installed = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    allowed = [Limit(installed, 'of this machine')]
    for path in ('memory.max', 'memory/memory.limit_in_bytes'):
        try:
            found = int(Path('/sys/fs/cgroup', path).read_text())
        except (OSError, ValueError):  # not there; 'max'
            continue
        allowed.append(Limit(found, 'that this process may use'))
    return min(allowed, key=lambda limit: limit.num_bytes)


def check(wanted: Needs, there: Limit | None) -> None:
    """Refuses what cannot fit.

    Raises:
      ValueError: one line with the bytes and what to lower.
    """
    if there is None or wanted.total.least <= there.num_bytes:
        return
    parts = {
        'parameters and their momentum (config.model.width)': wanted.state,
        'a training batch (config.train.batch_size)': (
            wanted.batches.least + wanted.training.least
        ),
        'an evaluated batch (config.train.eval_batch_size)': (
            wanted.evaluated.least + wanted.evaluation.least
        ),
    }
    told = ', '.join(f'{size(part)} for {what}' for what, part in parts.items())
    key = max(parts, key=lambda what: parts[what])
    raise ValueError(
        f'the run needs {size(wanted.total.least)} at least and there are '
        f'{size(there.num_bytes)} {there.of}: {told}; lower '
        f'{key[key.index("(") + 1 : -1]}'
    )


def check_before_data(config: ConfigDict) -> None:
    """Refuses what cannot fit before a data set is prepared for it.

    Raises:
      ValueError: as `check`, or the mesh does not fit the devices.
    """
    network = summary.network_of(config)
    mesh = mesh_lib.make_mesh(
        data=config.mesh.data,
        tower=config.mesh.tower,
        towers=network.towers,
        batch_size=config.train.batch_size,
    )
    check(on_mesh(network, config, mesh), limit(mesh))


def lines(wanted: Needs, there: Limit | None, where: str = 'memory') -> str:
    """What is needed and what there is, in at most 80 columns."""
    text = (
        f'{where}: {size(wanted.state)} of state, up to {size(wanted.batches.most)} of '
        f'batches and {size(wanted.training.most)} of\n  scratch; evaluation up to '
        f'{size(wanted.evaluated.most + wanted.evaluation.most)}'
    )
    if there is None:
        return text
    text += f'; there are {size(there.num_bytes)}'
    if wanted.total.most > there.num_bytes:
        text += (
            '\n  which may be too little; config.train.batch_size and eval_batch_size '
            'lower it'
        )
    return text


def size(num_bytes: int) -> str:
    """Bytes for people."""
    if num_bytes < 1e8:
        return f'{num_bytes / 1e6:.1f} MB'
    return f'{num_bytes / 1e9:,.1f} GB'


def _parameters(network: model.Network, tower: int) -> int:
    """Bytes of a device's part."""
    *hidden, last = model.layer_shapes(network)
    numbers = sum(shape.parameters for shape in hidden) // tower
    return 4 * (numbers + math.prod(last.kernel) // tower + math.prod(last.bias))


def _activations(network: model.Network, tower: int, size: int) -> tuple[int, int, int]:
    """Bytes of an image on a device, in numbers of `size` bytes.

    Returns:
      What all layers make: weighted sums, outputs and masks, with the image; what the
      largest weighted sum takes; and the windows of locally connected layers, which
      are laid out one by one.
    """
    made, largest, windows = size * network.image_size**2 * 3, 0, 0
    for layer, shape in zip(network.layers, model.layer_shapes(network), strict=True):
        linear = size * math.prod(shape.linear) // tower
        made += linear
        made += size * math.prod(shape.output) // tower if layer.steps else 0
        made += math.prod(shape.mask) // tower if shape.mask else 0
        largest = max(largest, linear)
        if layer.kind == 'local':
            rows, columns, *kernel, _ = shape.kernel
            windows += size * rows * columns * math.prod(kernel)
    return made, largest, windows
