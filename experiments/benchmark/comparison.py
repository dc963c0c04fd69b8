"""Ours, the peers and the ceilings on the paper's net: who takes part, and the table.

The ceiling of every step is the rate of one large matrix product.
"""

import statistics

from experiments.benchmark import rounds
from experiments.benchmark.rounds import Contender, Options, Record
from experiments.report import Report, Table

PRODUCT = 4096  # rows and columns of the ceiling's matrices
COPY = 2**29  # bytes


def measure(what: str, options: Options) -> Record:
    """Measures every contender's `what`, at every batch and dtype of the options."""
    rounds.require_pytorch()
    record: Record = {}
    for batch_size in options.batch:
        for dtype in options.dtype:
            entrants = contenders(what, options, batch_size, dtype)
            measured = rounds.measure(entrants, options.rounds)
            record[f'batch {batch_size}, {dtype}'] = {
                name: {'settings': entrants[name], **result}
                for name, result in measured.items()
            }
    return record


def contenders(
    what: str, options: Options, batch_size: int, dtype: str
) -> dict[str, Contender]:
    """The ceilings, ours and the peers; PyTorch's in three forms."""
    shared: Contender = {
        'cores': rounds.cores(), 'platform': options.platform, 'dtype': dtype,
        'batch_size': batch_size, 'settles': True,
    }  # fmt: skip
    ours = shared | {
        'contender': f'ours.{what}', 'config': 'paper',
        'overrides': {'train.batch_size': batch_size, 'model.compute_dtype': dtype},
        'huge_pages': True,
    }  # fmt: skip
    torch = shared | {'contender': f'pytorch.{what}'}
    found = {
        f'{PRODUCT}³ product': shared
        | {'contender': 'ceilings.matrix_product', 'size': PRODUCT},
        'memory copy': shared | {'contender': 'ceilings.memory_copy', 'bytes': COPY},
        'ours, one device': ours,
        'plain Flax': shared | {'contender': f'plain_flax.{what}'},
        'PyTorch, eager, channels_last': torch
        | {'layout': 'channels_last', 'compiled': False},
        'PyTorch, compiled, channels_last': torch
        | {'layout': 'channels_last', 'compiled': True},
        'PyTorch, compiled, contiguous': torch
        | {'layout': 'contiguous_format', 'compiled': True},
    }
    if options.platform == 'cpu':
        found['PyTorch, compiled, channels_last, huge pages'] = torch | {
            'layout': 'channels_last', 'compiled': True, 'huge_pages': True,
        }  # fmt: skip
        if len(rounds.cores()) > 1:
            found['ours, a tower on each of two'] = ours | {'tower': 2, 'devices': 2}
    return found


def report(record: Record, operations: int) -> Report:
    """A table for every batch and dtype of the record.

    Args:
      record: of `measure`.
      operations: of one image.
    """
    parts: Report = []
    for name, measured in record.items():
        if name.startswith('batch '):
            batch_size = next(iter(measured.values()))['settings']['batch_size']
            parts += [name, table(measured, batch_size, 1e-9 * operations)]
    return parts


def table(measured: dict[str, Record], batch_size: int, gflop: float) -> Table:
    """A row for every contender; ratios are of what was measured in one round.

    Args:
      measured: results by contender.
      batch_size: images of a repetition.
      gflop: of one image.
    """
    seconds = {name: result['seconds'] for name, result in measured.items()}
    product = seconds[f'{PRODUCT}³ product']
    product_gflop = 2e-9 * PRODUCT**3
    fastest = min(
        (name for name in seconds if 'PyTorch' in name),
        key=lambda name: statistics.median(seconds[name]),
    )
    rows = []
    for name, values in seconds.items():
        result = measured[name]
        median = statistics.median(values)
        rate, of_ceiling, of_peer = '', '–', '–'
        if name == 'memory copy':
            rate = f'{2e-9 * COPY / median:.1f} GB/s'
        elif values is product:
            rate = f'{product_gflop / median:.0f} GFLOP/s'
        else:
            rate = f'{batch_size / median:.1f} images/s'
            share = rounds.ratio(product, values) * batch_size * gflop / product_gflop
            of_ceiling = f'{share:.0%}'
            of_peer = f'{rounds.ratio(values, seconds[fastest]):.2f}'
        peak = f'{result["peak_bytes"] / rounds.GIB:.1f}'
        warm_up = f'{result["warm_up"]:.1f}'
        rows.append(
            [name, rounds.spread(values), rate, of_ceiling, of_peer, peak, warm_up]
        )
    header = [
        'contender', 'seconds', 'rate', 'of the product’s rate',
        f'time / {fastest}', 'peak memory, GiB', 'warm-up, s',
    ]  # fmt: skip
    return [header, *rows]
