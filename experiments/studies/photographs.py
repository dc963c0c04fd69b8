"""Studies on photographs of ImageNet in ten classes, at a quarter of the width.

On 2,000 images a difference of one point, 20 of them, is the smallest said to matter.
"""

import dataclasses

from experiments.studies import cifar10, study, trained_nets
from experiments.studies.bases import PHOTOGRAPHS
from experiments.studies.study import TEST, Effect, Study

MATTERS = 1.0


def on_photographs(of: Study, arms: tuple[str, ...], seeds: int = 3) -> Study:
    """The same study on photographs, with these of its arms."""
    effects = [
        dataclasses.replace(effect, claim=0, matters=MATTERS)
        for effect in of.effects
        if {effect.arm, effect.against} <= {*arms, ''}
    ]
    return dataclasses.replace(
        of,
        name=f'{of.name}_photographs',
        base=PHOTOGRAPHS,
        arms=arms,
        effects=tuple(effects),
        seeds=seeds,
        remarks='',
    )


COLOUR = Study(
    name='colour_photographs',
    question='Does colour noise lower the error?',
    claim=cifar10.COLOUR.claim,
    base=PHOTOGRAPHS,
    arms=('base', 'no_colour', 'colour_deviation', 'colour_released'),
    effects=(
        Effect(0, 'no noise, against λ', 'no_colour', 'base', TEST, matters=MATTERS),
        Effect(
            0,
            'no noise, against √λ',
            'no_colour',
            'colour_deviation',
            TEST,
            matters=MATTERS,
        ),
    ),
)

STUDIES = (
    on_photographs(cifar10.LRN, ('base', 'no_lrn'), 5),
    on_photographs(cifar10.AUGMENTATION, ('base', 'no_crop_no_mirror')),
    on_photographs(cifar10.TOWERS, ('base', 'half', 'columns', 'one_tower')),
    COLOUR,
    dataclasses.replace(
        on_photographs(cifar10.TEN_VIEWS, ('base',), 5),
        thresholds=(study.TEN_VIEWS,),
        remarks='The views lie 32 pixels of 224 apart.',
    ),
    dataclasses.replace(
        on_photographs(trained_nets.AVERAGING, ('base',), 5),
        remarks=trained_nets.GROUPS,
    ),
)
