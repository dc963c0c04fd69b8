"""AlexNet as the paper describes it, on ImageNet (ILSVRC-2012).

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural
Networks. NIPS 2012.

    python -m alexnet_jax.main --config=configs/paper.py --workdir=runs/paper

Expected from the paper (not measured here, ImageNet is not at hand): 40.7 % top-1 and
18.2 % top-5 error on the 2012 validation set with ten views, about two points more
with one; 5–6 days on two GTX 580. On two CPU cores a step of 128 images takes 3.24 s on
one device and 3.56 s on two (docs/speed.md), so the 90 epochs, 900,821 steps, would
take 34 to 37 days there: computed, not run.

§ is the paper's section; every other value says why it is what it is.
"""

import math
from collections.abc import Collection

from ml_collections import ConfigDict, config_dict

from alexnet_jax import model as model_lib

# §5: "the second, fourth, and fifth convolutional layers, as well as … the
# fully-connected hidden layers" start with a bias of 1, the others with 0.
BIASED = ('conv2', 'conv4', 'conv5', 'fc6', 'fc7')


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0  # not in paper: one run per number

    config.model = ConfigDict()
    config.model.towers = 2  # §3.2, one per GPU
    config.model.width = 1.0  # multiplies every hidden layer's features
    config.model.num_classes = 1000  # §2; 0: as many as the data set has
    config.model.activation = 'relu'  # §3.1; 'tanh', 'sigmoid', 'linear'
    config.model.compute_dtype = 'float32'  # not in paper: 'bfloat16' for accelerators
    # §3.3, alpha per squared term as its formula reads; the towers keep apart.
    config.model.lrn = ConfigDict(
        {'size': 5, 'k': 2.0, 'alpha': 1e-4, 'beta': 0.75, 'across_towers': False}
    )
    # §3.4. Where several pixels of a window are largest, the gradient goes to the
    # 'first' of them or to 'all' (cuda-convnet); not in paper.
    config.model.pool = ConfigDict({'size': 3, 'stride': 2, 'ties': 'first'})
    # §4.2: the mask alone in training, outputs × 0.5 in testing. 'train' is today's
    # inverted form.
    config.model.dropout_scaling = 'test'
    config.model.layers = (
        'conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7', 'fc8',
    )  # fmt: skip

    # §3.5 gives sizes and connections, §3.3 and §3.4 the places of the norms and pools,
    # §5 the Gaussian's 0.01.
    # 224 pixels make 55 outputs only with 3 zeros at the right and bottom; the paper
    # does not say so, the released source does it (module counts are rounded up).
    config.model.conv1 = conv(
        features=96, kernel=11, stride=4, padding=((0, 3), (0, 3)),
        reads='image', steps=('activation', 'lrn', 'pool'),
    )  # fmt: skip
    config.model.conv1.lrn = True  # present where 'lrn' is among the steps
    config.model.conv2 = conv(
        features=256, kernel=5, padding=((2, 2), (2, 2)),
        reads='own', steps=('activation', 'lrn', 'pool'),
    )  # fmt: skip
    config.model.conv2.lrn = True
    config.model.conv3 = conv(features=384, kernel=3, reads='all')
    config.model.conv4 = conv(features=384, kernel=3, reads='own')
    config.model.conv5 = conv(
        features=256, kernel=3, reads='own', steps=('activation', 'pool')
    )
    config.model.fc6 = dense(features=4096, dropout=0.5)  # §4.2
    config.model.fc7 = dense(features=4096, dropout=0.5)
    config.model.fc8 = ConfigDict(
        {
            'kind': 'dense',
            'reads': 'all',
            'init_std': 0.01,
            'init_bias': 0.0,
            'steps': (),
        }
    )
    for name in BIASED:
        config.model[name].init_bias = 1.0

    config.data = ConfigDict()
    config.data.source = 'imagenet2012'  # a TFDS name, or 'folder'
    config.data.data_dir = ''  # of TFDS, or the folder; '': TFDS's default
    config.data.prepared_dir = ''  # square records; '': beside TFDS's default
    config.data.download = False  # let TFDS download the source
    config.data.train_split = 'train'
    # The paper steers its schedule by the validation error and reports it (Table 2).
    config.data.validation_split = 'validation'
    config.data.test_split = ''  # the 2012 test labels were never released
    # Images of training that are evaluated as those of validation are, without crops,
    # mirrors, noise and dropout: `train_view/…`. '': none.
    config.data.training_error_split = ''
    config.data.stored_size = 256  # §2
    config.data.fit = 'crop'  # §2: short side, centre square; 'warp' stretches (Caffe)
    config.data.encoding = 'jpeg'  # not in paper; 'raw' is faster and 8 times larger
    config.data.jpeg_quality = 95  # not in paper; cuda-convnet2's choice
    config.data.auto_prepare_gb = 2.0  # the main job prepares smaller sets by itself
    config.data.crop_size = 224  # §3.5
    config.data.random_crop = True  # §4.1
    config.data.mirror = True  # §4.1
    config.data.crop_chunk = 1  # images in a row that share a crop and mirror
    config.data.reshuffle = True  # not in paper: another order in each epoch
    # §4.1: PCA of RGB, N(0, 0.1) per component and image, times its eigenvalue (of
    # pixels between 0 and 1: on 0–255 that would be 1,483 grey levels). 'deviation'
    # takes the eigenvalue's root, 'released' besides divides the image by 1.1.
    config.data.colour_std = 0.1  # 0: no colour noise
    config.data.colour_form = 'paper'
    config.data.colour_constants = 'data'  # or 'krizhevsky', 'community'
    config.data.colour_off_epoch = 0.0  # without noise from here on; 0: never
    # Taken from a crop: the centre of the mean image whatever the crop (not in paper;
    # 2012), its part under the 'crop' (Caffe), or its mean 'colour' (torchvision).
    config.data.mean = 'centre'
    # After the mean; one number, or three of R, G and B. The paper's LRN and conv1 are
    # made for grey levels of 0–255.
    config.data.scale = 1.0
    config.data.threads = 2  # not in paper: readers and decoders
    config.data.prefetch_batches = 8  # not in paper

    config.optimizer = ConfigDict()  # §5
    config.optimizer.learning_rate = 0.01
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 0.0005  # of kernels; §5's rule names only w
    config.optimizer.bias_rate = 1.0  # × the learning rate: "an equal rate for all"
    config.optimizer.bias_annealed = True  # False: biases ignore the schedule …
    config.optimizer.bias_cuts = ()  # … and are cut by 10 at these epochs
    # (layer or layer/kernel or layer/bias, from epoch, multiplier of its rate); 0
    # freezes. Not in paper.
    config.optimizer.layer_rates = ()
    config.optimizer.layer_decays = ()  # (layer, instead of weight_decay)
    # §5 divides by 10 by hand when the validation error stops improving, three times
    # before the end: 'plateau' does it by rule. Also 'constant', 'steps', 'cosine',
    # 'dexp'.
    config.optimizer.schedule = 'plateau'
    config.optimizer.plateau = ConfigDict(
        {
            'factor': 0.1,
            'patience': 3,  # evaluations without improvement; not in paper
            'threshold': 0.001,  # smaller improvements do not count; not in paper
            'max_cuts': 3,
        }
    )
    config.optimizer.steps = ConfigDict(
        {'epochs': (23.0, 51.0, 78.0), 'factor': 0.1}  # the released run's (#145-2010)
    )
    config.optimizer.dexp = ConfigDict(
        {'quarters': 4, 'factor': 250.0}
    )  # cuda-convnet2

    config.train = ConfigDict()
    config.train.batch_size = 128  # §5, over all devices
    config.train.epochs = 90.0  # §5
    config.train.steps = 0  # instead of epochs, which must then be 0
    # The length that the epochs above are written for: optimizer.steps.epochs,
    # .bias_cuts, .layer_rates and data.colour_off_epoch. A run of another length has
    # them at the same fractions, so that a run of 30 cuts at 10 what one of 90 cuts at
    # 30. 0: they are epochs of this run.
    config.train.schedule_epochs = 90.0
    config.train.log_every_steps = 100
    config.train.eval_every_epochs = 1.0
    config.train.eval_batch_size = 128
    config.train.checkpoint_every_steps = 2000
    config.train.keep_checkpoints = 2  # besides the best by validation error
    config.train.histogram_every_evals = 1  # parameter histograms and kernel pictures
    # After a loss that is not finite: back to the latest checkpoint with `factor` of
    # the rate, so many times in a run; 0: stop. Not in paper.
    config.train.nonfinite = ConfigDict({'retries': 0, 'factor': 0.5})
    # One line each: the loss at ln(classes) for so many steps (0: never), all units of
    # a layer dead, all images of the first batch the same.
    config.train.warn = ConfigDict(
        {'flat_loss_steps': 5000, 'dead_layers': True, 'flat_inputs': True}
    )

    # Start from the best checkpoint of another run's workdir: the layers named in
    # `copy` are its, the others new.
    config.init = ConfigDict({'workdir': '', 'copy': ()})

    config.mesh = ConfigDict({'data': 0, 'tower': 0})  # 0: chosen from the devices
    # Several processes: host:port of process 0 ('auto': SLURM, Open MPI, Kubernetes),
    # how many there are and which is this one; '': one process, unless the environment
    # says otherwise (JAX_COORDINATOR_ADDRESS).
    config.distributed = ConfigDict(
        {'coordinator': '', 'num_processes': 0, 'process_id': -1, 'timeout_seconds': 60}
    )
    config.lock()
    return config


def check_argument(file: str, argument: str, allowed: Collection[str]) -> None:
    """Refuses an argument, `--config=FILE:ARGUMENT`, that a config does not know."""
    if argument not in allowed:
        raise ValueError(
            f'configs/{file}:{argument}: there is no {argument!r}; there are '
            f'{", ".join(allowed)}'
        )


def conv(
    *,
    features: int,
    kernel: int,
    reads: str,
    stride: int = 1,
    padding: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1)),
    init_std: float = 0.01,
    init_bias: float = 0.0,
    steps: tuple[str, ...] = ('activation',),
) -> config_dict.ConfigDict:
    """A convolution's row of the table; `features` counts the maps of all towers."""
    return ConfigDict({'kind': 'conv', **locals()})


def dense(
    *,
    features: int,
    reads: str = 'all',
    init_std: float = 0.01,
    init_bias: float = 0.0,
    dropout: float = 0.0,
) -> config_dict.ConfigDict:
    """A hidden dense layer's row of the table."""
    steps = ('activation', 'dropout')
    return ConfigDict({'kind': 'dense', **locals()})


def fan_ins(config: ConfigDict) -> dict[str, int]:
    """How many inputs a unit of each layer has, by the config's table as it stands."""
    network = model_lib.network_from_config(
        config.model, config.data.crop_size, config.model.num_classes or 10
    )
    return {
        # A locally connected kernel has the positions among its axes, in front.
        shape.name: math.prod(shape.kernel[-4:-1])
        for shape in model_lib.layer_shapes(network)
    }


def start_as_he(config: ConfigDict) -> None:
    """Gives every hidden layer Gaussians of sqrt(2 / fan-in) and biases of 0.

    He, Zhang, Ren, Sun: Delving Deep into Rectifiers, 2015. For networks whose fan-ins
    are not the paper's, where its 0.01 and biases of 1 drown the image. Call it when
    widths, kernels, towers and crop are set: an override of one of them afterwards,
    --config.model.width=1, keeps the deviations that were computed here.
    """
    hidden = list(fan_ins(config).items())[:-1]
    for name, fan_in in hidden:
        config.model[name].init_std = math.sqrt(2 / fan_in)
        config.model[name].init_bias = 0.0
