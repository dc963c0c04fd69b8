"""How much of an image is in the logits before the first step, from which start?

    python -m experiments.logit_deviation --out=experiments/records/logit_deviation
    python -m experiments.logit_deviation --data_dir=DIR --images=64

Draws five networks with several seeds, shows them images (the forward pass of an
evaluation) and measures by how much a logit differs from image to image: the standard
deviation over the images, as the root of its mean square over the 1,000 logits. Each
network is that of its config, with its norm, its dropout scaling and its crop. The
images are made of noise whose amplitude falls as 1/f with the colour covariance of
ImageNet (Krizhevsky's components), or are a folder's photographs; their mean image is
subtracted. `<out>` gets `record.json` with every number and `table.md`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import app, flags
from flax import nnx
from ml_collections import ConfigDict

from alexnet_jax import model as model_lib
from alexnet_jax import randomness
from alexnet_jax.configs import caffe, paper, released_2012
from alexnet_jax.data import augment, pipeline, prepare
from alexnet_jax.system import command_line
from experiments import report
from experiments.benchmark import rounds

UNIT_VARIANCE = 'released source, inputs scaled to unit variance'
STORED = 256  # pixels, of which each network sees its central crop


def starts() -> dict[str, ConfigDict]:
    """The networks, by what the table calls them."""
    caffe_with_ones = caffe.get_config()
    for name in paper.BIASED:
        caffe_with_ones.model[name].init_bias = 1.0
    return {
        'released source (0.03 in conv3–conv5, biases of 1)': (
            released_2012.get_config()
        ),
        "paper's text (0.01 everywhere, biases of 1)": paper.get_config(),
        'Caffe with biases of 1': caffe_with_ones,
        'Caffe (biases of 0.1)': caffe.get_config(),
        UNIT_VARIANCE: released_2012.get_config(),
    }


def noise_images(count: int, size: int, seed: int) -> np.ndarray:
    """Noise with a 1/f amplitude in ImageNet's colours, uint8[count, size, size, 3]."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    falling = 1 / np.maximum(frequency, 1 / size)
    falling[0, 0] = 0
    white = np.fft.rfft2(rng.standard_normal((count, 3, size, size)))
    fields = np.fft.irfft2(white * falling, s=(size, size))
    fields /= fields.std(axis=(0, 2, 3), keepdims=True)
    components, deviations = augment.KRIZHEVSKY
    pixels = np.einsum('ci,i,nihw->nhwc', components, deviations, fields)
    return np.clip(np.rint(pixels + 120), 0, 255).astype(np.uint8)


def photographs(data_dir: str, prepared_dir: str, count: int) -> np.ndarray:
    """Validation images of a folder, spread over its classes.

    Returns:
      uint8[count, 256, 256, 3].
    """
    data = paper.get_config().data
    data.source, data.data_dir, data.prepared_dir = 'folder', data_dir, prepared_dir
    dataset = prepare.open_prepared(data)
    total = pipeline.num_examples(dataset, data.validation_split)
    batch = next(
        pipeline.eval_batches(
            dataset, data, split=data.validation_split, batch_size=total
        )
    )
    if total < count:
        raise ValueError(f'--images={count}, and {data_dir} has {total} of validation')
    return batch['image'][:: total // count][:count]


def logit_deviation(
    config: ConfigDict, images: np.ndarray, seed: int, batch: int = 8
) -> float:
    """The deviation of a logit over images f32[N, S, S, 3], for one draw of weights."""
    network = model_lib.network_from_config(
        config.model, images.shape[1], config.model.num_classes
    )
    rngs = nnx.Rngs(params=randomness.key(seed, 'params'))
    net = model_lib.AlexNet(network, rngs=rngs)
    forward = nnx.jit(lambda net, x: net(x))
    logits = [
        np.asarray(forward(net, jnp.asarray(images[i : i + batch])))
        for i in range(0, len(images), batch)
    ]
    variances = np.concatenate(logits).astype(np.float64).var(axis=0, ddof=1)
    return float(np.sqrt(variances.mean()))


def measure(images: np.ndarray, seeds: int, width: float = 1.0) -> dict[str, list]:
    """The deviation from each start, of every seed.

    Args:
      images: uint8[N, 256, 256, 3].
      seeds: 0 … seeds − 1.
      width: of the network, `config.model.width`.
    """
    centred = images.astype(np.float32) - images.mean(axis=0, dtype=np.float32)
    results: dict[str, list] = {}
    for label, config in starts().items():
        config.model.width = width
        size = config.data.crop_size
        first = augment.centre_offset(STORED, size)
        crops = centred[:, first : first + size, first : first + size]
        if label == UNIT_VARIANCE:
            crops = crops / centred.std()
        results[label] = [logit_deviation(config, crops, seed) for seed in range(seeds)]
    return results


def table(record: dict[str, Any]) -> str:
    """A row per start: the mean over the seeds, and their range."""
    rows = [
        [label, f'{np.mean(values):.2g} ({min(values):.2g}–{max(values):.2g})']
        for label, values in record['deviations'].items()
    ]
    header = ['network', 's.d. of a logit over images (range)']
    return report.markdown_table(header, rows) + '\n'


def main(argv: Sequence[str]) -> None:
    """Measures every start and writes the record."""
    command_line.reject_positionals(argv)
    out = command_line.local_path('out', _OUT.value)
    with command_line.user_errors():
        if _DATA_DIR.value:
            images = photographs(_DATA_DIR.value, _PREPARED_DIR.value, _IMAGES.value)
            folder = Path(_DATA_DIR.value).name
            of = f'{len(images)} validation photographs of the folder {folder!r}'
        else:
            of = f'{_IMAGES.value} images of 1/f noise, seed {_NOISE_SEED.value}'
            images = noise_images(_IMAGES.value, STORED, _NOISE_SEED.value)
    record = {
        'images': of,
        'deviation_of_the_pixels': images.std(axis=(0, 1, 2)).round(2).tolist(),
        'seeds_of_the_weights': _SEEDS.value,
        'deviations': measure(images, _SEEDS.value),
        'machine': rounds.machine(),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / 'record.json').write_text(json.dumps(record, indent=2) + '\n')
    (out / 'table.md').write_text(table(record))
    print(f'{of}\n\n{table(record)}')


if __name__ == '__main__':
    _DATA_DIR = flags.DEFINE_string(
        'data_dir', '', "Folder of photographs; '': images of 1/f noise."
    )
    _PREPARED_DIR = flags.DEFINE_string(
        'prepared_dir', '', 'As config.data.prepared_dir.'
    )
    _OUT = flags.DEFINE_string('out', 'runs/logit_deviation', 'Where the record goes.')
    _IMAGES = flags.DEFINE_integer('images', 32, 'How many.', lower_bound=2)
    _NOISE_SEED = flags.DEFINE_integer('noise_seed', 0, 'Of the images of noise.')
    _SEEDS = flags.DEFINE_integer('seeds', 3, 'Draws of the weights.', lower_bound=1)
    app.run(main, flags_parser=command_line.parse_flags)
