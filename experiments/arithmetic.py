"""Floating-point operations, which computed times and ceilings rest on."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from alexnet_jax.configs import paper
from alexnet_jax.model import LayerShape, layer_shapes, network_from_config


def operations(of: Sequence[LayerShape], *, training: bool) -> int:
    """Counts the operations of one image's products: each multiplication and addition.

    A gradient costs as much as the output for the weights and again for the input,
    which the first layer does not need.
    """
    multiply_adds = sum(layer.multiply_adds for layer in of)
    if training:
        multiply_adds = 3 * multiply_adds - of[0].multiply_adds
    return 2 * multiply_adds


def paper_layers(width: float = 1.0) -> tuple[LayerShape, ...]:
    """The layers of configs/paper.py with ImageNet's classes, at a width."""
    config = paper.get_config()
    config.model.width = width
    return layers(config, 1000)


def layers(config: ConfigDict, classes: int) -> tuple[LayerShape, ...]:
    """The layers of a config's network with so many classes."""
    network = network_from_config(config.model, config.data.crop_size, classes)
    return layer_shapes(network)
