"""What the shipped configs of real data reach, each alone on the machine, and how soon.

These are runs of the configs as they are, not comparisons: one arm, one seed.
"""

from experiments.studies import bases
from experiments.studies.study import Base, Measure, Study

MINUTES = Measure('minutes', '', lambda run: run.wall_seconds / 60)
ALONE = (
    'Nothing else runs on the two cores meanwhile. The minutes are those of the whole '
    'command, with its start, its evaluations and ten views at the end. Each of two '
    'CPU devices has a tower, as `python -m alexnet_jax.main` lays it out without a '
    'sweep.'
)
TWO_DEVICES = 'JAX_NUM_CPU_DEVICES=2 '

CIFAR10_CONFIG = Study(
    name='cifar10_config',
    question='Which error does `configs/cifar10.py` reach, and in what time?',
    claim=(
        'none of the texts’: the config is this repository’s. Its goal is at most 18 % '
        'of the test images, in at most 40 minutes of two cores'
    ),
    base=Base(
        name='cifar10_config',
        config='cifar10',
        overrides={},
        data=(
            'CIFAR-10, JPEG copies: 45,000 images train, 5,000 validate, the 10,000 '
            'test images only report; 28 × 28 crops and mirrors'
        ),
        network='the config’s, as it is shipped',
        schedule='the config’s',
    ),
    arms=('base',),
    effects=(),
    seeds=1,
    jobs=1,
    environment=TWO_DEVICES,
    thresholds=(MINUTES,),
    remarks=ALONE + ' What led to the config’s values is in `cifar10_error`.',
)

IMAGENETTE_CONFIG = Study(
    name='imagenette_config',
    question='Which error does `configs/imagenette.py` reach, and in what time?',
    claim=(
        'none of the texts’: the config is this repository’s. Its goal is at least 80 '
        '% of the validation photographs right, in at most an hour of two cores'
    ),
    base=Base(
        name='imagenette_config',
        config='imagenette',
        overrides={},
        data=(
            '8,958 photographs of ImageNet in ten easy classes (of fastai’s '
            'imagenette): nine tenths of them train, a tenth steers, and the 2,000 of '
            '`validation` only report'
        ),
        network='the config’s, as it is shipped',
        schedule='the config’s',
        images=bases.PHOTOGRAPHS.images,
        folder=True,
        data_dir='DIR',
    ),
    arms=('base',),
    effects=(),
    seeds=1,
    jobs=1,
    environment=TWO_DEVICES,
    thresholds=(MINUTES,),
    remarks=ALONE,
)

STUDIES = (CIFAR10_CONFIG, IMAGENETTE_CONFIG)
