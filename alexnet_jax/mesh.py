"""The ('data', 'tower') mesh of devices and what lies where on it.

With `tower=2` each device holds half of every kernel, the layout of the two GPUs of
2012; along `data` the batch is split and everything else is repeated.
"""

import os

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alexnet_jax.model import LayerShape, Network, Params, layer_shapes

DATA, TOWER = 'data', 'tower'
P = PartitionSpec


def request_cpu_devices(count: int) -> None:
    """Asks the CPU backend for `count` devices; call it before the first use of jax.

    A machine with only a CPU then runs the split layout by default. Accelerators are
    not affected, and a count that the user set in the environment stands.
    """
    flags = os.environ.get('XLA_FLAGS', '')
    if (
        'JAX_NUM_CPU_DEVICES' in os.environ
        or 'xla_force_host_platform_device_count' in flags
    ):
        return
    jax.config.update('jax_num_cpu_devices', count)


def make_mesh(*, data: int, tower: int, towers: int, batch_size: int) -> Mesh:
    """Lays the devices out as (data, tower); an axis given as 0 is chosen.

    One device runs both towers, two run one each, and more become data parallel as far
    as the batch divides.

    Args:
      data: devices along the batch, or 0.
      tower: devices along the towers, or 0.
      towers: of the network.
      batch_size: of all devices together.

    Raises:
      ValueError: more devices than there are, or an axis that does not divide.
    """
    devices = jax.devices()
    if not tower:
        fits = len(devices) >= towers * max(data, 1)
        tower = towers if fits else 1
    if towers % tower:
        raise ValueError(
            f'mesh.tower={tower} does not divide model.towers={towers}; '
            f'allowed: the divisors of {towers}, or 0 to choose'
        )
    if not data:
        data = len(devices) // tower
        while data > 1 and batch_size % data:
            data -= 1
    if data * tower > len(devices) or data < 1:
        raise ValueError(
            f'mesh.data={data} × mesh.tower={tower} needs {data * tower} devices and '
            f'there are {len(devices)} ({devices[0].platform}); take a smaller mesh, '
            'or on a CPU set JAX_NUM_CPU_DEVICES'
        )
    if batch_size % data:
        raise ValueError(
            f'train.batch_size={batch_size} is not divisible by mesh.data={data}'
        )
    everyone = {device.process_index for device in devices}
    idle = everyone - {device.process_index for device in devices[: data * tower]}
    if idle:
        what = (
            f'train.batch_size={batch_size} does not divide over them'
            if len(devices) % tower == 0
            else f'{len(devices)} devices are not a multiple of mesh.tower={tower}'
        )
        raise ValueError(
            f'mesh.data={data} × mesh.tower={tower} leaves no device to process '
            f'{min(idle)} of {len(everyone)}: {what}'
        )
    grid = np.array(devices[: data * tower]).reshape(data, tower)
    # Auto, by name: jax's default has changed between releases.
    return Mesh(grid, (DATA, TOWER), axis_types=(AxisType.Auto, AxisType.Auto))


def parameter_specs(network: Network) -> dict[str, dict[str, PartitionSpec]]:
    """Where each parameter is split: along its outputs, the last along its inputs."""

    def specs(layer: LayerShape) -> dict[str, PartitionSpec]:
        if layer.name == network.layers[-1].name:
            return {'kernel': P(TOWER, None), 'bias': P()}
        return {'kernel': last_axis(layer.kernel), 'bias': last_axis(layer.bias)}

    def last_axis(shape: tuple[int, ...]) -> PartitionSpec:
        return P(*[None] * (len(shape) - 1), TOWER)

    return {layer.name: specs(layer) for layer in layer_shapes(network)}


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Batches are split along `data` and repeated along `tower`."""
    return NamedSharding(mesh, P(DATA))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, P())


def put_params(params: Params, network: Network, mesh: Mesh) -> Params:
    """Places parameters, or the part of them that is given, where they belong."""
    specs = parameter_specs(network)
    return {
        layer: {
            name: jax.device_put(value, NamedSharding(mesh, specs[layer][name]))
            for name, value in weights.items()
        }
        for layer, weights in params.items()
    }


def put_everywhere(array: np.ndarray, mesh: Mesh) -> jax.Array:
    """Places the same array on every device."""
    return jax.device_put(array, replicated(mesh))


def local_rows(mesh: Mesh, batch_size: int) -> slice:
    """The rows of a global batch that this process's devices hold."""
    held = batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
    ranges = [index[0].indices(batch_size) for index in held.values() if index]
    return slice(
        min(start for start, _, _ in ranges), max(stop for _, stop, _ in ranges)
    )


def put_batch(
    batch: dict[str, np.ndarray], mesh: Mesh, batch_size: int
) -> dict[str, jax.Array]:
    """Places this process's rows of a batch on its devices as one global array each."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(
            sharding, rows, (batch_size, *rows.shape[1:])
        )
        for name, rows in batch.items()
    }


def to_host(array: jax.Array) -> np.ndarray:
    """The whole of an array, also where devices or processes share it.

    np.asarray would do where this process has all of it, but an array that several
    devices share keeps the copy for as long as it lives: a second state on the host.
    All processes must call it together.
    """
    if array.is_fully_replicated:
        return np.asarray(array.addressable_data(0))
    if not array.is_fully_addressable:
        return multihost_utils.process_allgather(array, tiled=True)
    whole = np.empty(array.shape, array.dtype)
    for shard in array.addressable_shards:
        whole[shard.index] = shard.data
    return whole
