"""The configs that studies start from, each with what the protocol says of it."""

import dataclasses

from experiments.studies.study import Base

_CIFAR10 = (
    'CIFAR-10, JPEG copies: 45,000 images train, 5,000 validate, the 10,000 test '
    'images only report; the training error in one view is of the first 5,000 that '
    'train'
)
HIDDEN_LAYERS = ('conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7')

# Several times an epoch, whatever the processor's speed.
_LOGGING = {
    'train.log_every_steps': 88,
    'train.checkpoint_every_steps': 703,
    'train.keep_checkpoints': 1,
    'train.histogram_every_evals': 0,
    'data.training_error_split': 'train[:5000]',
}

CIFAR10_HALF = Base(
    name='cifar10_half',
    config='cifar10',
    overrides={
        'model.width': 0.5,
        'data.crop_size': 24,
        'optimizer.learning_rate': 0.02,
        'train.epochs': 8.0,
        **_LOGGING,
    },
    data=_CIFAR10 + '; 24 × 24 crops and mirrors',
    network=(
        '`configs/cifar10.py` at half of its width: two towers, LRN, overlapping '
        'pools, dropout of 0.1, 255,562 parameters'
    ),
    schedule='8 epochs, rate 0.02 falling to 0 along a cosine, momentum 0.9, batch 128',
)

_HALVES = {
    'data.train_split': 'pretrain',
    'data.validation_split': 'pretrain_validation',
    'data.test_split': 'pretrain_test',
}
_FEW = (
    'the halves of the classes, by even and odd labels, in a folder of '
    '`experiments.few_images`: {evens} train first; of {odds} 10, 30 or 100 training '
    'images a class are drawn by the seed, and all images of the base’s validation and '
    'test splits steer and report'
)
_THEN = '; on few images 500 steps of 50 images at a tuned rate, falling likewise'

TRANSFER = Base(
    name='transfer',
    config='cifar10',
    overrides={
        **CIFAR10_HALF.overrides,
        **_HALVES,
        'data.training_error_split': 'pretrain[:2500]',
        'train.log_every_steps': 44,
        'train.checkpoint_every_steps': 352,
    },
    data='CIFAR-10, JPEG copies, as in the base `cifar10_half`; '
    + _FEW.format(
        evens='airplane, bird, deer, frog and ship',
        odds='automobile, cat, dog, horse and truck',
    ),
    network=CIFAR10_HALF.network + ' with ten classes, 254,277 with five',
    schedule=CIFAR10_HALF.schedule + _THEN,
    folder=True,
    data_dir='runs/few_images/cifar10',
    made_by='python -m experiments.few_images --of=cifar10_half --data_dir=TFDS_DIR '
    '--out=runs/few_images/cifar10',
    ten_views=False,
)

FIGURE1 = Base(
    name='figure1',
    config='cuda_convnet:80sec',
    overrides={
        **_LOGGING,
        'train.log_every_steps': 44,
        'optimizer.weight_decay': 0.0,
        'optimizer.layer_decays': (),
        'optimizer.schedule': 'constant',
        'train.epochs': 12.0,
        'train.schedule_epochs': 0.0,
    },
    data=_CIFAR10 + '; whole images, neither crops nor mirrors',
    network=(
        "cuda-convnet's 80sec net, three convolutions and two dense layers with the "
        'logits’, in its order of pools and activations; 145,578 parameters'
    ),
    schedule=(
        '12 epochs (tanh 30, sigmoid 20) at a constant rate, momentum 0.9, batch 128, '
        'no decay at all'
    ),
    ten_views=False,
)

FIGURE1_RATES = Base(
    name='figure1_rates',
    config='cuda_convnet:80sec',
    overrides={**FIGURE1.overrides, 'train.epochs': 3.0},
    data=FIGURE1.data,
    network=FIGURE1.network,
    schedule='3 epochs at a constant rate, momentum 0.9, batch 128, no decay at all',
    ten_views=False,
)

PHOTOGRAPHS = Base(
    name='photographs',
    config='clothing',
    overrides={
        'data.train_split': 'train[:90%]',
        'data.validation_split': 'train[90%:]',
        'data.test_split': 'validation',
        'data.training_error_split': 'train[:10%]',
        'data.stored_size': 224,
        'data.crop_size': 192,
        'data.encoding': 'raw',
        'train.epochs': 8.0,
        'train.log_every_steps': 16,
        'train.checkpoint_every_steps': 63,
        'train.keep_checkpoints': 1,
        'train.histogram_every_evals': 0,
    },
    data=(
        '8,958 photographs of ImageNet in ten easy classes (of fastai’s imagenette): '
        '8,101 of them train, 857 steer, and 2,000 of `validation` only report; '
        'stored at 224 × 224, crops of 192 × 192 and mirrors; the training '
        'error in one view is of a tenth that trains'
    ),
    network='`configs/clothing.py`: the paper’s at a quarter of its width',
    schedule='8 epochs, rate 0.01 falling to 0 along a cosine, momentum 0.9, batch 128',
    images='photographs, 10 classes',
    folder=True,
    data_dir='DIR',
)

IMAGENETTE = Base(
    name='imagenette',
    config='imagenette',
    overrides={  # the config's, as it was when its first change was tried
        **{
            key: value
            for key, value in PHOTOGRAPHS.overrides.items()
            if key.startswith('data.') and key != 'data.training_error_split'
        },
        'train.batch_size': 64,
        'train.epochs': 60.0,
        'optimizer.learning_rate': 0.02,
        'optimizer.weight_decay': 0.0005,
        'train.keep_checkpoints': 1,
        'train.histogram_every_evals': 0,
    },
    data=PHOTOGRAPHS.data.partition('; the training')[0],
    network='`configs/imagenette.py`: the paper’s at a quarter of its width',
    schedule='60 epochs, rate 0.02 falling to 0 along a cosine, momentum 0.9, batch 64',
    images='photographs, 10 classes',
    folder=True,
    data_dir='DIR',
)

TRANSFER_PHOTOGRAPHS = Base(
    name='transfer_photographs',
    config='clothing',
    overrides={
        **PHOTOGRAPHS.overrides,
        **_HALVES,
        'data.training_error_split': 'pretrain[:400]',
    },
    data='8,958 + 2,000 photographs of ImageNet in ten easy classes, as in the base '
    '`photographs`; '
    + _FEW.format(
        evens='tench, cassette player, church, garbage truck and golf ball',
        odds='English springer, chain saw, French horn, gas pump and parachute',
    ),
    network=PHOTOGRAPHS.network,
    schedule=PHOTOGRAPHS.schedule + _THEN,
    images=PHOTOGRAPHS.images,
    folder=True,
    data_dir='runs/few_images/photographs',
    made_by='python -m experiments.few_images --of=photographs --data_dir=DIR '
    '--out=runs/few_images/photographs',
    ten_views=False,
)

KERNELS_2012 = Base(
    name='kernels_2012',
    config='released_2012',
    overrides={
        **{
            key: value
            for key, value in PHOTOGRAPHS.overrides.items()
            if key.startswith(('data.', 'train.'))
        },
        'data.encoding': 'jpeg',
        'data.crop_chunk': 1,
        'data.reshuffle': True,
        'model.num_classes': 0,
        'model.width': 0.25,
        'model.conv1.features': 384,
        'model.conv1.init_std': 0.0001,
        **{f'model.conv{number}.init_std': 0.06 for number in (3, 4, 5)},
        **{f'model.fc{number}.init_std': 0.02 for number in (6, 7, 8)},
        'optimizer.schedule': 'constant',
        'train.batch_size': 64,
        'train.checkpoint_every_steps': 126,
    },
    data=PHOTOGRAPHS.data.replace('mirrors', 'mirrors, colour noise'),
    network=(
        'the released net of 2012 at a quarter of its width but with all of conv1’s 96 '
        'kernels of 11 × 11, which start from a Gaussian of 0.0001 as those of the '
        'released CIFAR-10 nets do (docs/kernels.md): what they show was learned'
    ),
    schedule='8 epochs at a constant rate of 0.01, momentum 0.9, batch 64',
    images=PHOTOGRAPHS.images,
    folder=True,
    data_dir=PHOTOGRAPHS.data_dir,
    ten_views=False,
)

LOCAL_NET = Base(
    name='conv_local',
    config='cuda_convnet:conv_local_13pct',
    overrides={
        **_LOGGING,
        'optimizer.schedule': 'cosine',
        'train.epochs': 8.0,
        'train.schedule_epochs': 0.0,
    },
    data=CIFAR10_HALF.data,
    network="cuda-convnet's conv_local_13pct net",
    schedule='8 epochs, rate 0.001 falling to 0 along a cosine, momentum 0.9',
    ten_views=False,
)


def published(
    net: str, schedule: str, *, eval_every_epochs: float = 5.0, crops: bool = False
) -> Base:
    """One of cuda-convnet's nets as its files have it, at its own schedule."""
    return Base(
        name=net,
        config=f'cuda_convnet:{net}',
        overrides={**_LOGGING, 'train.eval_every_epochs': eval_every_epochs},
        data=CIFAR10_HALF.data if crops else FIGURE1.data,
        network=f"cuda-convnet's {net} net, as its files have it",
        schedule=f'{schedule}; rate 0.001',
        ten_views=crops,
    )


PUBLISHED_80SEC = published(
    '80sec', '10 epochs, cut at 8 as published', eval_every_epochs=1.0
)
PUBLISHED_18PCT = published('18pct', '140 epochs, cut at 120 and 130 as published')
PUBLISHED_13PCT = published(
    'conv_local_13pct', '160 epochs as published, cut at 140 and 150', crops=True
)
PUBLISHED_11PCT = published(
    'conv_local_11pct', '520 epochs as published, cut at 500 and 510', crops=True
)
WITH_NORM = published(
    'conv_local_13pct_lrn', '470 epochs as its notes have them, cut at 450 and 460',
    crops=True,
)  # fmt: skip
WITH_NORM_QUARTER = dataclasses.replace(
    WITH_NORM,
    name='conv_local_13pct_lrn_quarter',
    overrides={
        **WITH_NORM.overrides,
        'train.eval_every_epochs': 2.0,
        'train.epochs': 40.0,
        'train.schedule_epochs': 40.0,
        'optimizer.steps.epochs': (35.0, 37.5),
    },
    schedule=(
        '40 epochs, cut at 35 and 37.5, a quarter of what the 13 % net’s files have; '
        'rate 0.001'
    ),
)
