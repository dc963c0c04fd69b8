"""The full-size path on a folder of photographs: 256 stored, 224 seen, ten classes.

    python -m alexnet_jax.main --config=configs/clothing.py --config.data.data_dir=DIR

DIR holds `<split>/<class>/*.jpg`; any folder of that form will do. The network is the
paper's with a quarter of its maps, so that a CPU can train it; --config.model.width=1
is the paper's. The README's table has the measured accuracy and minutes.
"""

from ml_collections import ConfigDict

from alexnet_jax.configs import paper


def get_config() -> ConfigDict:
    config = paper.get_config()
    config.model.num_classes = 0
    config.model.width = 0.25
    # The paper's Gaussian of 0.01 is for its own fan-ins; at a quarter of the width
    # and with a few thousand images the signal dies in it, and half of 1,024 units is
    # too much to drop. Inputs and norm are those of configs/cifar10.py.
    paper.start_as_he(config)
    config.model.fc6.dropout = 0.1
    config.model.fc7.dropout = 0.1
    config.data.scale = 1 / 64
    config.model.lrn.k = 1.0
    config.model.lrn.alpha = 0.1

    config.data.source = 'folder'
    config.data.test_split = 'test'

    config.optimizer.schedule = 'cosine'
    config.train.epochs = 20.0
    config.train.schedule_epochs = 0.0  # no event is logged; yours are of your run
    config.train.log_every_steps = 20
    config.train.checkpoint_every_steps = 200
    config.train.histogram_every_evals = 5
    return config
