"""Figure 3: is one tower the colour tower? `inspections.chroma` measures it."""

import dataclasses

from experiments.studies.bases import CIFAR10_HALF, KERNELS_2012
from experiments.studies.study import Effect, Measure, Study, measured


def chroma(key: str, name: str) -> Measure:
    """A share of the kernels' energy or of the kernels, in percent."""
    return measured(f'chroma/{key}', name, '%', 100.0)


EXCESS = chroma('excess', 'difference of the towers’ chroma less its expectation')
LEARNED = chroma('learned_excess', 'the same difference of what the kernels learned')
SEPARATION = chroma('separation', 'share of the largest possible difference')
# Points of energy that a colour tower must have more than a grey one.
COLOUR_TOWER = 10.0


def towers_differ(claim: int, arm: str, text: str, measure: Measure = EXCESS) -> Effect:
    """One tower is the colour tower, beyond what dealing kernels at random makes."""
    return Effect(
        claim, text, arm, '', measure, beyond=COLOUR_TOWER, matters=COLOUR_TOWER
    )


CIFAR10 = Study(
    name='figure3',
    question='Is one tower the colour tower, in every run?',
    claim=(
        '“The kernels on GPU 1 are largely color-agnostic, while the kernels on GPU 2 '
        'are largely color-specific. This kind of specialization occurs during every '
        'run and is independent of any particular random weight initialization '
        '(modulo a renumbering of the GPUs)” (§6.1, Figure 3)'
    ),
    base=CIFAR10_HALF,
    arms=('base', 'columns', 'one_tower'),
    effects=(
        towers_differ(26, 'base', 'one tower has more colour than chance gives it'),
        towers_differ(0, 'columns', 'the same, of columns that never communicate'),
        towers_differ(0, 'one_tower', 'the same, of one tower split at random'),
        Effect(
            0, 'two towers against one split at random', 'base', 'one_tower', EXCESS
        ),
        towers_differ(0, 'base', 'one tower learned more colour', LEARNED),
        Effect(
            0,
            'how far the towers are apart',
            'base',
            '',
            SEPARATION,
            beyond=50.0,
            matters=50.0,
        ),
    ),
    seeds=5,
    changed_since=(
        '2026-11-30: the controls have three seeds so far, for want of time',
    ),
    columns=(
        chroma('mean', 'energy off grey, all kernels'),
        chroma('greyer', 'of the greyer tower'),
        chroma('more_colourful', 'of the other'),
        EXCESS,
        LEARNED,
        SEPARATION,
        chroma('share_of_colour', 'colour kernels that the colour tower has'),
        measured('chroma/p', 'p of the permutation test', ''),
        chroma('significant', 'runs with p < 0.05'),
    ),
    inspections=('chroma',),
    instrument=(
        'The chroma of a kernel of conv1 is the share of its energy that is off grey: '
        'of each of its pixels (R, G, B), the square of what remains without the '
        'projection on (1, 1, 1), summed over the kernel, against the sum of all '
        'squares. It is 0 for a grey kernel and 2/3 on average for noise. A run’s '
        'number is the difference of its towers’ mean chroma, without sign, since the '
        'towers have no order. Dealing the kernels to the towers at random, 10,000 '
        'times from a fixed seed, gives its expectation by chance, which is '
        'subtracted, and p, the share of dealings that are at least as far apart. '
        '“Share of the largest possible difference” is 0 at that expectation and 1 '
        'where the greyest half of the kernels is one tower. What a kernel learned is '
        'the kernel less its start. A colour kernel has more than half of its energy '
        'off grey; the colour tower is the one with the larger mean.'
    ),
    remarks=(
        f'The bound of {COLOUR_TOWER:g} points of energy is what “largely” is taken '
        'for: a smaller difference may be real, and is shown, but makes neither tower '
        'a colour tower. “In every run” asks besides for p < 0.05 in each of them, '
        'which the table shows. `one_tower` has no towers: its kernels are split into '
        'halves at random, from a fixed seed, so that it shows what chance gives. The '
        'kernels are 5 × 5 and start with He’s deviation, 0.16, which 8 epochs do not '
        'wear off: that noise draws every chroma towards 2/3, hence the effect of what '
        'was learned. `figure3_2012` starts from next to nothing.'
    ),
)

STARTED_AS_2012 = dataclasses.replace(
    CIFAR10,
    name='figure3_2012',
    question='Is one tower the colour tower, started as in 2012 on photographs?',
    base=KERNELS_2012,
    effects=tuple(dataclasses.replace(e, claim=0) for e in CIFAR10.effects),
    seeds=3,
    changed_since=(),
    remarks=(
        f'The bound of {COLOUR_TOWER:g} points of energy is what “largely” is taken '
        'for. `one_tower` has no towers: its kernels are split into halves at random, '
        'from a fixed seed. The kernels start so small that the start is not in what '
        'they show.'
    ),
)
