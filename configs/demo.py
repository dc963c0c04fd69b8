"""The demo: rendered shapes, no download, about a minute and a half on two cores.

    python -m alexnet_jax.main --config=configs/demo.py

Ten shapes in any colour, texture, clutter, scale and place
(alexnet_jax/data/rendered_shapes). The net is configs/cifar10.py's with half its maps.
"""

from ml_collections import ConfigDict

from alexnet_jax.configs import cifar10, paper


def get_config() -> ConfigDict:
    config = cifar10.get_config()
    config.model.width = 0.5
    config.data.source = 'rendered_shapes'
    config.data.train_split = 'train'
    config.data.validation_split = 'validation'
    config.data.test_split = 'test'
    paper.start_as_he(config)
    config.data.mirror = False
    config.data.colour_std = 0.1
    config.optimizer.learning_rate = 0.02
    config.train.epochs = 8.0
    config.train.log_every_steps = 50
    config.train.checkpoint_every_steps = 250
    config.train.histogram_every_evals = 3
    return config
