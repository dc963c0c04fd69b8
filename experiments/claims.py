"""The claims of the texts that this repository was asked to reproduce, a row each.

S0 to S3 are four texts about the network; § is a section of the paper. A claim that a
study decides has its verdict from the study's runs; the others say here what holds.
"""

import dataclasses
from collections.abc import Sequence

from alexnet_jax.configs import six_conv
from alexnet_jax.model import LayerShape
from experiments import arithmetic, paired

# What an H100 attains depends on convolutions that nobody has timed here.
ASSUMED = 'computed at an assumed 30 TFLOP/s'
BYTES = '155 GB (144 GiB) of tars, as much again unpacked, about 65 GB of records'


def hours(images: float, epochs: float, of: Sequence[LayerShape]) -> float:
    """What training takes at the assumed rate."""
    return images * epochs * arithmetic.operations(of, training=True) / 30e12 / 3600


def _six_conv(classes: int) -> Sequence[LayerShape]:
    return arithmetic.layers(six_conv.get_config(), classes)


HOURS = hours(1_281_167, 90, arithmetic.paper_layers())
# The classes of Fall 2011, of 2012 and of Fall 2009. The paper rounds the first release
# to 15M images; 54 and 8.1 epochs are #146's.
PRETRAINED = hours(15e6, 8.1, _six_conv(21_841)) + hours(1_281_167, 54, _six_conv(1000))
FALL_2009 = hours(8.9e6 / 2, 90, _six_conv(10_184))


@dataclasses.dataclass(frozen=True)
class Claim:
    """A row of docs/claims.md."""

    number: int
    quote: str
    source: str
    logged: str  # by the released runs, or published; '' if nothing
    # Where no study decides:
    verdict: str = paired.NOT_RUN
    command: str = ''
    finding: str = ''
    link: str = ''  # from docs/
    # Where a study does: what its number is not, and the same with ImageNet.
    aside: str = ''
    arms: str = ''  # as the sweep is given them
    of_row_20: str = ''  # or a command on the net of row 20
    expected: str = ''


def with_imagenet(command: str, expected: str, runs: float = 1.0) -> dict[str, str]:
    """What a row says that needs ImageNet: command, hours, bytes and what to expect."""
    return {
        'verdict': paired.NEEDS_IMAGENET,
        'command': command,
        'finding': (
            f'expected {expected}; about {runs * HOURS:.1f} hours on one H100, '
            f'{ASSUMED}; {BYTES}'
        ),
        'link': 'imagenet.md',
    }


MAIN = 'python -m alexnet_jax.main'
EVALUATE = 'python -m alexnet_jax.evaluate'
NEIGHBOURS = 'python -m alexnet_jax.neighbours --workdir=runs/paper --split=validation'

FIVE = ' '.join(f'--workdir=runs/paper_{seed}' for seed in range(5))
NETS_OF_2012 = (
    f'for s in 0 1 2 3 4; do {MAIN} --config=paper --config.seed=$s '
    '--workdir=runs/paper_$s; done'
)

CLAIMS = (
    Claim(
        1,
        'The network had 60M parameters and learned 650k neurons (with 5 conv + 3 FC '
        'layers).',
        'S0–S3',
        '',
        paired.SUPPORTED,
        f'{MAIN} --config=paper --summary',
        '60,965,224 parameters, 659,272 neurons, counted',
        'fidelity.md',
    ),
    Claim(
        2,
        'They essentially placed half the kernels of each conv layer on GPU 1 and half '
        'on GPU 2 … communicating only when necessary.',
        'S0, S1, S3',
        '',
        paired.SUPPORTED,
        'python -m experiments.communication',
        'the compiled step has exactly these collectives; read on CPU devices',
        'devices.md',
    ),
    Claim(
        3,
        'it lowered error by a modest but valuable margin (about 1.7% top-1, 1.2% '
        'top-5) compared to a single-GPU net of half width',
        'S0, §3.2',
        '#145-half: 39.17 / 18.23, +1.70 / +1.23',
        arms='base half',
        expected='+1.70 / +1.23 on the 2010 test set (#145-half)',
    ),
    Claim(
        4,
        'using two GPUs this way was actually slightly faster overall than stuffing a '
        'smaller net on one GPU',
        'S0, §3.2',
        '',
        paired.NOT_SUPPORTED,
        'python -m experiments.benchmark scaling --rounds=10',
        'two towers of `released_2012` on two cores against `half` on one: 1.06 × '
        '[1.03, 1.09] of its time, n = 10, the geometric mean; cores of one CPU, where '
        'nothing goes from card to card; 1.06 by the medians',
        '../experiments/records/scaling/table.md',
    ),
    Claim(
        5,
        'a smaller CNN on CIFAR-10 reached 25% training error six times faster with '
        'ReLU than with tanh',
        'S0–S2, Figure 1',
        '6 ×',
        aside=(
            'more than 2 is called supported; where runs never came there longer ones '
            'would decide, not more seeds'
        ),
    ),
    Claim(
        6,
        'It trained much faster than the sigmoid and tanh activations that had been '
        'standard',
        'S2, S0',
        '',
        aside=(
            'more than 2 is called supported; where runs never came there longer ones '
            'would decide, not more seeds'
        ),
    ),
    Claim(
        7,
        'it reduced top-1 error by about 1.4% and top-5 by 1.2%',
        'S0, S3, §3.3',
        '#148: 42.03 / 19.36, +1.37 / +1.15; it leaves the spatial norm out too',
        arms='base no_lrn',
        expected='+1.37 / +1.15 (#148, without the spatial norm too)',
    ),
    Claim(
        8,
        'This subtle change also helped a bit (about 0.4% top-1 error reduction).',
        'S0, §3.4',
        '#147: 41.06 / 18.51, +0.39 / +0.30',
        arms='base no_overlap',
        expected='+0.39 / +0.30 (#147)',
    ),
    Claim(
        9,
        'removing any single middle convolutional layer hurt performance by about 2% '
        'top-1 error',
        'S0, §7',
        '',
        aside='of conv4, one of the middle layers; the others are under “More effects”',
        arms='base without_conv3 without_conv4',
        expected='about +2 top-1 (§7)',
    ),
    Claim(
        10,
        'Without this augmentation, the authors say the network suffered substantial '
        'overfitting.',
        'S0, S2, S3, §4.1',
        '',
        aside='in so few epochs the nets that overfit have the lower test error',
        arms='base no_crop_no_mirror',
        expected='no number in the paper; a larger gap',
    ),
    Claim(
        11,
        'this “lighting adjustment” reduced top-1 error by about 1% according to their '
        'ablation',
        'S0, §4.1',
        '',
        aside='S0 has √λ, the paper λ',
        arms='base no_colour',
        expected='over +1 top-1 (§4.1)',
    ),
    Claim(
        12,
        'without dropout, AlexNet “exhibited substantial overfitting” … training with '
        'dropout takes roughly twice as many iterations to converge',
        'S0–S3, §4.2',
        '',
        aside='in so few epochs the nets that overfit have the lower test error',
        arms='base no_dropout',
        expected='no number in the paper; a larger gap, half the iterations',
    ),
    Claim(
        13,
        'weight decay here is not merely a regularizer: it reduces the model’s '
        'training error',
        '§5',
        '',
        arms='base no_weight_decay',
        expected='no number in the paper; a higher training error',
    ),
    Claim(
        14,
        'They used vanilla SGD with a momentum of 0.9 and a mini-batch size of 128 '
        'images. … started with a learning rate of 0.01 … This happened about three '
        'times',
        'S0, §5',
        '#145: cut at 25, 51, 79 of 91 epochs',
        paired.SUPPORTED,
        f'{MAIN} --config=paper --summary',
        'the update equals a NumPy reference, tested; that it trains ImageNet to the '
        'paper’s error is row 20',
        'fidelity.md',
    ),
    Claim(
        15,
        'setting the ReLU biases in conv2, conv4, conv5, and FC6 to 1 sped up early '
        'learning',
        'S0, §5',
        '',
        aside='with He’s start in both',
        arms='base bias_0',
        expected='no number in the paper; a slower start',
    ),
    Claim(
        16,
        'they first resized each image such that the shorter side = 256 pixels, then '
        'took the central 256×256 patch … minus the dataset mean',
        'S0, §2',
        '',
        paired.SUPPORTED,
        'python -m alexnet_jax.prepare --config=paper --config.data.data_dir=DIR',
        'prepared so; there is no effect to measure',
        'preparation.md',
    ),
    Claim(
        17,
        'the CPU draws random patches on the fly while the GPU computes the previous '
        'batch',
        'S0, §4.1',
        '',
        paired.NOT_RUN,
        'python -m experiments.benchmark pipeline --data_dir=DIR',
        'reading alone is measured, on a CPU; no accelerator has been',
        '../experiments/records/pipeline/table.md',
    ),
    Claim(
        18,
        'average the predictions, boosting accuracy',
        'S0, §4.1',
        'LSVRC-2010: 39.0 / 18.3 with one view, 37.5 / 17.0 with ten',
        of_row_20=f'{EVALUATE} --views=10 --workdir=runs/paper',
        expected='1.5 top-1 and 1.3 top-5 below its one view, as on 2010 (§4.1)',
    ),
    Claim(
        19,
        'When evaluated on the ILSVRC-2010 test set … 37.5% top-1 error and 17.0% '
        'top-5 error.',
        'S0, §6',
        '#145-2010: 37.47 / 17.00',
        **with_imagenet(
            f'{MAIN} --config=released_2012:145-2010 --config.data.source=folder '
            '--config.data.data_dir=DIR --workdir=runs/released_2010; '
            f'{EVALUATE} --views=10 --workdir=runs/released_2010',
            '37.5 % and 17.0 % (Table 1), on images of 2010 as a folder, bytes taken '
            'as 2012’s',
        ),
    ),
    Claim(
        20,
        'Their single network got 18.2% top-5 error on ILSVRC-2012 validation.',
        'S0, §6',
        '#145: 40.66 / 18.21',
        **with_imagenet(
            f'{MAIN} --config=paper --workdir=runs/paper; {EVALUATE} --views=10 '
            '--workdir=runs/paper',
            '40.7 % and 18.2 % with ten views (Table 2)',
        ),
    ),
    Claim(
        21,
        'averaging 5 independently trained nets gave 16.4%',
        'S0, §6',
        '38.1 / 16.4',
        **with_imagenet(
            f'{NETS_OF_2012}; {EVALUATE} --views=10 {FIVE}',
            '38.1 % and 16.4 % (Table 2)',
            5.0,
        ),
    ),
    Claim(
        22,
        'combining those with 2 nets pre-trained on the full 15M-image ImageNet (and '
        'fine-tuned) dropped error to 15.3%',
        'S0, S2, S3',
        '36.7 / 15.4 on validation',
        verdict=paired.NEEDS_IMAGENET,
        command=(
            f'{NETS_OF_2012}; for s in 0 1; do {MAIN} --config=six_conv '
            '--config.seed=$s --config.init.workdir=runs/paper_$s '
            '--config.model.num_classes=0 --config.data.source=folder '
            '--config.data.data_dir=DIR --workdir=runs/six_conv_$s; '
            f'{MAIN} --config=six_conv:finetune --config.seed=$s '
            '--config.init.workdir=runs/six_conv_$s --workdir=runs/finetuned_$s; done; '
            f'{EVALUATE} --views=10 {FIVE} --workdir=runs/finetuned_0 '
            '--workdir=runs/finetuned_1'
        ),
        finding=(
            'expected 36.7 % and 15.4 % on validation, 15.3 % on the test set (Table '
            f'2); about {5 * HOURS + 2 * PRETRAINED:.1f} hours on one H100 for five '
            f'nets and two pre-trained ones, {ASSUMED}; 1.3 TB of the Fall 2011 '
            f'release (Alibaba-MIIL/ImageNet21K #16) besides {BYTES}'
        ),
        link='imagenet.md',
    ),
    Claim(
        23,
        'With an extra conv layer (making 9 layers), they got 67.4%/40.9% on that '
        '10K-class dataset',
        'S0, §6',
        '#131: 69.42 / 43.73 with five convolutions',
        verdict=paired.NEEDS_IMAGENET,
        command=(
            f'{MAIN} --config=six_conv "--config.init.copy=()" '
            '--config.train.epochs=90 --config.model.num_classes=0 '
            '--config.data.source=folder --config.data.data_dir=DIR '
            '"--config.data.train_split=train[:50%]" '
            '"--config.data.validation_split=train[50%:]" --workdir=runs/fall2009'
        ),
        finding=(
            'expected 67.4 % and 40.9 % (§6) with images of the Fall 2009 release, '
            '10,184 classes, as a folder, of which a random half trains; about '
            f'{FALL_2009:.1f} hours on one H100, {ASSUMED}, if it takes the 90 epochs '
            'of 2012: the paper does not say; 8.9 million images, whose bytes are not '
            'known here'
        ),
        link='imagenet.md',
    ),
    Claim(
        24,
        'The ILSVRC-2012 competition (on which AlexNet formally competed) had a secret '
        'test set',
        'S0',
        '',
        paired.NEEDS_IMAGENET,
        f'{EVALUATE} --views=10 --split=test --config.data.test_split=test '
        '--class_numbers=map_clsloc.txt --workdir=runs/paper',
        'the labels are secret still: the command, on the net of row 20, writes the '
        'guesses that a server scores; Table 2 has 16.4 % and 15.3 % for five and '
        'seven nets, of which no guesses are written here; the test images come '
        'besides',
        'imagenet.md',
    ),
    Claim(
        25,
        'which took about 5-6 days on two NVIDIA GTX 580 GPUs … nowadays one could do '
        'it in hours on modern hardware',
        'S0, S2',
        '',
        **with_imagenet(
            f'{MAIN} --config=paper --workdir=runs/paper',
            '34 to 37 days on two CPU cores (computed from the measured step)',
        ),
    ),
    Claim(
        26,
        'The kernels on GPU 1 are largely color-agnostic, while the kernels on GPU 2 '
        'are largely color-specific. This kind of specialization occurs during every '
        'run',
        '§6.1, S0, S2',
        'Figure 3',
        aside=(
            '10 points would make a colour tower; the start still shows in these '
            'kernels of 5 × 5'
        ),
        arms='base columns one_tower',
        expected='one tower nearly without colour in every run, by eye (§6.1)',
    ),
    Claim(
        27,
        'images of semantically similar objects had nearby feature vectors in this '
        'space',
        'S0, Figure 4',
        '',
        of_row_20=f'{NEIGHBOURS} --figure=neighbours.png',
        expected='no number in the paper; neighbours of the class, by the layer alone',
    ),
    Claim(
        28,
        'the five labels considered most probable by our model',
        'Figure 4',
        '',
        aside='its bound was set when some runs had logged this error',
        of_row_20=f'{EVALUATE} --views=10 --workdir=runs/paper',
        expected='81.8 % of the validation images (Table 2)',
    ),
    Claim(
        29,
        'edges → textures → parts → objects',
        'S2, S1',
        '',
        aside='what is an edge, a texture or a part is not measured',
        of_row_20=f'{NEIGHBOURS} --probe=conv1,conv5 --limit=10000',
        expected='no number in the paper; fewer errors with conv5',
    ),
    Claim(
        30,
        'Transfer learning allows models pretrained on ImageNet to adapt quickly to '
        'specialized tasks with limited new data.',
        'S3, S0',
        '',
    ),
    Claim(
        31,
        'models derived from AlexNet principles help identify crop diseases from drone '
        'photographs',
        'S3, S0',
        '',
        command=(
            f'{MAIN} --config=photos --config.data.data_dir=DIR --workdir=runs/crops'
        ),
        finding='such photographs are not at hand; the command trains on a folder',
        link='features.md',
    ),
    Claim(
        32,
        'results kept improving as they trained longer or made the net larger',
        'S0, §7',
        '',
        arms='base width_x0.5 epochs_x0.5',
        expected='no number in the paper; higher errors in both',
    ),
    Claim(
        33,
        'Convolution and weight sharing … made the model trainable with fewer examples '
        'than a fully-connected net.',
        'S0, S2',
        '',
        aside='two layers are local instead, none is fully connected',
    ),
    Claim(
        34,
        'Sweeps by overrides, curves in TensorBoard.',
        'what this repository was asked for',
        '',
        paired.SUPPORTED,
        'python -m experiments.sweep --list',
        'the record of every study was made so',
        '../experiments/README.md',
    ),
)

# Not run and of no study: question, arms, command, page.
NOT_RUN = (
    (
        'How long does the accelerator wait for images? (row 17)',
        'a machine with one',
        'python -m alexnet_jax.main --config=paper --workdir=runs/paper',
        '[speed.md](speed.md)',
    ),
)

SLIPS = (
    ('S2: “~727 MB at fp32”', 'the parameters are 243.9 MB; 724 M multiply-adds'),
    ('S0: “roughly half of them in the final fully-connected layers”', '96 %'),
    ('S3: “15.3 percent on the ImageNet 2012 validation set”', 'the test set'),
    ('S2: “50,000 test images”', 'these are the validation images'),
    ('S0: “test error stayed well below training error”', 'the other way round'),
    (
        'S0: “Layers 1, 4, and 5 had each GPU operate independently”',
        'conv2 reads its own tower too',
    ),
    (
        'S0: biases of 1 in “conv2, conv4, conv5, and FC6”',
        'in all hidden dense layers, fc7 too (§5)',
    ),
    (
        'S0: “2048 … (4 crops × 2 flips × …)”',
        '32² offsets × 2 by the paper’s count; there are 33²',
    ),
)
