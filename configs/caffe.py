"""BVLC AlexNet: Caffe's merged net (bvlc_alexnet/train_val.prototxt, solver.prototxt).

    python -m alexnet_jax.main --config=configs/caffe.py --workdir=runs/caffe

Published: 57.1 % top-1 and 80.2 % top-5 accuracy with the centre crop, i.e. errors of
42.9 % and 19.8 %. Differences to configs/paper.py, line by line.
"""

from ml_collections import ConfigDict

from alexnet_jax.configs import paper

EPOCH = 1_281_167 / 256  # iterations


def get_config() -> ConfigDict:
    config = paper.get_config()

    model = config.model
    # One net with groups: its norm does not see that there are two towers.
    model.lrn.across_towers = True
    model.lrn.k = 1.0  # Caffe's default; train_val.prototxt does not set it
    model.lrn.alpha = 1e-4 / 5  # lrn_layer.cpp divides by local_size
    model.conv1.padding = ((0, 0), (0, 0))  # 227 pixels need none
    # With biases of 1 the loss stayed flat, says its readme.
    for name in paper.BIASED:
        model[name].init_bias = 0.1
    for name in ('fc6', 'fc7'):
        model[name].init_std = 0.005
    model.dropout_scaling = 'train'

    config.data.crop_size = 227
    config.data.fit = 'warp'
    config.data.mean = 'crop'
    config.data.colour_std = 0.0

    config.optimizer.bias_rate = 2.0
    config.optimizer.schedule = 'steps'
    config.optimizer.steps.epochs = tuple(i * 100_000 / EPOCH for i in (1, 2, 3, 4))
    config.train.batch_size = 256
    config.train.epochs = 0.0
    config.train.steps = 450_000
    config.train.schedule_epochs = 450_000 / EPOCH
    return config
