"""Where the time of our step goes: each layer alone, forward and with its gradients."""

from experiments import arithmetic
from experiments.benchmark import comparison, rounds
from experiments.benchmark.rounds import Contender, Options, Record
from experiments.report import Report

_PRODUCT, _STEP = f'{comparison.PRODUCT}³ product', 'ours, one device'


def measure(options: Options) -> Record:
    """Times every layer of the paper's net on one device, and the whole step."""
    every = comparison.contenders(
        'train_step', options, options.batch[0], options.dtype[0]
    )
    contenders: dict[str, Contender] = {name: every[name] for name in (_PRODUCT, _STEP)}
    for layer in arithmetic.paper_layers():
        for backward in (False, True):
            what = 'both' if backward else 'forward'
            contenders[f'{layer.name} {what}'] = every[_STEP] | {
                'contender': 'ours.layer', 'layer': layer.name, 'backward': backward,
            }  # fmt: skip
    measured = rounds.measure(contenders, options.rounds)
    return {'contenders': contenders, 'measured': measured}


def report(record: Record) -> Report:
    """A row for every layer, in milliseconds beside those at the product's rate."""
    medians = {
        name: rounds.median_seconds(result)
        for name, result in record['measured'].items()
    }
    batch_size = record['contenders'][_STEP]['batch_size']
    rate = 2e-9 * comparison.PRODUCT**3 / medians[_PRODUCT]
    rows = [['layer', 'forward, ms', 'ceiling', 'gradients, ms', 'ceiling']]
    sums = [0.0] * 4
    layers = arithmetic.paper_layers()
    for layer in layers:
        forward, both = (
            medians[f'{layer.name} {what}'] for what in ('forward', 'both')
        )
        ideal = 2e-9 * batch_size * layer.multiply_adds / rate
        gradients = 1 if layer is layers[0] else 2
        cells = [forward, ideal, both - forward, gradients * ideal]
        sums = [total + cell for total, cell in zip(sums, cells, strict=True)]
        rows.append([layer.name, *(f'{1e3 * cell:.0f}' for cell in cells)])
    rows.append(['sum', *(f'{1e3 * total:.0f}' for total in sums)])
    step_ms = 1e3 * medians[_STEP]
    above = step_ms - 1e3 * (sums[0] + sums[2])
    return [
        rows,
        'Each layer with its activation, norm, pool and dropout; its ceiling is its '
        f'products at {rate:.0f} GFLOP/s; gradients are both passes less the forward '
        f'one. The whole step takes {step_ms:.0f} ms, {above:.0f} more than the sum: '
        'loss, update, norms of the log.',
    ]
