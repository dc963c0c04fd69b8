"""cuda-convnet's CIFAR-10 nets at their published schedules, and its local layers."""

import dataclasses

from experiments.studies.bases import (
    LOCAL_NET,
    PUBLISHED_11PCT,
    PUBLISHED_13PCT,
    PUBLISHED_18PCT,
    PUBLISHED_80SEC,
    WITH_NORM,
    WITH_NORM_QUARTER,
)
from experiments.studies.study import GAP, TEN_VIEWS, TEST, Base, Effect, Measure, Study

_ALL_IMAGES = {'all_images': {'data.train_split': 'train'}}
_VIEWS = (
    '2026-11-29: the comparison with ten views was added when the first run of the 13 '
    '% net had ended 5.7 points above its published error with one',
)


def above(error: float, of: Measure, views: str) -> Measure:
    """How far an error lies above a published one, in points."""
    return Measure(
        f'test error above the published {error:g} %, {views}', 'points',
        lambda run: None if (e := of.of(run)) is None else e - error,
    )  # fmt: skip


def reaches(
    base: Base,
    error: float,
    seeds: int,
    changed_since: tuple[str, ...] = (),
    remarks: str = '',
) -> Study:
    """A study that runs a published net and compares with its published error.

    `all_images` trains on those that steer too: its validation error is of images that
    it has seen.
    """
    arms = {
        'base': 'trained on 45,000 images',
        'all_images': 'trained on all 50,000 images',
    }
    measures = {'one view': TEST}
    if base.ten_views:
        measures['ten views'] = TEN_VIEWS
    effects = tuple(
        Effect(0, text, arm, '', above(error, of, views), sign=-1, beyond=-1.0)
        for views, of in measures.items()
        for arm, text in arms.items()
    )
    return Study(
        name=base.name,
        question=f'Does the {base.name} net reach its {error:g} %?',
        claim=f'{error:g} % test error (cuda-convnet)',
        base=base,
        arms=tuple(arms),
        own=_ALL_IMAGES,
        effects=effects,
        seeds=seeds,
        remarks=(
            '“Supported” means less than one point above it. Here 45,000 '
            'images train, and in `all_images` all 50,000: the images that steer among '
            'them, so that its validation error says nothing. The notes of the local '
            'nets have 40,000 and then 50,000; those of the others do not say.'
            + (
                ' The notes of the 11 % net end with a test of several views; those '
                'of the 13 % net do not say.'
                if base.ten_views
                else ' The net sees whole images, of which there are no ten views.'
            )
            + remarks
        ),
        changed_since=changed_since,
    )


CLEAN_PAIR = Study(
    name='clean_pair',
    question='Does the norm alone turn cuda-convnet’s 13 % into 11 %?',
    claim=(
        '“a four-layer CNN achieved a 13% test error rate without normalization '
        'and 11% with normalization” (§3.3)'
    ),
    base=WITH_NORM,
    arms=('base', 'no_lrn'),
    effects=(Effect(0, 'without the norms', 'no_lrn', 'base', TEST, matters=0.3),),
    seeds=1,
    remarks=(
        'The two nets that the paper quotes differ in more than the norm '
        '(docs/fidelity.md); these two, the first revision of the 11 % files with '
        'and without it, do not.'
    ),
)

STUDIES = (
    reaches(
        PUBLISHED_80SEC,
        26.0,
        3,
        (
            '2026-11-29: `all_images` was added when the three runs of `base` had '
            'ended 1.64 points above the published error',
        ),
    ),
    reaches(
        PUBLISHED_18PCT,
        18.0,
        1,
        (
            '2026-11-29: `all_images` was added when the first run of `base` had done '
            '90 of its 140 epochs',
        ),
    ),
    reaches(PUBLISHED_13PCT, 13.0, 1, _VIEWS),
    reaches(
        PUBLISHED_11PCT,
        11.0,
        1,
        _VIEWS,
        remarks=(
            ' Not run: 520 epochs would take a core about five and a half hours (from '
            'the 102 minutes of `conv_local_13pct`’s 160), and three were the most.'
        ),
    ),
    CLEAN_PAIR,
    dataclasses.replace(
        CLEAN_PAIR,
        name='clean_pair_quarter',
        question='Does the norm alone lower the error of cuda-convnet’s 13 % net?',
        base=WITH_NORM_QUARTER,
        effects=(
            *CLEAN_PAIR.effects,
            dataclasses.replace(CLEAN_PAIR.effects[0], measure=TEN_VIEWS),
        ),
        seeds=3,
        remarks=(
            'The nets are those of `clean_pair`, whose 470 epochs would take a core '
            'five hours or more an arm (from the 102 minutes of `conv_local_13pct`’s '
            '160). Forty epochs leave time for more than one seed; '
            'the errors are not to be compared with the published ones.'
        ),
        changed_since=('2026-12-01: one seed so far, for want of time',),
    ),
    Study(
        name='local_layers',
        question='Do locally connected layers overfit more than convolutions?',
        claim='weight sharing regularises (S0, S2)',
        base=LOCAL_NET,
        arms=('base', 'shared'),
        effects=(
            Effect(0, 'the gap with local layers', 'base', 'shared', GAP, matters=0.5),
            Effect(0, 'test error with local layers', 'base', 'shared', TEST),
        ),
        changed_since=('2026-12-01: one seed so far, for want of time',),
    ),
)
