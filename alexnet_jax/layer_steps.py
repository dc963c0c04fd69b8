"""What a layer does after its weighted sum, and which towers a device holds.

The table's `steps` name them: ReLU, response norm, pool, dropout, in any order. Each is
a small value with its own settings, its shape rule and its operation of `layers.py`.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from alexnet_jax import layers, windows

Array = jax.Array
Shape = tuple[int, ...]

STEPS = ('activation', 'lrn', 'spatial_norm', 'pool', 'avg_pool', 'dropout')


@dataclasses.dataclass(frozen=True)
class Towers:
    """The towers that this device holds, and the mesh axis over which all of them lie.

    Attributes:
      here: how many this device holds.
      axis: of the mesh, inside `jax.shard_map`; None where this device holds them all.
    """

    here: int
    axis: str | None = None

    @property
    def devices(self) -> int:
        """How many devices share the towers."""
        return lax.axis_size(self.axis) if self.axis else 1

    def gather(self, x: Array) -> Array:
        """The channels of all towers, from the devices that hold them."""
        if self.devices == 1:
            return x
        return lax.all_gather(x, self.axis, axis=x.ndim - 1, tiled=True)

    def add(self, x: Array) -> Array:
        """The sum over the devices."""
        return lax.psum(x, self.axis) if self.axis else x


class Step(Protocol):
    """What a layer does after its weighted sum; the table names it."""

    name: ClassVar[str]

    def output(self, shape: Shape) -> Shape:
        """The output's shape, without the batch, from the input's."""
        ...

    def __call__(self, x: Array, towers: Towers, mask: Array | None) -> Array:
        """Makes of x, a batch, what comes after the step; `mask` is the dropout's."""
        ...


def names(steps: Sequence[Step]) -> tuple[str, ...]:
    """A name for each of a layer's steps; a second pool is `pool_2`."""
    plain = [step.name for step in steps]
    before = [plain[:i].count(name) for i, name in enumerate(plain)]
    return tuple(
        f'{name}_{count + 1}' if count else name
        for name, count in zip(plain, before, strict=True)
    )


class _Elementwise:
    def output(self, shape: Shape) -> Shape:
        return shape


@dataclasses.dataclass(frozen=True)
class Activation(_Elementwise):
    """§3.1."""

    name: ClassVar[str] = 'activation'
    function: str

    def __call__(self, x: Array, towers: Towers, mask: Array | None) -> Array:
        return layers.ACTIVATIONS[self.function](x)


@dataclasses.dataclass(frozen=True)
class LocalResponseNorm(_Elementwise):
    """§3.3; `across_towers` is Caffe's merged net, whose windows cross the seam."""

    name: ClassVar[str] = 'lrn'
    size: int
    k: float
    alpha: float
    beta: float
    across_towers: bool

    def __call__(self, x: Array, towers: Towers, mask: Array | None) -> Array:
        if not self.across_towers:
            return self._norm(x, towers.here)
        reach = self.size // 2
        if towers.devices == 1 or not reach:
            return self._norm(x, 1)
        if reach > x.shape[-1]:
            raise ValueError(
                f'model.lrn.size={self.size} reaches beyond the next device, which '
                f'holds {x.shape[-1]} channels; take mesh.tower=1'
            )
        # A window at the seam needs the other tower's edge. What has no neighbour
        # receives zeros, which add nothing to a window's energy.
        pairs = [(i, i + 1) for i in range(towers.devices - 1)]
        before = lax.ppermute(x[..., -reach:], towers.axis, pairs)
        pairs = [(i + 1, i) for i in range(towers.devices - 1)]
        after = lax.ppermute(x[..., :reach], towers.axis, pairs)
        wide = jnp.concatenate([before, x, after], axis=-1)
        return self._norm(wide, 1)[..., reach:-reach]

    def _norm(self, x: Array, towers: int) -> Array:
        return layers.local_response_norm(
            x, size=self.size, k=self.k, alpha=self.alpha, beta=self.beta, towers=towers
        )


@dataclasses.dataclass(frozen=True)
class SpatialNorm(_Elementwise):
    """The released net's norm within each map."""

    name: ClassVar[str] = 'spatial_norm'
    size: int
    k: float
    alpha: float
    beta: float

    def __call__(self, x: Array, towers: Towers, mask: Array | None) -> Array:
        return layers.spatial_response_norm(x, **dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class AvgPool:
    """cuda-convnet's mean pool."""

    name: ClassVar[str] = 'avg_pool'
    size: int
    stride: int

    def output(self, shape: Shape) -> Shape:
        if len(shape) == 1:
            raise ValueError('a dense layer has no maps to pool')
        *extents, channels = shape
        if min(extents) < self.size:
            return 0, 0, channels
        pooled = (windows.pooled_extent(n, self.size, self.stride) for n in extents)
        return *pooled, channels

    def __call__(self, x: Array, towers: Towers, mask: Array | None) -> Array:
        return layers.avg_pool(x, self.size, self.stride)


@dataclasses.dataclass(frozen=True)
class MaxPool(AvgPool):
    """§3.4."""

    name: ClassVar[str] = 'pool'
    ties: str

    def __call__(self, x: Array, towers: Towers, mask: Array | None) -> Array:
        return layers.max_pool(x, self.size, self.stride, self.ties)


@dataclasses.dataclass(frozen=True)
class Dropout(_Elementwise):
    """§4.2."""

    name: ClassVar[str] = 'dropout'
    rate: float
    scaling: str

    def __call__(self, x: Array, towers: Towers, mask: Array | None) -> Array:
        return layers.dropout(x, mask, rate=self.rate, scaling=self.scaling)
