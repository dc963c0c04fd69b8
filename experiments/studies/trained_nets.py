"""What the layers of trained nets show, and what averaging nets brings.

The cells are those of other studies of the same base, where those have the seed.
"""

import itertools

from experiments.runs import Run
from experiments.studies.bases import CIFAR10_HALF, HIDDEN_LAYERS
from experiments.studies.study import Effect, Measure, Study, measured

# Layers.

LAYERS = ('pixels', *HIDDEN_LAYERS)
PROBES = {
    layer: measured(f'probe/{layer}', f'probe error, {layer}', '%', 100.0)
    for layer in LAYERS
}


def probe_gain(before: str, after: str) -> Measure:
    """How much smaller the error of a linear probe is at the later of two layers."""

    def of(run: Run) -> float | None:
        first, second = PROBES[before].of(run), PROBES[after].of(run)
        return None if first is None or second is None else first - second

    return Measure(f'probe error, {before} less {after}', '%', of)


def more_linear(claim: int, before: str, after: str) -> Effect:
    """A class can be read off the later layer with a smaller error."""
    text = f'{after} shows classes more plainly than {before}'
    return Effect(claim, text, 'base', '', probe_gain(before, after), matters=1.0)


LAYER_PROBE = Study(
    name='layer_probe',
    question='Does each layer show the classes more plainly than the one before?',
    claim='“edges → textures → parts → objects”, layer by layer (S1, S2)',
    base=CIFAR10_HALF,
    arms=('base',),
    effects=(
        more_linear(29, 'conv1', 'conv5'),
        *(
            more_linear(0, before, after)
            for before, after in itertools.pairwise(LAYERS)
        ),
    ),
    seeds=5,
    columns=tuple(PROBES.values()),
    inspections=('probe',),
    instrument=(
        'A linear probe, logistic regression with an L2 penalty, of the whole output '
        'of each layer (activation, norm and pool included) for the centre crop, and '
        'of the crop’s pixels: fitted to 1,600 of the first 2,000 training images, the '
        'penalty chosen of five by the other 400, every fifth, and its error measured '
        'on the first 2,000 test images (`alexnet_jax.analysis.probe`).'
    ),
    remarks=(
        'A linear probe shows which information on the classes a layer has in a form '
        'that a linear classifier can use. It does not show edges, textures or parts, '
        'of which nothing here is a measurement: the claim’s row says no more than '
        'that conv5 has the classes in plainer form than conv1. 2,000 images, and not '
        'more, so that all layers of a net take less than a minute on one core. A '
        'point, 20 of the 2,000 test images, is the smallest difference said to '
        'matter.'
    ),
)

# Averaging.


def averaging_gain(nets: int, views: str) -> Measure:
    """The mean error of some nets less the error of their average."""
    return measured(
        f'average{nets}/gain{views}',
        f'test error, {"ten views" if views else "one view"}: one net less the '
        f'average of {nets}',
        '%',
        100.0,
    )


NETS = (2, 3, 5)
GROUPS = (
    'Groups share no net, so that n counts groups and not seeds: of five seeds there '
    'are the pairs 0–1 and 2–3 (n = 2), the three 0–2 and the five 0–4 (n = 1 each, '
    'which decides nothing); of ten seeds five pairs, three threes and two fives. A '
    'group’s number stands with the run of its first seed.'
)
AVERAGING = Study(
    name='averaging',
    question='Are several nets, averaged, better than one?',
    claim=(
        '“Averaging the predictions of five similar CNNs gives an error rate of 16.4%” '
        'top-5, against 18.2 % of one (§6)'
    ),
    base=CIFAR10_HALF,
    arms=('base',),
    effects=tuple(
        Effect(
            0, f'one net less {nets} averaged, {"ten views" if views else "one view"}',
            'base', '', averaging_gain(nets, views), matters=0.3,
        )
        for views in ('', '_10view')
        for nets in NETS
    ),
    seeds=5,
    columns=tuple(
        measured(
            f'average{nets}/top1_error{views}',
            f'test error of {nets} averaged, {"ten views" if views else "one view"}',
            '%',
            100.0,
        )
        for views in ('', '_10view')
        for nets in NETS
    ),
    inspections=tuple(f'average{nets}' for nets in NETS),
    instrument=(
        'The probabilities of 2, 3 and 5 nets of different seeds are averaged with '
        'equal weights, on the test images, in one view and in ten. A group’s number '
        'is the mean error of its nets less the error of their average.'
    ),
    remarks=(
        f'{GROUPS} The nets are those of 8 epochs at half width; claim 21 itself needs '
        'ImageNet.'
    ),
)  # fmt: skip

STUDIES = (LAYER_PROBE, AVERAGING)
