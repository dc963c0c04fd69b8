"""CaffeNet: BVLC AlexNet with pooling before the norm, by accident (caffe #4202).

    python -m alexnet_jax.main --config=configs/caffenet.py --workdir=runs/caffenet

Published: 57.4 % top-1 and 80.4 % top-5 accuracy with the centre crop.
"""

from ml_collections import ConfigDict

from alexnet_jax.configs import caffe, paper


def get_config() -> ConfigDict:
    config = caffe.get_config()
    for name in ('conv1', 'conv2'):
        config.model[name].steps = ('activation', 'pool', 'lrn')
    for name in paper.BIASED:
        config.model[name].init_bias = 1.0
    return config
