"""`jax.export`: prediction as one StableHLO program, its weights within.

    import jax.export

    prediction = jax.export.deserialize(open('alexnet.jax_export', 'rb').read())
    probabilities = prediction.call(squares)  # u8[B, S, S, 3], RGB, any B

It needs jax and flatbuffers alone, on a CPU, CUDA or a TPU. jax keeps such a file
readable for six months of its own releases. It is not read back: what travels as
weights is a file of safetensors.
"""

import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from alexnet_jax import cpu, model
from alexnet_jax.formats import description
from alexnet_jax.formats.weights import Weights
from alexnet_jax.system import files

PLATFORMS = ('cpu', 'cuda', 'tpu')


def write(weights: Weights, path: Path) -> list[Path]:
    """Writes the program, and its classes and preprocessing as JSON beside it.

    Returns:
      Both paths.
    """
    said = path.with_name(path.name + '.json')
    content = bytes(program(weights).serialize())
    about = {
        'sha256': hashlib.sha256(content).hexdigest(),
        'platforms': PLATFORMS,
        'classes': weights.network.num_classes,
    }
    files.write_atomically(path, content)
    files.write_json(said, description.of(weights) | {'program': about})
    return [path, said]


def program(weights: Weights) -> export.Exported:
    """squares u8[B, stored, stored, 3] → probabilities f32[B, classes].

    The centre crop, less its mean and scaled, through the network, for one device. The
    operations are their plain formulas on every platform: the forms for XLA's CPU
    backend would be slow elsewhere.
    """
    seen = weights.preprocessing
    start = (seen.stored_size - seen.crop_size) // 2
    part = slice(start, start + seen.crop_size)
    mean, scale = seen.centre_mean, np.asarray(seen.scale, np.float32)

    @jax.jit
    def predict(squares: jax.Array) -> jax.Array:
        x = (squares[:, part, part].astype(jnp.float32) - mean) * scale
        # Else XLA orders the rows of fc6 anew, for seconds, whenever it compiles.
        params = jax.lax.optimization_barrier(weights.params)
        return jax.nn.softmax(model.merge(weights.network, params)(x))

    sides = f'batch, {seen.stored_size}, {seen.stored_size}, 3'
    squares = jax.ShapeDtypeStruct(export.symbolic_shape(sides), jnp.uint8)
    with cpu.plain_formulas():
        return export.export(predict, platforms=PLATFORMS)(squares)
