r"""The net with a sixth convolution that the paper pre-trained (Table 2, run #146).

    python -m alexnet_jax.main --config=configs/six_conv.py --workdir=runs/six_conv \
        --config.init.workdir=runs/released --config.model.num_classes=0 \
        --config.data.source=folder --config.data.data_dir=DIR
    python -m alexnet_jax.main --config=configs/six_conv.py:finetune \
        --config.init.workdir=runs/six_conv --workdir=runs/finetuned

conv6 reads both columns' pooled maps. In 2012 such a net was trained for 8.1 epochs on
the Fall 2011 release of ImageNet, its convolutions taken from a net of 10,184 classes,
and then fine-tuned on the 2012 classes with only fc8 new: 54 epochs from a rate of
0.001, conv1 at a tenth of it, fc8 at ten times. Logged after both, with ten views:
38.99 % and 16.62 % on the 2012 validation set. From scratch on 2012 alone (run #141) it
looked overfitted at epoch 60.

The first command is the first stage on a folder of yours that stands for Fall 2011.
`init.workdir` is a run with the same five convolutions; --config.init.copy="()" starts
them new. The source does not say when its rates were cut: they are #145's, at the same
fractions of 8.1 epochs. Its head had 21,843 classes behind a linear layer of 1,024 +
1,024 units; here it is fc8 alone, with as many classes as the data. Neither head is
read by the second stage.
"""

from ml_collections import ConfigDict

from alexnet_jax.configs import paper, released_2012

STAGES = ('pretrain', 'finetune')


def get_config(stage: str = 'pretrain') -> ConfigDict:
    paper.check_argument('six_conv.py', stage, STAGES)
    config = released_2012.get_config()
    model = config.model
    with config.unlocked():
        model.conv6 = paper.conv(
            features=256, kernel=3, reads='all', init_std=0.03, init_bias=1.0
        )
    model.layers = (
        'conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'conv6', 'fc6', 'fc7', 'fc8',
    )  # fmt: skip
    if stage == 'pretrain':
        config.init.copy = ('conv1', 'conv2', 'conv3', 'conv4', 'conv5')
        config.train.epochs = 8.1  # of #145's 91, for which the schedule is written
    else:
        config.init.copy = model.layers[:-1]
        config.optimizer.learning_rate = 0.001
        config.optimizer.bias_rate = 20.0  # 0.02, as in #145; not noted for #146
        config.optimizer.layer_rates = (
            ('conv1/kernel', 0.0, 0.1),
            ('fc8/kernel', 0.0, 10.0),
        )
        # When the rates were cut within the 54 epochs is not noted.
        config.optimizer.steps.epochs = (27.0,)
        config.data.colour_off_epoch = 0.0
        config.train.epochs = config.train.schedule_epochs = 54.0
    return config
