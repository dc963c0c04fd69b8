"""Figure 1: epochs to 25 % training error with ReLU, tanh and sigmoid.

The rate of each is tuned over one grid by `figure1_rates`, with one seed; `figure1`
then trains the best of each for longer, with three.
"""

import itertools

from experiments.studies import study
from experiments.studies.bases import FIGURE1, FIGURE1_RATES
from experiments.studies.study import Effect, Measure, Study

ACTIVATIONS = ('relu', 'tanh', 'sigmoid')
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
CLAIM = (
    '“A four-layer convolutional neural network with ReLUs (solid line) reaches a 25% '
    'training error rate on CIFAR-10 six times faster than an equivalent network with '
    'tanh neurons (dashed line). The learning rates for each network were chosen '
    'independently to make training as fast as possible. No regularization of any kind '
    'was employed.” (Figure 1)'
)
GRID = {
    f'{activation}_{rate:g}': {
        'model.activation': activation,
        'optimizer.learning_rate': rate,
    }
    for activation, rate in itertools.product(ACTIVATIONS, RATES)
}
# The rate is constant, so that a longer run begins as a shorter one: only tanh, which
# the ratio is about, is worth many epochs. Sigmoid counts with its length.
EPOCHS = {'relu': 12.0, 'tanh': 30.0, 'sigmoid': 20.0}
TRAINED = {
    arm: {**changes, 'train.epochs': EPOCHS[str(changes['model.activation'])]}
    for arm, changes in GRID.items()
}
RUNNING = study.final('train/top1_error', 'running training error')
TO_25 = study.epochs_to('train/top1_error', 0.25, 'running training error')
TO_40 = study.epochs_to('train/top1_error', 0.4, 'running training error')


def slower(claim: int, activation: str, measure: Measure = TO_25) -> Effect:
    """The claim that an activation takes several times ReLU's epochs."""
    return Effect(
        claim,
        f'{activation} over ReLU',
        f'{activation}_*',
        'relu_*',
        measure,
        ratio=True,
        beyond=2.0,
        tuned_by=TO_25,
    )


STUDIES = (
    Study(
        name='figure1_rates',
        question='Which rate is fastest for each activation?',
        claim=CLAIM,
        base=FIGURE1_RATES,
        arms=tuple(GRID),
        own=GRID,
        effects=(),
        seeds=1,
        columns=(RUNNING,),
        remarks=(
            'The best rate of an activation has the lowest running training error '
            'in the last eighth of an epoch. The sweep of `figure1` runs these '
            'three arms.'
        ),
        changed_since=(
            '2026-11-29: rates of 0.03 were added, as tanh and sigmoid had their best '
            'at the end of the grid, 0.01, then of 0.1, 0.3 and 1, as sigmoid had it '
            'at the new end; ReLU, at its best in the middle, was not run with them',
            '2026-11-29: the + of two commits is a link to an installed environment '
            'that lay in the checkout',
        ),
    ),
    Study(
        name='figure1',
        question='Does ReLU reach 25 % training error six times sooner than tanh?',
        claim=CLAIM,
        base=FIGURE1,
        arms=tuple(TRAINED),
        own=TRAINED,
        chosen=('relu_0.001', 'tanh_0.01', 'sigmoid_0.3'),
        effects=(
            slower(5, 'tanh'),
            slower(6, 'sigmoid'),
            slower(5, 'tanh', TO_40),
            slower(6, 'sigmoid', TO_40),
        ),
        columns=(TO_25, TO_40),
        remarks=(
            'The paper does not say which four layers; here they are three '
            'convolutions and a dense layer, before that of the logits. '
            'The training error is the running one, over each eighth of an epoch: '
            'without dropout and augmentation it is the error on the images as they '
            'are. A run that never comes to 25 % counts with its length, so that the '
            'ratio is then at least what is said. ReLU trains for 12 epochs, tanh for '
            '30, sigmoid for 20. “Several times” is taken as more than twice; the '
            'ratio is shown beside the paper’s six. Only the arms that `figure1_rates` '
            'found best are run, of an activation with two runs the sooner one.'
        ),
        changed_since=(
            '2026-11-29: sigmoid trains for 20 epochs where it had 12, decided before '
            'its first run, when ReLU with seed 0 was at 25.6 % after 8.5 epochs: 12 '
            'could not have shown a ratio of 2',
            '2026-11-29: the ratios at 40 %, which all runs reach, were added when '
            'six of the nine had ended',
            '2026-11-30: where runs never came to 25 % nothing is decided. Until then '
            'the lower end of the interval decided, as if they had come there with '
            'their last epoch; later arrivals would have widened it to both sides',
        ),
    ),
)
