"""Where the time of our step goes: each layer alone, forward and with its gradients."""

import statistics

from experiments.benchmark import rounds, step
from experiments.benchmark.rounds import Contender, Options, Record


def run(options: Options) -> tuple[Record, str]:
    """Times every layer of the paper's net on one device, and the whole step."""
    batch_size, dtype = options.batch[0], options.dtype[0]
    every = step.contenders('train_step', options, batch_size, dtype)
    product, whole = f'{step.PRODUCT}³ product', 'ours, one device'
    contenders: dict[str, Contender] = {name: every[name] for name in (product, whole)}
    shapes = step.paper_layers()
    for shape in shapes:
        for backward in (False, True):
            contenders[f'{shape.name} {"both" if backward else "forward"}'] = every[
                whole
            ] | {'contender': 'ours.layer', 'layer': shape.name, 'backward': backward}
    measured = rounds.measure(contenders, options.rounds)
    seconds = {name: result['seconds'] for name, result in measured.items()}
    rate = 2e-9 * step.PRODUCT**3 / statistics.median(seconds[product])
    rows = []
    sums = [0.0] * 4
    for shape in shapes:
        both = statistics.median(seconds[f'{shape.name} both'])
        forward = statistics.median(seconds[f'{shape.name} forward'])
        ideal = 2e-9 * batch_size * shape.multiply_adds / rate
        gradients = 1 if shape is shapes[0] else 2
        cells = [forward, ideal, both - forward, gradients * ideal]
        sums = [total + cell for total, cell in zip(sums, cells, strict=True)]
        rows.append([shape.name, *(f'{1e3 * cell:.0f}' for cell in cells)])
    rows.append(['sum', *(f'{1e3 * total:.0f}' for total in sums)])
    header = ['layer', 'forward, ms', 'ceiling', 'gradients, ms', 'ceiling']
    step_ms = 1e3 * statistics.median(seconds[whole])
    above = step_ms - 1e3 * (sums[0] + sums[2])
    text = (
        f'{rounds.table(header, rows)}\n\nEach layer with its activation, norm, pool '
        f'and dropout; its ceiling is its products at {rate:.0f} GFLOP/s; gradients '
        f'are both passes less the forward one. The whole step takes {step_ms:.0f} ms, '
        f'{above:.0f} more than the sum: loss, update, norms of the log.'
    )
    return {'contenders': contenders, 'measured': measured}, text
