"""One collective operation, and what each device sends for it."""

import collections
import dataclasses
from collections.abc import Iterable

# Bytes that each of n devices sends, as a part of the whole array, when the devices
# stand in a ring. A permutation here is a chain, whose last device has no neighbour to
# send to: this is its mean, and with two devices what each of them sends.
_RING = {
    'all-gather': lambda n: (n - 1) / n,
    'reduce-scatter': lambda n: (n - 1) / n,
    'all-reduce': lambda n: 2 * (n - 1) / n,
    'collective-permute': lambda n: (n - 1) / n,
}


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective operation: what one group of devices does together."""

    kind: str  # as HLO names it: 'all-gather', 'all-reduce', …
    axis: str  # of the mesh, along which a group lies: 'data', 'tower', 'data+tower'
    arrays: tuple[int, ...]  # bytes of each *whole* array gathered, reduced, scattered
    where: str = ''  # layer and direction, if known

    @property
    def bytes(self) -> int:
        """Of all its arrays together."""
        return sum(self.arrays)


def wire_bytes(collective: Collective, size: int) -> float:
    """Bytes that each of `size` devices in a ring sends."""
    return _RING[collective.kind](size) * collective.bytes


def count_arrays(
    listed: Iterable[Collective],
) -> collections.Counter[tuple[str, str, int]]:
    """Counts (kind, axis, bytes) of single arrays, however operations combine them."""
    return collections.Counter(
        (collective.kind, collective.axis, size)
        for collective in listed
        for size in collective.arrays
    )
