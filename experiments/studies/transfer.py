"""Transfer: half of the classes first, then few images of the others.

The folder that both halves are read from is made by `experiments.few_images`. The rate
of each arm is tuned by `transfer_rates` with one seed, as Figure 1's are.
"""

import itertools
from typing import Any

from experiments.studies.bases import HIDDEN_LAYERS, TRANSFER, TRANSFER_PHOTOGRAPHS
from experiments.studies.study import TEST, VALIDATION, Base, Effect, Study

COUNTS = (10, 30, 100)  # images of a class
BATCH = 50  # as many images as the smallest of the sets has
STEPS = 500
RATES = (0.002, 0.006, 0.02)
PRETRAINED = 'pretrained'
CLAIM = (
    '“Transfer learning allows models pretrained on ImageNet to adapt quickly to '
    'specialized tasks with limited new data.” (S3)'
)


def on_few_images(count: int, rate: float) -> dict[str, Any]:
    """Trains all layers on `count` images of each of the five other classes."""
    split = f'few{count}_s{{seed}}'
    return {
        'data.train_split': split,
        'data.validation_split': 'validation',
        'data.test_split': 'test',
        'data.training_error_split': split,
        'optimizer.learning_rate': rate,
        'train.batch_size': BATCH,
        'train.epochs': 0.0,
        'train.steps': STEPS,
        'train.log_every_steps': 25,
        # Of 5 × count images: every 100 steps.
        'train.eval_every_epochs': 100 * BATCH / (5 * count),
        'train.checkpoint_every_steps': STEPS,
    }


GRID = {PRETRAINED: {}}
for _count, _rate in itertools.product(COUNTS, RATES):
    GRID[f'finetuned_{_count}_{_rate:g}'] = on_few_images(_count, _rate) | {
        'init.workdir': f'{{cells}}/{PRETRAINED}-s{{seed}}',
        'init.copy': HIDDEN_LAYERS,
    }
    GRID[f'scratch_{_count}_{_rate:g}'] = on_few_images(_count, _rate)

_START = (
    f'{{cells}}/{PRETRAINED}-s{{seed}} is the run of `{PRETRAINED}` with the same '
    'seed: its best step by the validation error of its own classes. The last layer '
    'starts new, as from scratch, and all layers then learn at one rate.'
)


def rates(name: str, base: Base) -> Study:
    """Tunes the rate of every arm on the images that steer."""
    return Study(
        name=f'{name}_rates',
        question='Which rate suits each number of images, fine-tuned and from scratch?',
        claim=CLAIM,
        base=base,
        arms=tuple(GRID),
        own=GRID,
        effects=(),
        seeds=1,
        in_steps=True,
        remarks=(
            f'{_START} The best rate of an arm has the lowest validation error at its '
            f'last step, of two alike the smaller. The sweep of `{name}` runs '
            f'`{PRETRAINED}` and these six arms.'
        ),
    )


def errors(
    name: str, base: Base, claim: int, chosen: tuple[str, ...] = (), remarks: str = ''
) -> Study:
    """Compares the errors at the rates that were found best."""
    return Study(
        name=name,
        question='Is a net that knows other classes better with few images?',
        claim=CLAIM,
        base=base,
        arms=tuple(GRID),
        own=GRID,
        chosen=chosen,
        effects=tuple(
            Effect(
                claim if count == 30 else 0,
                f'from scratch against fine-tuned, {count} images a class',
                f'scratch_{count}_*',
                f'finetuned_{count}_*',
                TEST,
                matters=1.0,
                tuned_by=VALIDATION,
            )
            for count in COUNTS
        ),
        in_steps=True,
        remarks=(
            f'{_START} {{seed}} draws the few images too, the same for both arms. The '
            f'row of the claim takes 30 images a class; all rows are shown. Only '
            f'`{PRETRAINED}` and the arms that `{name}_rates` found best are run; seed '
            '0, which the rates were chosen with, is one of the seeds. A grid of three '
            'rates and one number of steps is all that was tuned, alike for both. Test '
            f'errors of `{PRETRAINED}` are of its own five classes. The halves are '
            'those of even and odd labels, not chosen by any result; both have '
            f'animals and things.{remarks}'
        ),
    )


STUDIES = (
    rates('transfer', TRANSFER),
    errors(
        'transfer',
        TRANSFER,
        30,
        chosen=(
            *(PRETRAINED, 'finetuned_10_0.002', 'scratch_10_0.006'),
            *('finetuned_30_0.006', 'scratch_30_0.006'),
            *('finetuned_100_0.02', 'scratch_100_0.02'),
        ),
        remarks=(
            ' The best rates of `finetuned_10` and of both arms with 100 images lie at '
            'ends of the grid; others beyond them were not tried.'
        ),
    ),
    rates('transfer_photographs', TRANSFER_PHOTOGRAPHS),
    errors('transfer_photographs', TRANSFER_PHOTOGRAPHS, 0),
)
