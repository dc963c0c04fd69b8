"""Time and memory of a training step against its batch and the network's width."""

from experiments import arithmetic
from experiments.benchmark import fits, rounds
from experiments.benchmark.rounds import Contender, Options, Record
from experiments.report import Table

BATCHES = (32, 64, 128, 256, 512)
TOGETHER = 128  # larger batches are measured alone, for their memory
WIDTHS, WIDTH_BATCH = (0.25, 0.5, 0.75, 1.0), 64


def points() -> list[tuple[int, float]]:
    """Every batch and width that is measured."""
    return [(batch, 1.0) for batch in BATCHES] + [
        (WIDTH_BATCH, width) for width in WIDTHS if width != 1.0
    ]


def name_of(batch: int, width: float) -> str:
    """The key of a point in the record."""
    return f'batch {batch}, width {width:g}'


def measure(options: Options) -> Record:
    """Runs training steps of configs/paper.py, by batch and width."""
    settings: dict[tuple[int, float], Contender] = {
        (batch, width): {
            'contender': 'ours.train_step', 'config': 'paper',
            'cores': rounds.cores(), 'platform': options.platform,
            'overrides': {'train.batch_size': batch, 'model.width': width},
            'huge_pages': True, 'settles': True,
        }
        for batch, width in points()
    }  # fmt: skip
    small = [point for point in settings if point[0] <= TOGETHER]
    alone = [[point] for point in settings if point[0] > TOGETHER]
    record: Record = {}
    for group in [small, *alone]:
        contenders = {name_of(*point): settings[point] for point in group}
        measured = rounds.measure(contenders, options.rounds)
        for point, (name, result) in zip(group, measured.items(), strict=True):
            gflop, parameters = network_size(*point)
            record[name] = {
                'settings': settings[point], 'gflop': gflop, 'parameters': parameters,
                **result,
            }  # fmt: skip
    return record


def network_size(batch: int, width: float) -> tuple[float, int]:
    """GFLOP of a training step, and parameters."""
    layers = arithmetic.paper_layers(width)
    gflop = 1e-9 * batch * arithmetic.operations(layers, training=True)
    return gflop, sum(layer.parameters for layer in layers)


def table(record: Record) -> Table:
    """A row for every batch and width."""
    rows = [['batch', 'width', 'GFLOP', '10⁶ parameters', 'seconds', 'peak, MiB']]
    for batch, width in points():
        result = record[name_of(batch, width)]
        rows.append(
            [
                *(str(batch), f'{width:g}', f'{result["gflop"]:.0f}'),
                f'{result["parameters"] / 1e6:.1f}',
                rounds.spread(result['seconds']),
                f'{rounds.peak_mib(result):.0f}',
            ]
        )
    return rows


def lines(record: Record) -> dict[str, fits.Line]:
    """The laws that time and memory should follow."""
    by_batch = [record[name_of(batch, 1.0)] for batch in BATCHES]
    by_width = [record[name_of(WIDTH_BATCH, width)] for width in WIDTHS]
    seconds, mib = rounds.median_seconds, rounds.peak_mib
    return {
        'step of width 1: seconds against images': fits.fit_line(
            BATCHES, [seconds(r) for r in by_batch]
        ),
        'step of width 1: MiB against images': fits.fit_line(
            BATCHES, [mib(r) for r in by_batch]
        ),
        f'step of {WIDTH_BATCH}: seconds against GFLOP': fits.fit_line(
            [r['gflop'] for r in by_width], [seconds(r) for r in by_width]
        ),
        f'step of {WIDTH_BATCH}: MiB against 10⁶ parameters': fits.fit_line(
            [r['parameters'] / 1e6 for r in by_width], [mib(r) for r in by_width]
        ),
    }
