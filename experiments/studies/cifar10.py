"""Studies that change one thing in the CIFAR-10 net of half width.

All share the cells of `base`. A difference of 0.3 points of test error, 30 of 10,000
images, is the smallest that is said to matter.
"""

from collections.abc import Sequence

from experiments.studies import study
from experiments.studies.bases import CIFAR10_HALF, HIDDEN_LAYERS
from experiments.studies.study import GAP, TEST, Effect, Study

MATTERS = 0.3
_BESIDE_TESTS = (
    'Tests ran beside them on the two cores: their CPU minutes are not to be compared'
)


def worse(claim: int, arm: str, text: str, against: str = 'base') -> Effect:
    """The claim that an arm has a higher test error."""
    return Effect(claim, text, arm, against, TEST, matters=MATTERS)


LRN = Study(
    name='lrn',
    question='Does local response normalisation lower the error, and where?',
    claim=(
        '“Response normalization reduces our top-1 and top-5 error rates by 1.4% and '
        '1.2%, respectively” (§3.3); “on the CIFAR-10 dataset: a four-layer CNN '
        'achieved a 13% test error rate without normalization and 11% with '
        'normalization”'
    ),
    base=CIFAR10_HALF,
    arms=('base', 'no_lrn', 'lrn_conv1_only', 'lrn_conv2_only'),
    effects=(
        worse(7, 'no_lrn', 'without the norms'),
        worse(0, 'lrn_conv2_only', 'without conv1’s norm'),
        worse(0, 'lrn_conv1_only', 'without conv2’s norm'),
    ),
    seeds=5,
    changed_since=(
        '2026-11-30: the arms with one norm were run after the others. '
        + _BESIDE_TESTS,
    ),
)

LRN_ALPHA = Study(
    name='lrn_alpha',
    question='Does the alpha matter in which text and source differ?',
    claim='α = 10⁻⁴ (§3.3), and 10⁻⁴ / 5 in the released source',
    base=CIFAR10_HALF,
    arms=('base', 'lrn_1e-4', 'lrn_2e-5'),
    effects=(worse(0, 'lrn_2e-5', 'the source’s alpha, not the text’s', 'lrn_1e-4'),),
    remarks='Grey levels are divided by 64 here, so that alpha is 64² times its own; '
    'k is 1 in all three arms.',
)

POOLS = Study(
    name='pools',
    question='Do overlapping pools lower the error, and overfit less?',
    claim=(
        '“This scheme reduces the top-1 and top-5 error rates by 0.4% and 0.3%, '
        'respectively, as compared with the non-overlapping scheme s = 2, z = 2” '
        '(§3.4); “models with overlapping pooling find it slightly more difficult to '
        'overfit”'
    ),
    base=CIFAR10_HALF,
    arms=('base', 'no_overlap'),
    effects=(
        worse(8, 'no_overlap', 'pools of 2 × 2'),
        Effect(0, 'the gap with pools of 2 × 2', 'no_overlap', 'base', GAP),
    ),
    seeds=5,
)

DROPOUT = Study(
    name='dropout',
    question='Does dropout keep the net from overfitting, at twice the iterations?',
    claim=(
        '“Without dropout, our network exhibits substantial overfitting. Dropout '
        'roughly doubles the number of iterations required to converge” (§4.2)'
    ),
    base=CIFAR10_HALF,
    arms=('no_dropout', 'dropout_half', 'base'),
    effects=(
        Effect(
            12,
            'the gap without dropout, against half of the units dropped',
            'no_dropout',
            'dropout_half',
            GAP,
            matters=0.5,
        ),
        worse(12, 'no_dropout', 'without dropout', 'dropout_half'),
        Effect(
            12,
            'half dropped against none',
            'dropout_half',
            'no_dropout',
            study.epochs_to('val/top1_error', 0.45, 'validation error'),
            ratio=True,
        ),
    ),
    remarks=(
        '`base` drops a tenth. With 8 epochs under a schedule that falls to 0, the '
        'epochs to 45 % stand for the iterations to converge; they are read off '
        'evaluations one epoch apart.'
    ),
)

AUGMENTATION = Study(
    name='augmentation',
    question='Do crops and mirrors keep the net from overfitting?',
    claim=(
        '“Without this scheme, our network suffers from substantial overfitting, which '
        'would have forced us to use much smaller networks” (§4.1)'
    ),
    base=CIFAR10_HALF,
    arms=('base', 'no_crop_no_mirror', 'no_crop', 'no_mirror'),
    effects=(
        Effect(
            10,
            'the gap with neither crops nor mirrors',
            'no_crop_no_mirror',
            'base',
            GAP,
            matters=0.5,
        ),
        worse(10, 'no_crop_no_mirror', 'neither crops nor mirrors'),
        worse(0, 'no_crop', 'mirrors alone'),
        worse(0, 'no_mirror', 'crops alone'),
    ),
)

WEIGHT_DECAY = Study(
    name='weight_decay',
    question='Does weight decay lower the training error?',
    claim=(
        '“weight decay here is not merely a regularizer: it reduces the model’s '
        'training error” (§5)'
    ),
    base=CIFAR10_HALF,
    arms=('base', 'no_weight_decay'),
    effects=(
        Effect(
            13,
            'the training error without decay',
            'no_weight_decay',
            'base',
            study.TRAINING,
            matters=MATTERS,
        ),
        Effect(
            0,
            'the training loss without decay',
            'no_weight_decay',
            'base',
            study.TRAINING_LOSS,
        ),
        worse(0, 'no_weight_decay', 'without decay'),
    ),
    seeds=5,
)

BIASES = Study(
    name='biases',
    question='Do biases of 1 speed up the start?',
    claim=(
        '“This initialization accelerates the early stages of learning by providing '
        'the ReLUs with positive inputs” (§5)'
    ),
    base=CIFAR10_HALF,
    arms=('base', 'bias_1'),
    effects=(
        Effect(
            15,
            'biases of 0 against 1',
            'base',
            'bias_1',
            study.epochs_to('train/top1_error', 0.6, 'running training error'),
            ratio=True,
        ),
        worse(0, 'base', 'biases of 0', 'bias_1'),
    ),
    remarks='Kernels start with He’s deviation in both arms, not with 0.01.',
)

COLOUR = Study(
    name='colour',
    question='Does colour noise lower the error, in which form?',
    claim='“This scheme reduces the top-1 error rate by over 1%” (§4.1)',
    base=CIFAR10_HALF,
    arms=('base', 'colour_deviation', 'colour_paper', 'colour_released'),
    effects=(
        worse(11, 'base', 'no noise, against √λ', 'colour_deviation'),
        worse(0, 'base', 'no noise, against λ as the text has it', 'colour_paper'),
        worse(0, 'base', 'no noise, against √λ and ÷ 1.1', 'colour_released'),
    ),
)

DEPTH = Study(
    name='depth',
    question='Is the net worse without any one of its layers?',
    claim=(
        '“our network’s performance degrades if a single convolutional layer is '
        'removed. For example, removing any of the middle layers results in a loss of '
        'about 2% for the top-1 performance of the network” (§7)'
    ),
    base=CIFAR10_HALF,
    arms=('base', *(f'without_{layer}' for layer in HIDDEN_LAYERS)),
    effects=tuple(
        worse(9 if layer == 'conv4' else 0, f'without_{layer}', f'without {layer}')
        for layer in HIDDEN_LAYERS
    ),
    remarks='The row of the claim takes conv4, a middle layer; all rows are shown.',
    changed_since=(
        '2026-11-30: the layers but conv4 were run after it, their third seed on '
        'another machine. ' + _BESIDE_TESTS,
    ),
)

TOWERS = Study(
    name='towers',
    question='Do two towers beat one of half the maps, and what does talking bring?',
    claim=(
        '“This scheme reduces our top-1 and top-5 error rates by 1.7% and 1.2%, '
        'respectively, as compared with a net with half as many kernels in each '
        'convolutional layer trained on one GPU” (§3.2)'
    ),
    base=CIFAR10_HALF,
    arms=('base', 'half', 'columns', 'one_tower', 'one_tower_equal'),
    effects=(
        worse(3, 'half', 'one column of half the maps'),
        worse(0, 'columns', 'columns that never communicate'),
        worse(0, 'base', 'two towers against one of equal width', 'one_tower'),
        worse(
            0,
            'base',
            'two towers against one of equal parameters',
            'one_tower_equal',
        ),
    ),
    changed_since=(
        '2026-11-30: one tower of equal parameters has one seed so far, for want of '
        'time. ' + _BESIDE_TESTS,
    ),
)

SIZE = Study(
    name='size',
    question='Is a wider net, and one trained longer, better?',
    claim=(
        '“our results can be improved simply by waiting for faster GPUs and bigger '
        'datasets to become available” (§1); “our results have improved as we have '
        'made our network larger and trained it longer” (§7)'
    ),
    base=CIFAR10_HALF,
    arms=(
        *('base', 'width_x0.5', 'width_x2', 'width_x4'),
        *('epochs_x0.5', 'epochs_x2', 'epochs_x4'),
    ),
    effects=(
        worse(32, 'base', 'half width against full', 'width_x2'),
        worse(0, 'width_x0.5', 'a quarter of the width against half'),
        worse(0, 'width_x2', 'full width against twice', 'width_x4'),
        worse(32, 'base', '8 epochs against 16', 'epochs_x2'),
        worse(0, 'epochs_x0.5', '4 epochs against 8'),
        worse(0, 'epochs_x2', '16 epochs against 32', 'epochs_x4'),
    ),
    remarks=(
        'Widths are a quarter, half, all and twice of `configs/cifar10.py`’s, and '
        'epochs 4 to 32. A net of twice its width would take about an hour a run.'
    ),
    changed_since=(
        '2026-11-29: the runs of `base` are those of `lrn`, from an earlier machine; '
        'CPU minutes are not to be compared with theirs. `epochs_x4` was left out for '
        'want of time',
        '2026-11-30: `width_x4` was added, to be listed with what was not run; its '
        'hour a run had kept it out',
    ),
)

TEXT_OR_RELEASE = Study(
    name='text_or_release',
    question='Does it matter whether the text is followed, or the released source?',
    claim='docs/fidelity.md has the differences side by side',
    base=CIFAR10_HALF,
    arms=('lrn_1e-4', 'released_order'),
    effects=(worse(0, 'lrn_1e-4', 'text against release', 'released_order'),),
    remarks=(
        'The text’s alpha in one arm; in the other the source’s alpha, order of pool, '
        'norm and activation, ties and bias rate. Deviations of the start, spatial '
        'norm, chunks of crops and schedule are not part of it.'
    ),
)

WEIGHT_SHARING = Study(
    name='weight_sharing',
    question='Does weight sharing regularise?',
    claim=(
        '“the very use of a convolutional architecture was a form of prior knowledge … '
        'This made the model trainable with fewer examples” (S0)'
    ),
    base=CIFAR10_HALF,
    arms=('base', 'local'),
    effects=(
        Effect(33, 'the gap with two local layers', 'local', 'base', GAP, matters=0.5),
        worse(0, 'local', 'two local layers'),
    ),
)

TEN_VIEWS = Study(
    name='ten_views',
    question='Are ten views better than one?',
    claim='39.0 % and 18.3 % with one view, 37.5 % and 17.0 % with ten (§4.1, §6)',
    base=CIFAR10_HALF,
    arms=('base',),
    effects=(
        Effect(18, 'ten views', 'base', '', study.TEN_VIEW_GAIN, matters=MATTERS),
    ),
    seeds=5,
    remarks='The views lie 8 pixels of 32 apart, where the paper’s lie 32 of 256.',
)

_CHANGES = {
    'rate_x2': {'optimizer.learning_rate': 0.04},
    'rate_x4': {'optimizer.learning_rate': 0.08},
    'batch_64': {'train.batch_size': 64},
    'crop_28': {'data.crop_size': 28},
}
CIFAR10_ERROR = Study(
    name='cifar10_error',
    question='What lowers the error of `configs/cifar10.py`?',
    claim='none of the texts’: the config is this repository’s',
    base=CIFAR10_HALF,
    arms=('base', *_CHANGES, 'no_dropout'),
    own=_CHANGES,
    effects=study.lower_validation(
        {
            'rate_x2': 'twice the rate',
            'rate_x4': 'four times the rate',
            'batch_64': 'batches of 64',
            'crop_28': 'crops of 28 × 28',
            'no_dropout': 'without dropout',
        },
        MATTERS,
    ),
    seeds=2,
    remarks=(
        'For the config’s next values: a change is taken over if its mean validation '
        'error is lower by more than 0.3 points; the test error plays no part.'
    ),
    changed_since=(
        '2026-11-25: batches of 64 and the net without dropout were not run, as the '
        'goal was reached without them. Crops of 28 and twice the rate were taken '
        'over, each by its own arm; together they ran only in `cifar10_config`',
    ),
)

STUDIES: Sequence[Study] = (
    LRN, POOLS, AUGMENTATION, DROPOUT, WEIGHT_DECAY, BIASES, TEN_VIEWS, TOWERS, COLOUR,
    WEIGHT_SHARING, DEPTH, LRN_ALPHA, TEXT_OR_RELEASE, SIZE, CIFAR10_ERROR,
)  # fmt: skip
