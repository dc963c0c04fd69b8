"""Two columns that never communicate before the last layer (run #150).

    python -m alexnet_jax.main --config=configs/columns.py --workdir=runs/columns

Not in the paper. Wider than #145 where that keeps a column's work alike: a column has
160 maps in conv2 and 4,096 units each in fc6 and fc7. Logged on the 2012 validation set
with ten views: 41.83 % and 19.33 %, 1.2 and 1.1 points worse than with communication.
"""

from ml_collections import ConfigDict

from alexnet_jax.configs import released_2012


def get_config() -> ConfigDict:
    config = released_2012.get_config('150')
    config.model.conv2.features = 2 * 160
    config.model.conv3.reads = 'own'
    for name in ('fc6', 'fc7'):
        config.model[name].features = 2 * 4096
        config.model[name].reads = 'own'
    return config
