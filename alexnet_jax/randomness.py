"""Named streams of random numbers: one key, one use.

Every kind of draw (initial values, dropout, order, augmentation, …) has a stream of its
own, derived from the run's seed by the stream's name. Within a stream a draw is keyed
by its position: the step, the layer. So no two draws of a run share a key, whatever
device or process makes them, and a new kind of draw moves none of the others.
"""

import zlib

import jax
import numpy as np

Array = jax.Array


def key(seed: int, stream: str) -> Array:
    """The key of a stream for draws with `jax.random`."""
    return named(jax.random.key(seed), stream)


def named(key: Array, name: str) -> Array:
    """The part of a key that belongs to a name, such as a layer's."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def generator(seed: int, stream: str, *position: int) -> np.random.Generator:
    """A NumPy generator of a stream at a position, such as a step."""
    return np.random.Generator(np.random.Philox(_sequence(seed, stream, *position)))


def number(seed: int, stream: str) -> int:
    """A seed of 32 bits for a library that takes a number."""
    return int(_sequence(seed, stream).generate_state(1)[0])


def _sequence(seed: int, stream: str, *position: int) -> np.random.SeedSequence:
    name = zlib.crc32(stream.encode())
    return np.random.SeedSequence(seed, spawn_key=(name, *position))
