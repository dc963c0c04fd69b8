"""Random weights of shipped networks, for the tests of formats."""

import functools
from pathlib import Path

import jax
import numpy as np
from PIL import Image, ImageOps

from alexnet_jax import model
from alexnet_jax.formats import networks, run_config
from alexnet_jax.formats.weights import Preprocessing, Weights


def make_weights(
    name: str,
    *,
    width: float = 1.0,
    fc: int = 0,
    classes: int = 10,
    seed: int = 0,
) -> Weights:
    """Random weights of a shipped network, which answer differently to each image.

    Args:
      name: of `networks.NAMES`.
      width: of the network, as `config.model.width`.
      fc: features of the hidden dense layers instead of their own; 0 keeps them.
      classes: outputs of the last layer.
      seed: of the parameters and the mean image.
    """
    config = networks.config(name)
    config.model.width = width
    for layer in config.model.layers[:-1]:
        if fc and config.model[layer].kind == 'dense':
            config.model[layer].features = fc
    data = config.data
    table = networks.table_of(config)
    network = model.network_from_config(table, data.crop_size, classes)
    rng = np.random.default_rng(seed)
    params = {}
    for shape in model.layer_shapes(network):
        fan_in = np.prod(shape.kernel[-4:-1])
        # At grey levels of 0–255 in front, of unit variance behind.
        gain = np.sqrt(2 / fan_in) / (1 if params else 50 * np.mean(data.scale))
        params[shape.name] = {
            'kernel': rng.normal(0, gain, shape.kernel).astype(np.float32),
            'bias': rng.normal(0, 0.1, shape.bias).astype(np.float32),
        }
    stored = data.stored_size
    mean = rng.uniform(90, 130, (stored, stored, 3)).astype(np.float32)
    return Weights(
        table=table,
        params=params,
        class_names=tuple(f'class {i}' for i in range(classes)),
        preprocessing=Preprocessing(
            stored_size=stored,
            fit=data.fit,
            crop_size=data.crop_size,
            mean=data.mean,
            mean_image=mean,
            scale=networks.scales(data.scale),
        ),
        source=f'random, of {name}',
        metrics={'val/top1_error': 0.5},
        run_config=run_config.of(config),
    )


def photographs(shared_data: Path, size: int, count: int = 3) -> np.ndarray:
    """Squares u8[count, size, size, 3] of photographs."""
    files = sorted((shared_data / 'clothing' / 'test').glob('*/*.jpg'))[::40][:count]
    squares = [
        ImageOps.fit(Image.open(file).convert('RGB'), (size, size)) for file in files
    ]
    return np.stack([np.asarray(square) for square in squares])


@functools.cache
def narrow(name: str) -> Weights:
    """A shipped network of an eighth of its maps (cuda-convnet's are small already)."""
    width = 1.0 if name.startswith('cuda_convnet') else 0.125
    return make_weights(name, width=width, fc=32)


def taps(weights: Weights, squares: np.ndarray) -> dict[str, np.ndarray]:
    """What every step of our network makes of squares u8[B, stored, stored, 3].

    Maps are [B, channel, row, column] in it; `conv1/lrn` is named as in the model,
    and the last layer's output is `logits` besides.
    """
    seen = weights.preprocessing
    start = (seen.stored_size - seen.crop_size) // 2
    part = slice(start, start + seen.crop_size)
    x = squares[:, part, part].astype(np.float32) - seen.centre_mean
    # Level 0 compiles in half the time, of which these tests take most.
    found = jax.jit(
        lambda params, x: model.merge(weights.network, params).activations(x),
        compiler_options={'xla_backend_optimization_level': '0'},
    )(weights.params, x * np.float32(seen.scale))
    named = {
        name: np.moveaxis(np.asarray(y), -1, 1)
        for name, y in found.items()
        if '/' in name
    }
    return named | {'logits': np.asarray(found[weights.network.layers[-1].name])}


def bit_equal(left: Weights, right: Weights) -> bool:
    """Whether two have the same parameters and mean image to the last bit."""
    return left.digest == right.digest and np.array_equal(
        left.preprocessing.mean_image, right.preprocessing.mean_image
    )
