"""One of the two columns alone: the one-GPU net of §3.2 (run #145-half).

    python -m alexnet_jax.main --config=configs/half.py --workdir=runs/half

conv5 is not halved, so that fc6 reads as many features as in the two-GPU net: the paper
says so, and 59,798,312 parameters against 60,965,224. Logged on the LSVRC-2010 test set
with ten views: 39.17 % and 18.23 %, 1.70 and 1.23 points worse than both columns.
"""

from ml_collections import ConfigDict

from alexnet_jax.configs import released_2012


def get_config() -> ConfigDict:
    config = released_2012.get_config('145-half')
    config.model.towers = 1
    for name, features in (('conv1', 48), ('conv2', 128), ('conv3', 192),
                           ('conv4', 192), ('conv5', 256)):  # fmt: skip
        config.model[name].features = features
    return config
