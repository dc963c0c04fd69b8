"""What the machine could do at most: arithmetic and memory, as contenders."""

from collections.abc import Callable

import numpy as np

from experiments.benchmark import worker


def matrix_product(settings: worker.Settings) -> worker.Repetition:
    """A product of two square matrices of `size` through XLA: 2 · size³ operations."""
    jax = worker.start_jax(settings)
    a = jax.numpy.ones((settings['size'],) * 2, settings.get('dtype', 'float32'))
    product: Callable = jax.jit(lambda x: x @ x)
    return lambda: product(a).block_until_ready()


def memory_copy(settings: worker.Settings) -> worker.Repetition:
    """Copies `bytes` with a thread per core: reads and writes so many each."""
    from concurrent.futures import ThreadPoolExecutor

    parts = len(settings['cores'])
    sources = [np.ones(settings['bytes'] // parts, np.uint8) for _ in range(parts)]
    targets = [np.empty_like(source) for source in sources]
    pool = ThreadPoolExecutor(parts)
    return lambda: list(pool.map(np.copyto, targets, sources))
