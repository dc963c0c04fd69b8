"""What a second device and a second core bring.

One device on one core against two devices on two cores, and §3.2's comparison: the
two-tower net on both against the half-width net on one.
"""

import statistics

from experiments.benchmark import rounds
from experiments.benchmark.rounds import Contender, Options, Record
from experiments.report import Report

IMAGENET = 1_281_167  # training images
STEPS = {'cifar10': 10}  # per repetition, where one is too short to time


def measure(options: Options) -> Record:
    """One core and one device against two of each."""
    usable = rounds.cores()
    if len(usable) < 2:
        raise ValueError('scaling compares one core with two, and there is one')
    one, two = usable[:1], usable[:2]

    def net(config: str, data: int, tower: int, cores: list[int]) -> Contender:
        return {
            'contender': 'ours.train_step', 'config': config, 'data': data,
            'tower': tower, 'devices': data * tower, 'cores': cores,
            'steps': STEPS.get(config, 1),
            'overrides': {'train.batch_size': 128}, 'huge_pages': True, 'settles': True,
        }  # fmt: skip

    contenders: dict[str, Contender] = {
        '4096³ product, 1 core': {
            'contender': 'ceilings.matrix_product', 'size': 4096, 'cores': one,
        },
        '4096³ product, 2 cores': {
            'contender': 'ceilings.matrix_product', 'size': 4096, 'cores': two,
        },
        'paper, 1 device, 1 core': net('paper', 1, 1, one),
        'paper, 1 device, 2 cores': net('paper', 1, 1, two),
        'paper, 2 towers, 2 cores': net('paper', 1, 2, two),
        'paper, 2 × data, 2 cores': net('paper', 2, 1, two),
        'cifar10, 1 device, 1 core': net('cifar10', 1, 1, one),
        'cifar10, 2 towers, 2 cores': net('cifar10', 1, 2, two),
        'cifar10, 2 × data, 2 cores': net('cifar10', 2, 1, two),
        'released_2012, 2 towers, 2 cores': net('released_2012', 1, 2, two),
        'half, 1 device, 1 core': net('half', 1, 1, one),
    }  # fmt: skip
    measured = rounds.measure(contenders, options.rounds)
    return {'contenders': contenders, 'measured': measured}


def report(record: Record) -> Report:
    """A row for every contender; speed-ups are of what was measured in one round."""
    per_step = {
        name: [s / STEPS.get(name.split(',')[0], 1) for s in result['seconds']]
        for name, result in record['measured'].items()
    }
    medians = {name: statistics.median(values) for name, values in per_step.items()}
    rows = [['contender', 'seconds per step', 'images/s', 'speed-up', 'efficiency']]
    for name, values in per_step.items():
        what = name.split(',')[0]
        images = '–' if 'product' in what else f'{128 / medians[name]:.1f}'
        base = next((n for n in medians if n.startswith(what) and '1 core' in n), name)
        gain = ['–', '–']
        if base != name:
            speed_up = rounds.ratio(per_step[base], values)
            gain = [f'{speed_up:.2f}', f'{speed_up / 2:.0%}']
        rows.append([name, rounds.spread(values), images, *gain])
    names = ('released_2012, 2 towers, 2 cores', 'half, 1 device, 1 core')
    whole, half = (medians[name] * IMAGENET / 128 / 3600 for name in names)
    return [
        rows,
        f'§3.2, computed from these steps for an epoch of {IMAGENET:,} images: both '
        f'towers on two cores {whole:.1f} h, the half-width net on one {half:.1f} h, a '
        f'ratio of {whole / half:.2f}.',
    ]
