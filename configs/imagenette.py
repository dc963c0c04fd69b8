"""Ten classes of ImageNet, 8,958 photographs (fastai's imagenette), in an hour or so.

    python -m alexnet_jax.main --config=configs/imagenette.py \
        --config.data.data_dir=DIR --workdir=runs/imagenette

DIR holds `train/<synset>/*.JPEG` and `validation/<synset>/*.JPEG`, squares of 224
pixels or larger images. The network is `configs/clothing.py`'s: the paper's with a
quarter of its maps. What differs is what few photographs and many epochs ask for.
"""

from ml_collections import ConfigDict

from alexnet_jax.configs import clothing


def get_config() -> ConfigDict:
    config = clothing.get_config()
    # The last tenth of the training images steers; the validation images of ImageNet
    # only report.
    config.data.train_split = 'train[:90%]'
    config.data.validation_split = 'train[90%:]'
    config.data.test_split = 'validation'
    # 33² crops of a stored square, as the paper has them, at 0.72 of its work.
    config.data.stored_size = 224
    config.data.crop_size = 192
    config.data.encoding = 'raw'  # 1.3 GB

    # So many epochs overfit: half of the units are dropped, as in the paper (§4.2).
    config.model.fc6.dropout = 0.5
    config.model.fc7.dropout = 0.5
    config.train.batch_size = 64  # twice the steps of 128 an epoch
    config.train.epochs = 80.0
    config.train.checkpoint_every_steps = 500
    config.train.histogram_every_evals = 20
    return config
