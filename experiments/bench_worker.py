"""One contender of a benchmark in a process of its own, driven over its pipes.

`benchmark.py` starts one of these per contender, with the cores it may use, and asks
them in turn for one repetition each, so that all are measured under the same noise.
The settings come as JSON in the first line; then a line per repetition goes in and a
line with its seconds comes out.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Settings = dict[str, Any]
Repetition = Callable[[], object]  # runs once and returns when it is done


def ours(settings: Settings) -> Repetition:
    """The package's own train step: `config`, `overrides`, `data`, `tower`."""
    import importlib

    import numpy as np

    from alexnet_jax import mesh as mesh_lib
    from alexnet_jax import model, optimizer, step

    file, *argument = settings['config'].split(':')
    config = importlib.import_module(f'configs.{file}').get_config(*argument)
    config.update_from_flattened_dict(settings.get('overrides', {}))
    size, batch_size = config.data.crop_size, config.train.batch_size
    network = model.network_from_config(
        config.model, size, config.model.num_classes or 10
    )
    mesh = mesh_lib.make_mesh(
        data=settings['data'],
        tower=settings['tower'],
        towers=network.towers,
        batch_size=batch_size,
    )
    tx = optimizer.create_optimizer(config.optimizer, steps_per_epoch=1000)
    rate = optimizer.create_learning_rate_schedule(
        config.optimizer, steps_per_epoch=1000, total_steps=90_000
    )
    train_step = step.make_train_step(
        network, tx, rate, mesh, seed=0, scale=config.data.scale
    )
    state = step.create_train_state(network, tx, mesh, seed=0)
    rng = np.random.default_rng(0)
    parts = {
        name: np.zeros(part.shape, part.dtype)
        for name, part in step.batch_shapes(batch_size, size).items()
    }
    parts['image'] = rng.integers(0, 256, parts['image'].shape, np.uint8)
    parts['label'] = rng.integers(0, 10, batch_size).astype(np.int32)
    parts['gain'] += 1
    batch = mesh_lib.put_batch(parts, mesh, batch_size)
    mean = mesh_lib.put_everywhere(np.full((size, size, 3), 120, np.float32), mesh)

    def repetition() -> None:
        nonlocal state
        for _ in range(settings.get('steps', 1)):
            state, metrics = train_step(state, batch, mean)
            # Waits for the step, and NaN is another arithmetic.
            assert np.isfinite(metrics['sums']).all()

    return repetition


def matrix_product(settings: Settings) -> Repetition:
    """A product of two square matrices of `size`: the ceiling of arithmetic."""
    import jax
    import jax.numpy as jnp

    size = settings['size']
    a = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda x: x @ x)
    return lambda: product(a).block_until_ready()


CONTENDERS: dict[str, Callable[[Settings], Repetition]] = {
    'ours': ours,
    'matrix_product': matrix_product,
}


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    # Before jax counts the cores and starts its threads.
    os.sched_setaffinity(0, settings['cores'])
    import jax

    jax.config.update('jax_platforms', 'cpu')
    jax.config.update('jax_num_cpu_devices', settings.get('devices', 1))
    repetition = CONTENDERS[settings['contender']](settings)
    repetition()  # compiles
    print('ready', flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        repetition()
        print(time.perf_counter() - start, flush=True)


if __name__ == '__main__':
    main()
