"""One training step of the paper's net, ours against PyTorch's and plain Flax's.

Every contender has the same grouped network, batch, loss and update, its images on the
device as bytes. The ceiling is the rate of one large matrix product.
"""

import statistics
from collections.abc import Sequence

from alexnet_jax import model
from alexnet_jax.configs import paper
from experiments.benchmark import rounds
from experiments.benchmark.rounds import Contender, Options, Record

PRODUCT = 4096  # rows and columns of the ceiling's matrices
COPY = 2**29  # bytes


def run(options: Options) -> tuple[Record, str]:
    """Compares training steps, at every batch and dtype of the options."""
    return compare('train_step', options, gigaflop(paper_layers(), training=True))


def compare(what: str, options: Options, gflop: float) -> tuple[Record, str]:
    """Measures every contender's `what`, which takes `gflop` an image."""
    rounds.require_pytorch()
    record: Record = {}
    tables = []
    for batch_size in options.batch:
        for dtype in options.dtype:
            entrants = contenders(what, options, batch_size, dtype)
            measured = rounds.measure(entrants, options.rounds)
            name = f'batch {batch_size}, {dtype}'
            record[name] = {
                name: {'settings': entrants[name], **result}
                for name, result in measured.items()
            }
            tables.append(f'{name}\n\n{table(measured, batch_size, gflop)}')
    return record, '\n\n'.join(tables)


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


def paper_layers(width: float = 1.0) -> tuple[model.LayerShape, ...]:
    """The layers of configs/paper.py with ImageNet's classes, at a width."""
    config = paper.get_config()
    config.model.width = width
    network = model.network_from_config(config.model, config.data.crop_size, 1000)
    return model.layer_shapes(network)


def gigaflop(shapes: Sequence[model.LayerShape], *, training: bool) -> float:
    """Of one image's products, two operations for each multiplication and addition.

    A gradient costs as much as the output for the weights and again for the input,
    which the first layer does not need.
    """
    forward = sum(shape.multiply_adds for shape in shapes)
    total = 3 * forward - shapes[0].multiply_adds if training else forward
    return 2e-9 * total


def table(measured: dict[str, Record], batch_size: int, gflop: float) -> str:
    """A row for every contender; ratios are of what was measured in one round."""
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
    return rounds.table(header, rows)
