"""The collectives and the memory of a compiled train step, read from its program."""

import math
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import build, mesh, step
from alexnet_jax.data import augment
from experiments.communication.collective import Collective

_OPERATION = re.compile(
    r'= (?P<result>.*?) (?P<kind>all-gather|all-reduce|reduce-scatter|all-to-all'
    r'|ragged-all-to-all|collective-permute|collective-broadcast)'
    r'(?P<start>-start)?\((?P<attributes>.*)'
)
_ARRAY = re.compile(r'\b([a-z]+)(\d*)\w*\[([\d,]*)\]')
_LISTED = re.compile(r'(?:replica_groups|source_target_pairs)=\{((?:\{[\d,]*\},?)*)\}')
_IOTA = re.compile(r'replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?')
_NAMED = re.compile(r'replica_groups=mesh\[([^\]]+)\]\s*\{([^}]*)\}')
_AXIS = re.compile(r"'(\w+)'=(\d+)")


def lower_step(config: ConfigDict, training: build.Training) -> jax.stages.Lowered:
    """Traces the train step of a config, from shapes alone."""
    size = training.network.image_size
    whole = np.zeros((config.data.stored_size,) * 2 + (3,), np.float32)
    mean = jax.ShapeDtypeStruct(
        augment.mean_to_subtract(whole, config.data).shape,
        jnp.float32,
        sharding=mesh.replicated(training.mesh),
    )
    return step.lower_train_step(
        training.train_step,
        training.abstract_state,
        config.train.batch_size,
        size,
        training.mesh,
        mean,
    )


def compile_step(config: ConfigDict, training: build.Training) -> jax.stages.Compiled:
    """Compiles the train step of a config, from shapes alone."""
    # Memory and collectives are settled before LLVM optimises, which takes half of the
    # time and is for nothing when the program will not run.
    return lower_step(config, training).compile(
        compiler_options={'xla_backend_optimization_level': '0'}
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
    """The devices that act together.

    `{}` is one group of all, `[2,2]<=[4]` an iota, and jax 0.12 names the axes:
    `mesh['data'=2,'tower'=2] {'tower'}`.
    """
    if listed := _LISTED.search(attributes):
        groups = re.findall(r'\{([\d,]+)\}', listed[1])
        return [_integers(group) for group in groups] or [list(range(devices))]
    if iota := _IOTA.search(attributes):
        grid = np.arange(devices).reshape(_integers(iota[2]))
        if iota[3]:
            grid = grid.transpose(_integers(iota[3]))
        return grid.reshape(_integers(iota[1])).tolist()
    if named := _NAMED.search(attributes):
        sizes = {name: int(size) for name, size in _AXIS.findall(named[1])}
        members = re.findall(r"'(\w+)'", named[2])
        order = [name for name in sizes if name not in members] + members
        grid = np.arange(devices).reshape(tuple(sizes.values()))
        grid = grid.transpose([list(sizes).index(name) for name in order])
        return grid.reshape(-1, math.prod(sizes[name] for name in members)).tolist()
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
