"""The package's own steps as contenders.

Settings: `config`, a name in configs/ with its argument; `overrides` of its keys;
`data` and `tower`, the mesh; `steps` a repetition has.
"""

import functools
import importlib
from typing import Any

import numpy as np

from experiments.benchmark import worker


def load_config(settings: worker.Settings) -> Any:
    """The config of the settings; nothing is checked that the command would check."""
    file, *argument = settings['config'].split(':')
    config = importlib.import_module(f'alexnet_jax.configs.{file}').get_config(
        *argument
    )
    config.update_from_flattened_dict(settings.get('overrides', {}))
    return config


def make_training(settings: worker.Settings) -> tuple[Any, Any]:
    """The config of the settings, and what it builds."""
    worker.start_jax(settings)
    from alexnet_jax import build

    config = load_config(settings)
    config.mesh.data = settings.get('data', 1)
    config.mesh.tower = settings.get('tower', 1)
    training = build.training(
        config,
        num_classes=config.model.num_classes or 10,
        num_examples=1000 * config.train.batch_size,
    )
    return config, training


def batch_and_mean(config: Any, mesh: Any) -> tuple[Any, Any]:
    """A batch of noise and a grey mean image, on the devices."""
    from alexnet_jax import mesh as mesh_lib
    from alexnet_jax import step

    rng = np.random.default_rng(0)
    size, batch_size = config.data.crop_size, config.train.batch_size
    parts = {
        name: np.zeros(part.shape, part.dtype)
        for name, part in step.batch_shapes(batch_size, size).items()
    }
    parts['image'] = rng.integers(0, 256, parts['image'].shape, np.uint8)
    parts['label'] = rng.integers(0, 10, batch_size).astype(np.int32)
    parts['gain'] += 1
    mean = np.full((size, size, 3), 120, np.float32)
    return (
        mesh_lib.put_batch(parts, mesh, batch_size),
        mesh_lib.put_everywhere(mean, mesh),
    )


def train_step(settings: worker.Settings) -> worker.Repetition:
    """Whole updates of the parameters, from a batch that is on the device."""
    config, training = make_training(settings)
    state = training.first_state()
    batch, mean = batch_and_mean(config, training.mesh)

    def repetition() -> None:
        nonlocal state
        for _ in range(settings.get('steps', 1)):
            state, metrics = training.train_step(state, batch, mean)
            # Waits for the step, and NaN is another arithmetic.
            assert np.isfinite(metrics['sums']).all()

    return repetition


def predict_step(settings: worker.Settings) -> worker.Repetition:
    """The probabilities of one view of a batch that is on the device."""
    config, training = make_training(settings)
    from alexnet_jax import step

    params = training.first_state().params
    batch, mean = batch_and_mean(config, training.mesh)
    run = step.make_predict_step(
        training.network, training.mesh, [(0, 0, False)], config.data.scale
    )

    def repetition() -> None:
        for _ in range(settings.get('steps', 1)):
            assert np.isfinite(run(params, batch['image'], mean)).all()

    return repetition


def layer(settings: worker.Settings) -> worker.Repetition:
    """One layer with its steps, `layer`: its output or, if `backward`, its gradients.

    A gradient needs the output first, so that it holds both.
    """
    config, training = make_training(settings)
    import jax
    from flax import nnx

    from alexnet_jax import cpu, layer_steps, model

    network = training.network
    names = [layer.name for layer in network.layers]
    index = names.index(settings['layer'])
    shapes = model.layer_shapes(network)
    size = config.data.crop_size
    x_shape = shapes[index - 1].output if index else (size, size, 3)
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jax.numpy.asarray(
            rng.standard_normal(shape, np.float32), network.compute_dtype
        )

    batch = config.train.batch_size
    x, grad = normal(batch, *x_shape), normal(batch, *shapes[index].output)
    masks = {
        name: jax.numpy.asarray(rng.random((batch, *shape)) < 0.5)
        for name, shape in model.dropout_shapes(network).items()
    }
    weights = {
        'kernel': 0.01 * normal(*shapes[index].kernel).astype('float32'),
        'bias': normal(*shapes[index].bias).astype('float32'),
    }

    module = nnx.eval_shape(lambda: model.AlexNet(network, rngs=nnx.Rngs(0)))
    graph, _ = nnx.split(getattr(module, settings['layer']))
    towers = layer_steps.Towers(network.towers)

    def apply(weights: Any, x: jax.Array) -> jax.Array:
        made = nnx.merge(graph, weights)(x, towers, masks.get(settings['layer']))
        return list(made.values())[-1]

    def gradients(weights: Any, x: jax.Array, grad: jax.Array) -> Any:
        # The image has no gradient.
        of = functools.partial(apply, x=x) if not index else apply
        at = (weights,) if not index else (weights, x)
        y, pull = jax.vjp(of, *at)
        return pull(grad.astype(y.dtype))

    options = cpu.compiler_options(jax.devices()[0].platform)
    if settings['backward']:
        run = jax.jit(gradients, compiler_options=options)
        return lambda: jax.block_until_ready(run(weights, x, grad))
    forward = jax.jit(apply, compiler_options=options)
    return lambda: jax.block_until_ready(forward(weights, x))
