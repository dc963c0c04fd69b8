"""Many images through a network: one batch is computed while the next is decoded."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import jax
import numpy as np

from alexnet_jax.data.photographs import Photograph

Made = TypeVar('Made')


def batches(
    compiled: Callable[[np.ndarray], Made],
    photographs: Iterable[Photograph],
    batch_size: int,
) -> Iterator[tuple[list[Photograph], Made | None]]:
    """Runs photographs through a compiled function of a `Net`.

    Args:
      compiled: such as `net.log_probabilities()` or `net.tapped(taps)`.
      photographs: see `photographs.read`.
      batch_size: images that are computed together.

    Yields:
      photographs in their order, and what was made of them on the host: arrays with a
      row for each that has pixels. Where none of them has, None.
    """
    waiting: tuple[list[Photograph], Made | None] | None = None
    photographs = iter(photographs)
    while batch := list(itertools.islice(photographs, batch_size)):
        # It returns at once; the result is waited for when the next batch is decoded.
        started = batch, compute(compiled, batch, batch_size)
        if waiting:
            yield fetched(*waiting)
        waiting = started
    if waiting:
        yield fetched(*waiting)


def compute(
    compiled: Callable[[np.ndarray], Made], batch: list[Photograph], batch_size: int
) -> Made | None:
    """Starts a batch, padded to one of few sizes, since each size is compiled."""
    pixels = [p.pixels for p in batch if p.pixels is not None]
    if not pixels:
        return None
    size = padded(len(pixels), batch_size)
    stacked = np.zeros((size, *pixels[0].shape), np.uint8)
    stacked[: len(pixels)] = pixels
    return compiled(stacked)


def fetched(
    batch: list[Photograph], made: Made | None
) -> tuple[list[Photograph], Made | None]:
    """Waits for a batch and drops the padding."""
    count = sum(p.pixels is not None for p in batch)
    return batch, jax.tree.map(lambda x: np.asarray(x)[:count], made)


def padded(count: int, batch_size: int) -> int:
    """The size at which `count` images are computed: a power of two, or a batch."""
    return min(batch_size, 1 << (count - 1).bit_length())
