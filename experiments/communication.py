"""What the devices of a mesh hold and send in one step, read from the compiled program.

    python -m experiments.communication --config=configs/paper.py \\
        --config.mesh.data=1 --config.mesh.tower=2 --config.train.batch_size=128

Compiles the train step without running it, and prints its collectives and the bytes of
each device beside the closed form that follows from the table of layers. On a CPU any
mesh can be compiled. docs/devices.md explains the numbers.
"""

import collections
import dataclasses
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

# Before jax is imported: it writes to stderr as it loads.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax import mesh as mesh_lib
from alexnet_jax import optimizer, train_state
from alexnet_jax import step as step_lib
from alexnet_jax.layer_steps import LocalResponseNorm
from alexnet_jax.mesh import DATA, TOWER
from alexnet_jax.model import Network, layer_shapes, network_from_config
from alexnet_jax.system import command_line

FLOAT32 = 4  # bytes; of parameters, gradients, logits and metrics

# Bytes that each of n devices sends, as a part of the whole array, when the devices
# stand in a ring. A permutation here is a chain, whose last device has no neighbour to
# send to: this is its mean, and with two devices what each of them sends.
_RING = {
    'all-gather': lambda n: (n - 1) / n,
    'reduce-scatter': lambda n: (n - 1) / n,
    'all-reduce': lambda n: 2 * (n - 1) / n,
    'collective-permute': lambda n: (n - 1) / n,
}
_OPERATION = re.compile(
    r'= (?P<result>.*?) (?P<kind>all-gather|all-reduce|reduce-scatter|all-to-all'
    r'|ragged-all-to-all|collective-permute|collective-broadcast)'
    r'(?P<start>-start)?\((?P<attributes>.*)'
)
_ARRAY = re.compile(r'\b([a-z]+)(\d*)\w*\[([\d,]*)\]')
_LISTED = re.compile(r'(?:replica_groups|source_target_pairs)=\{((?:\{[\d,]*\},?)*)\}')
_IOTA = re.compile(r'replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective operation: what one group of devices does together."""

    kind: str  # as HLO names it: 'all-gather', 'all-reduce', …
    axis: str  # of the mesh, along which a group lies: 'data', 'tower', 'data+tower'
    arrays: tuple[int, ...]  # bytes of each *whole* array gathered, reduced, scattered
    where: str = ''  # layer and direction, if known

    @property
    def bytes(self) -> int:
        return sum(self.arrays)


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices and links as *assumed* for a computed time; docs/devices.md says why."""

    name: str
    devices: int
    flops: float  # of one device, per second
    along_tower: float  # bytes per second that a device sends, one direction
    along_data: float
    batch_sizes: tuple[int, ...]


_PCIE2, _PCIE3, _NVLINK, _INFINIBAND = 6e9, 12e9, 450e9, 50e9
MACHINES = (
    Machine('two GTX 580, PCIe 2', 2, 1.58e12, _PCIE2, _PCIE2, (128,)),
    Machine('two, PCIe 3', 2, 100e12, _PCIE3, _PCIE3, (128,)),
    Machine('eight, NVLink 4', 8, 100e12, _NVLINK, _NVLINK, (512, 1024)),
    Machine('8 × eight, InfiniBand', 64, 100e12, _NVLINK, _INFINIBAND, (4096, 1024)),
    Machine(
        '128 × eight, InfiniBand', 1024, 100e12, _NVLINK, _INFINIBAND, (65_536, 1024)
    ),
)


def collectives(hlo_text: str, axes: Mapping[str, int]) -> list[Collective]:
    """Lists the collectives of a compiled module, in its order.

    Groups of a single device, in which nothing is sent, are left out.

    Args:
      hlo_text: of `jax.stages.Compiled.as_text`.
      axes: the devices along each axis of the mesh, outermost first (`Mesh.shape`).

    Raises:
      ValueError: a collective whose groups are written in a form unknown here.
    """
    found = []
    for match in _OPERATION.finditer(hlo_text):
        groups = _groups(match['attributes'], math.prod(axes.values()))
        axis = _axis(groups, axes)
        if not axis:
            continue
        arrays = [
            _array_bytes(*array)
            for array in _ARRAY.findall(match['result'])
            if not (match['start'] and array == ('u', '32', ''))  # its own context
        ]
        if match['start'] and match['kind'] != 'all-reduce':
            # (operands, results): the other asynchronous forms repeat what they read.
            arrays = arrays[len(arrays) // 2 :]
        if match['kind'] == 'reduce-scatter':
            arrays = [size * len(groups[0]) for size in arrays]
        found.append(Collective(match['kind'], axis, tuple(arrays)))
    return found


def _groups(attributes: str, devices: int) -> list[list[int]]:
    """The devices that act together; {} is one group of all, `[2,2]<=[4]` an iota."""
    if listed := _LISTED.search(attributes):
        groups = re.findall(r'\{([\d,]+)\}', listed[1])
        return [_integers(group) for group in groups] or [list(range(devices))]
    if iota := _IOTA.search(attributes):
        grid = np.arange(devices).reshape(_integers(iota[2]))
        if iota[3]:
            grid = grid.transpose(_integers(iota[3]))
        return grid.reshape(_integers(iota[1])).tolist()
    raise ValueError(f'no groups of devices that are known here: {attributes[:200]}')


def _integers(text: str) -> list[int]:
    return [int(number) for number in text.split(',')]


def _axis(groups: list[list[int]], axes: Mapping[str, int]) -> str:
    """The axes of the mesh along which the members of a group differ."""
    varying = [
        name
        for index, name in enumerate(axes)
        if any(
            len({np.unravel_index(i, tuple(axes.values()))[index] for i in group}) > 1
            for group in groups
        )
    ]
    return '+'.join(varying)


def _array_bytes(kind: str, bits: str, extents: str) -> int:
    """Of `f32[8,13]`, taken apart as ('f', '32', '8,13'); a `pred` takes a byte."""
    size = max(int(bits) // 8, 1) if bits else 1
    return size * math.prod(_integers(extents) if extents else [])


def expected(
    network: Network, batch_size: int, data: int, tower: int
) -> list[Collective]:
    """Lists the collectives of a train step as the table of layers has them.

    Across `tower`: a layer that reads all towers gathers its input, and its gradient is
    scattered back; the last layer adds up the logits; Caffe's norm fetches the edges.
    Across `data`: one reduction of each gradient, and one of the four metrics.

    Args:
      network: the table.
      batch_size: over all devices.
      data: devices along the batch.
      tower: devices along the towers.
    """
    rows = batch_size // data
    itemsize = jnp.dtype(network.compute_dtype).itemsize
    forward, backward = [], []
    before: tuple[int, ...] = ()  # the shape that a layer reads
    for layer, shape in zip(network.layers, layer_shapes(network), strict=True):
        if layer is network.layers[-1]:
            logits = (rows * layer.features * FLOAT32,)
            forward.append(Collective('all-reduce', TOWER, logits, layer.name))
        elif layer.reads == 'all':
            gathered = (rows * math.prod(before) * itemsize,)
            forward.append(Collective('all-gather', TOWER, gathered, layer.name))
            backward.append(
                Collective('reduce-scatter', TOWER, gathered, f'{layer.name} backward')
            )
        maps = shape.linear
        for step in layer.steps:
            if not (isinstance(step, LocalResponseNorm) and step.across_towers):
                maps = step.output(maps)
                continue
            edge = rows * math.prod(maps[:-1]) * (step.size // 2) * itemsize
            for side in ('left', 'right'):
                where = f'{layer.name} norm, {side} edge'
                permute = Collective('collective-permute', TOWER, (edge,), where)
                forward.append(permute)
                backward.append(
                    dataclasses.replace(permute, where=f'{where}, backward')
                )
        before = shape.output
    listed = [*forward, *reversed(backward)] if tower > 1 else []
    if data > 1:
        gradients = tuple(_parameter_sizes(network, tower))
        listed += [
            Collective('all-reduce', DATA, (4 * FLOAT32,), 'loss and metrics'),
            Collective('all-reduce', DATA, gradients, 'gradients'),
        ]
    return listed


def _parameter_sizes(network: Network, tower: int) -> Iterator[int]:
    """Bytes of each parameter on one device: all are split but the last bias."""
    for layer in layer_shapes(network):
        yield math.prod(layer.kernel) * FLOAT32 // tower
        split = 1 if layer.name == network.layers[-1].name else tower
        yield math.prod(layer.bias) * FLOAT32 // split


def parameter_bytes(network: Network, tower: int) -> int:
    """Bytes of the parameters on one device; the momentum takes as many."""
    return sum(_parameter_sizes(network, tower))


def activation_bytes(network: Network, batch_size: int, data: int, tower: int) -> int:
    """Bytes of the activations of one step on one device.

    Of each layer its weighted sums and, where a pool makes them another array, its
    outputs, both split over the towers; and what a layer gathers, whole. What the
    backward pass makes and what a norm keeps comes on top of it.
    """
    elements = 0
    before: tuple[int, ...] = ()
    for layer, shape in zip(network.layers, layer_shapes(network), strict=True):
        last = layer is network.layers[-1]
        if layer.reads == 'all' and not last and tower > 1:
            elements += math.prod(before)
        split = 1 if last else tower
        elements += math.prod(shape.linear) // split
        if shape.output != shape.linear:
            elements += math.prod(shape.output) // split
        before = shape.output
    return batch_size // data * elements * jnp.dtype(network.compute_dtype).itemsize


def wire_bytes(collective: Collective, size: int) -> float:
    """Bytes that each of `size` devices in a ring sends."""
    return _RING[collective.kind](size) * collective.bytes


def sent_bytes(
    network: Network, batch_size: int, data: int, tower: int
) -> dict[str, float]:
    """Bytes that one device sends along each axis in one step, from the closed form."""
    sent = {DATA: 0.0, TOWER: 0.0}
    for collective in expected(network, batch_size, data, tower):
        size = {DATA: data, TOWER: tower}[collective.axis]
        sent[collective.axis] += wire_bytes(collective, size)
    return sent


def step_flops(network: Network, batch_size: int) -> int:
    """Floating-point operations of a step's products, over all devices.

    Forward, and backward for weights and inputs; the image has no gradient.
    """
    layers = layer_shapes(network)
    multiply_adds = 3 * sum(layer.multiply_adds for layer in layers)
    return 2 * batch_size * (multiply_adds - layers[0].multiply_adds)


def computed_rows(network: Network) -> list[str]:
    """Markdown rows of the times that follow from `MACHINES`: computed, not measured.

    Each is the bytes over the speed of the link, or the products over the rate of the
    devices; nothing overlaps, and a message costs nothing to begin.
    """
    lines = [
        '| machine | devices | data × tower | batch | MB along `tower` '
        '| MB along `data` | ms `tower` | ms `data` | ms products |',
        '|---|---:|---|---:|---:|---:|---:|---:|---:|',
    ]
    for machine in MACHINES:
        for batch_size in machine.batch_sizes:
            for tower in range(1, network.towers + 1):
                data = machine.devices // tower
                if machine.devices % tower or network.towers % tower:
                    continue
                if batch_size % data:
                    continue
                sent = sent_bytes(network, batch_size, data, tower)
                times = [
                    sent[TOWER] / machine.along_tower,
                    sent[DATA] / machine.along_data,
                    step_flops(network, batch_size) / machine.devices / machine.flops,
                ]
                lines.append(
                    f'| {machine.name} | {machine.devices:,} | {data:,} × {tower} '
                    f'| {batch_size:,} | {sent[TOWER] / 1e6:.1f} '
                    f'| {sent[DATA] / 1e6:.1f} | '
                    + ' | '.join(f'{1e3 * time:.2f}' for time in times)
                    + ' |'
                )
    return lines


def lower_step(config: ConfigDict, network: Network, mesh: Mesh) -> jax.stages.Lowered:
    """Traces the train step of a config for a mesh, from shapes alone."""
    tx = optimizer.create_optimizer(config.optimizer, steps_per_epoch=1)
    rate = optimizer.create_learning_rate_schedule(
        config.optimizer, steps_per_epoch=1, total_steps=1
    )
    train_step = step_lib.make_train_step(
        network, tx, rate, mesh, config.seed, config.data.scale
    )
    size = network.image_size
    stored = config.data.stored_size if config.data.mean == 'crop' else size
    batch = {
        name: jax.ShapeDtypeStruct(
            part.shape, part.dtype, sharding=mesh_lib.batch_sharding(mesh)
        )
        for name, part in step_lib.batch_shapes(config.train.batch_size, size).items()
    }
    mean = jax.ShapeDtypeStruct(
        (stored, stored, 3), jnp.float32, sharding=mesh_lib.replicated(mesh)
    )
    state = train_state.abstract_train_state(network, tx, mesh)
    return train_step.lower(state, batch, mean)  # pyrefly: ignore


def compile_step(
    config: ConfigDict, network: Network, mesh: Mesh
) -> jax.stages.Compiled:
    """Compiles the train step of a config for a mesh, from shapes alone."""
    # Memory and collectives are settled before LLVM optimises, which takes half of the
    # time and is for nothing when the program will not run.
    return lower_step(config, network, mesh).compile(
        compiler_options={'xla_backend_optimization_level': '0'}
    )


def held_bytes(compiled: jax.stages.Compiled) -> dict[str, int]:
    """Bytes of one device's state as the compiled step takes it, and its scratch."""
    (state, *_), _ = compiled.args_info
    (shardings, *_), _ = compiled.input_shardings

    def held(leaves: object, placed: object) -> int:
        sizes = jax.tree.map(
            lambda leaf, sharding: (
                math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            ),
            leaves,
            placed,
        )
        return sum(jax.tree.leaves(sizes))

    return {
        'parameters': held(state.params, shardings.params),
        'momentum': held(state.opt_state, shardings.opt_state),
        'temporary': getattr(compiled.memory_analysis(), 'temp_size_in_bytes', 0),
    }


def count_arrays(
    listed: Iterable[Collective],
) -> collections.Counter[tuple[str, str, int]]:
    """Counts (kind, axis, bytes) of single arrays, however operations combine them."""
    return collections.Counter(
        (collective.kind, collective.axis, size)
        for collective in listed
        for size in collective.arrays
    )


def table(compiled: Sequence[Collective], closed: Sequence[Collective]) -> list[str]:
    """Markdown rows of the compiled collectives beside the closed form."""
    lines = [
        '| collective | axis | where | arrays | bytes | closed form |',
        '|---|---|---|---:|---:|---:|',
    ]
    rest = list(closed)
    for found in compiled:
        match = next(
            (one for one in rest if count_arrays([one]) == count_arrays([found])), None
        )
        if match:
            rest.remove(match)
        lines.append(
            f'| {found.kind} | {found.axis} | {match.where if match else "?"} '
            f'| {len(found.arrays)} | {found.bytes:,} '
            f'| {f"{match.bytes:,}" if match else "–"} |'
        )
    lines += [
        f'| {one.kind} | {one.axis} | {one.where} | {len(one.arrays)} | – '
        f'| {one.bytes:,} |'
        for one in rest
    ]
    return lines


def main(argv: list[str], holder: flags.FlagHolder) -> None:
    command_line.reject_positionals(argv)
    config = command_line.checked_config(holder)
    logging.set_verbosity(logging.WARNING)
    mesh_lib.request_cpu_devices(
        (config.mesh.data or 1) * (config.mesh.tower or config.model.towers)
    )
    with command_line.user_errors():
        if not config.model.num_classes:
            raise ValueError(
                'config.model.num_classes=0 leaves it to the data set, which is not '
                'read here; give a number ≥ 2'
            )
        network = network_from_config(
            config.model, config.data.crop_size, config.model.num_classes
        )
        batch_size = config.train.batch_size
        mesh = mesh_lib.make_mesh(
            data=config.mesh.data,
            tower=config.mesh.tower,
            towers=network.towers,
            batch_size=batch_size,
        )
    data, tower = mesh.shape[DATA], mesh.shape[TOWER]
    print(
        f'{data} × {tower} (data × tower) {mesh.devices.flat[0].platform} devices',
        end='\n\n',
    )
    compiled = compile_step(config, network, mesh)
    found = collectives(compiled.as_text() or '', mesh.shape)
    closed = expected(network, batch_size, data, tower)
    print('\n'.join(table(found, closed)), end='\n\n')
    held = held_bytes(compiled)
    parameters = f'{parameter_bytes(network, tower):,}'
    activations = activation_bytes(network, batch_size, data, tower)
    print(
        '| on each device | bytes | closed form |\n|---|---:|---:|\n'
        f'| parameters | {held["parameters"]:,} | {parameters} |\n'
        f'| momentum | {held["momentum"]:,} | {parameters} |\n'
        f'| activations | – | {activations:,} |\n'
        f'| temporary, activations among it | {held["temporary"]:,} | – |\n'
    )
    for axis, sent in sent_bytes(network, batch_size, data, tower).items():
        print(f'sent along {axis} by each device, in a ring: {sent:,.0f} bytes a step')
    print('\ncomputed from assumed speeds (docs/devices.md), not measured:\n')
    print('\n'.join(computed_rows(network)))


if __name__ == '__main__':
    # Not at import: a flag of this name may be defined only once in a process.
    _CONFIG = command_line.define_config()
    app.run(lambda argv: main(argv, _CONFIG), flags_parser=command_line.parse_flags)
