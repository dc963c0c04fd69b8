"""The net with a sixth convolution that the paper pre-trained (Table 2, run #146).

    python -m alexnet_jax.main --config=configs/six_conv.py --workdir=runs/six_conv \\
        --config.init.workdir=runs/released

conv6 reads both columns' pooled maps. Logged after pre-training on the Fall 2011
release of ImageNet, with ten views: 38.99 % and 16.62 % on the 2012 validation set. As
the run's notes have it: 54 epochs from a rate of 0.001, conv1 at a tenth of it and the
new fc8 at ten times. From scratch (run #141) such a net looked overfitted at epoch 60.

`init.workdir` is any run of a net with the same convolutions; without it everything
starts new, and those rates make no sense.
"""

from ml_collections import ConfigDict

from configs import paper, released_2012


def get_config() -> ConfigDict:
    config = released_2012.get_config()
    model = config.model
    with config.unlocked():
        model.conv6 = paper.conv(
            features=256, kernel=3, reads='all', init_std=0.03, init_bias=1.0
        )
    model.layers = (
        'conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'conv6', 'fc6', 'fc7', 'fc8',
    )  # fmt: skip

    # #146 took the convolutions of a net trained on 10,184 classes.
    config.init.copy = ('conv1', 'conv2', 'conv3', 'conv4', 'conv5')
    config.optimizer.learning_rate = 0.001
    config.optimizer.bias_rate = 20.0  # 0.02, as in #145
    config.optimizer.layer_rates = (('conv1', 0.0, 0.1), ('fc8', 0.0, 10.0))
    # When the rates were cut within the 54 epochs is not noted.
    config.optimizer.steps.epochs = (27.0,)
    config.data.colour_off_epoch = 0.0
    config.train.epochs = 54.0
    return config
