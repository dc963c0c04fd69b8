"""The one-tower net of "One weird trick" (2014), and torchvision's `alexnet`.

    python -m alexnet_jax.main --config=configs/one_tower.py --workdir=runs/one_tower
    python -m alexnet_jax.main --config=configs/one_tower.py:torchvision …

No groups, 64-192-384-256-256 maps, 61,100,840 parameters. Published errors with one
view: 42.55 % and 19.81 % (cuda-convnet2, layers-imagenet-1gpu.cfg), 43.48 % and 20.93 %
(torchvision). torchvision's random resized crops are not offered here: its variant has
the paper's.
"""

from ml_collections import ConfigDict

from alexnet_jax.configs import paper, released_2012

VARIANTS = ('2014', 'torchvision')
DEVIATION = (0.229, 0.224, 0.225)  # torchvision's, of R, G and B


def get_config(variant: str = '2014') -> ConfigDict:
    paper.check_argument('one_tower.py', variant, VARIANTS)
    config = paper.get_config()
    config.model.towers = 1
    for name, features in (('conv1', 64), ('conv2', 192), ('conv4', 256)):
        config.model[name].features = features
    if variant == '2014':
        released_order(config)
    else:
        as_in_torchvision(config)
    return config


def released_order(config: ConfigDict) -> None:
    """cuda-convnet2's layers-223-1gpu.cfg and its parameters' file.

    Two LRNs, the order and the initial values of 2012 but for fc8's bias.
    """
    model = config.model
    model.lrn.alpha = 1e-4 / 5
    model.conv1.steps = ('lrn', 'pool', 'activation')
    model.pool.ties = 'all'
    model.conv5.steps = ('pool', 'activation')
    for name, std in released_2012.INIT_STD.items():
        model[name].init_std = std
    model.fc8.init_bias = -7.0  # about -ln(1000): every class starts unlikely
    config.data.colour_form = 'released'
    config.data.colour_constants = 'krizhevsky'
    config.optimizer.schedule = 'dexp'
    config.optimizer.bias_rate = 2.0
    # Biases in two levels where the weights have four: dexp, factor 10, 2 steps.
    config.optimizer.bias_annealed = False
    config.optimizer.bias_cuts = (45.0,)  # half of the run, whatever its length


def as_in_torchvision(config: ConfigDict) -> None:
    """torchvision/models/alexnet.py and its reference training."""
    model = config.model
    with config.unlocked():
        del model.lrn
        for name in ('conv1', 'conv2'):
            model[name].steps = ('activation', 'pool')
            del model[name].lrn
        # Dropout before fc6 and fc7, none before fc8.
        model.conv5.steps = ('activation', 'pool', 'dropout')
        model.conv5.dropout = 0.5
        model.fc7.steps = ('activation',)
        del model.fc7.dropout
    model.conv1.padding = ((2, 2), (2, 2))
    model.dropout_scaling = 'train'
    # PyTorch's default is uniform within ±1 / sqrt(fan-in), for biases too: a standard
    # deviation of 1 / sqrt(3 fan-in). Ours is a Gaussian of that, with biases of 0.
    for name, fan_in in paper.fan_ins(config).items():
        model[name].init_std = (3 * fan_in) ** -0.5
        model[name].init_bias = 0.0
    # Its inputs have unit variance: less the mean colour, through its deviation of
    # ImageNet's R, G and B, which are of pixels in [0, 1].
    config.data.mean = 'colour'
    with config.ignore_type():
        config.data.scale = tuple(1 / (255 * d) for d in DEVIATION)
    config.data.colour_std = 0.0
    config.optimizer.weight_decay = 1e-4
    config.optimizer.schedule = 'steps'
    config.optimizer.steps.epochs = (30.0, 60.0)
    config.train.batch_size = 256
