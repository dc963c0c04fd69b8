"""Guesses for a folder of photographs, and the two halves of that work alone."""

import io
from pathlib import Path

import numpy as np

from experiments.benchmark.worker import Repetition, Settings, start_jax


def whole(settings: Settings) -> Repetition:
    """Does what `predict` does after its imports: `folder`, by the net of `config`."""
    start_jax(settings)
    import alexnet_jax
    from alexnet_jax.analysis import guesses

    net = alexnet_jax.network(settings['config'])
    folder = Path(settings['folder'])

    def repetition() -> None:
        counted = guesses.count([folder])
        _, bad = guesses.write(net, [folder], counted, io.StringIO(), how='csv')
        assert not bad

    return repetition


def decoding(settings: Settings) -> Repetition:
    """Reads and decodes the files of `folder` to the squares that the net takes."""
    start_jax(settings)
    from alexnet_jax.data import images, photographs
    from alexnet_jax.system import config_arguments

    config = config_arguments.load(config_arguments.to_file(settings['config']))
    stored = images.stored(config.data)
    folder = Path(settings['folder'])

    def repetition() -> None:
        found = photographs.read(photographs.find([folder]), stored, ahead=128)
        assert all(photograph.pixels is not None for photograph in found)

    return repetition


def forward(settings: Settings) -> Repetition:
    """The same number of squares, `images`, through the net, of one batch of noise."""
    start_jax(settings)
    import alexnet_jax

    net = alexnet_jax.network(settings['config'])
    size = net.config.data.stored_size
    rng = np.random.default_rng(0)
    squares = rng.integers(256, size=(net.batch_size, size, size, 3), dtype=np.uint8)
    compiled = net.log_probabilities()
    sizes = [net.batch_size] * (settings['images'] // net.batch_size)
    if rest := settings['images'] % net.batch_size:
        sizes.append(1 << (rest - 1).bit_length())  # as `streams.padded`

    def repetition() -> None:
        for count in sizes:
            np.asarray(compiled(squares[:count]))

    return repetition
