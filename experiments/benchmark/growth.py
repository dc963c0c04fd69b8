"""Time and memory against batch, width, records and steps, with the fitted laws.

A step must be linear in its images and in its arithmetic. The pipeline must not depend
on the number of records, whose order is computed and not stored, nor its first batch on
the step it resumes at. The records are generated and kept in runs/benchmark/records.
"""

import dataclasses
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from numpy.typing import ArrayLike

from alexnet_jax.configs import paper
from alexnet_jax.data import pipeline, prepared, shards
from experiments.benchmark import rounds, step, worker
from experiments.benchmark.rounds import Contender, Options, Record

BATCHES = (32, 64, 128, 256, 512)
TOGETHER = 128  # larger batches are measured alone, for their memory
WIDTHS, WIDTH_BATCH = (0.25, 0.5, 0.75, 1.0), 64
RECORDS = (10**3, 10**4, 10**5, 10**6)
FIRST_STEPS, RESUME_RECORDS = (0, 10**2, 10**4, 10**6), 10**5
# Of a generated image, so small that 10⁶ are written in seconds and take 0.3 GB.
SIZE, CLASSES = 8, 100
BATCH, TAKEN = 128, 100  # images of a batch, batches of a repetition
REST = 0.3  # seconds before each, for buffers that an earlier one still fills
DIRECTORY = Path('runs', 'benchmark', 'records')
MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Line:
    """y = slope · x + intercept; R² is the share of y's variance that it explains."""

    slope: float
    intercept: float
    r2: float


@dataclasses.dataclass(frozen=True)
class Growth:
    """What one part found: raw results, its table and its laws by name."""

    record: Record
    text: str
    lines: dict[str, Line]
    exponents: dict[str, float]


def run(options: Options) -> tuple[Record, str]:
    """Measures all three parts; of the options it reads rounds and platform."""
    parts = {
        'step': step_growth(options),
        'pipeline': pipeline_growth(options),
        'resume': resume_growth(options),
    }
    lines = {k: v for part in parts.values() for k, v in part.lines.items()}
    exponents = {k: v for part in parts.values() for k, v in part.exponents.items()}
    record: Record = {name: part.record for name, part in parts.items()}
    record['lines'] = {name: dataclasses.asdict(law) for name, law in lines.items()}
    record['exponents'] = exponents
    record['peers'] = rounds.versions('grain', 'array-record', 'numpy')
    return record, '\n\n'.join(
        [
            *(part.text for part in parts.values()),
            'Lines through the medians, by least squares',
            rounds.table(
                ['y against x', 'slope', 'intercept', 'R²'],
                [
                    [name, f'{law.slope:.4g}', f'{law.intercept:.4g}', f'{law.r2:.5f}']
                    for name, law in lines.items()
                ],
            ),
            'Exponents p of y ∝ xᵖ; a constant has 0',
            rounds.table(
                ['y against x', 'p'], [[n, f'{p:.3f}'] for n, p in exponents.items()]
            ),
            'Restoring a checkpoint is not measured against the step: its files hold '
            'the parameters, their momentum and a few integers, whose sizes do not '
            'depend on it.',
        ]
    )


def fit_line(x: ArrayLike, y: ArrayLike) -> Line:
    """Least squares."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    columns = np.stack([x, np.ones(len(x))], axis=1)
    (slope, intercept), *_ = np.linalg.lstsq(columns, y, rcond=None)
    rest = np.square(y - columns @ [slope, intercept]).sum()
    r2 = 1 - rest / np.square(y - np.mean(y)).sum()
    return Line(float(slope), float(intercept), float(r2))


def fit_exponent(x: ArrayLike, y: ArrayLike) -> float:
    """The p of y ∝ xᵖ, the slope of log(y) against log(x)."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def step_growth(options: Options) -> Growth:
    """A training step of configs/paper.py against the batch and against the width."""
    points = [(batch, 1.0) for batch in BATCHES]
    points += [(WIDTH_BATCH, width) for width in WIDTHS if width != 1.0]
    settings: dict[tuple[int, float], Contender] = {
        (batch, width): {
            'contender': 'ours.train_step', 'config': 'paper',
            'cores': rounds.cores(), 'platform': options.platform,
            'overrides': {'train.batch_size': batch, 'model.width': width},
            'huge_pages': True, 'settles': True,
        }
        for batch, width in points
    }  # fmt: skip
    small = [point for point in points if point[0] <= TOGETHER]
    alone = [[point] for point in points if point[0] > TOGETHER]
    results = {}
    for group in [small, *alone]:
        contenders = {f'batch {p[0]}, width {p[1]:g}': settings[p] for p in group}
        measured = rounds.measure(contenders, options.rounds)
        results |= dict(zip(group, measured.values(), strict=True))
    sizes = {point: network_size(*point) for point in points}
    rows = [
        [
            *(str(batch), f'{width:g}', f'{gflop:.0f}', f'{parameters / 1e6:.1f}'),
            rounds.spread(results[batch, width]['seconds']),
            f'{mebibytes(results[batch, width]):.0f}',
        ]
        for (batch, width), (gflop, parameters) in sizes.items()
    ]
    header = ['batch', 'width', 'GFLOP', '10⁶ parameters', 'seconds', 'peak, MiB']
    by_batch = [results[batch, 1.0] for batch in BATCHES]
    by_width = [results[WIDTH_BATCH, width] for width in WIDTHS]
    gflop, parameters = zip(*(sizes[WIDTH_BATCH, w] for w in WIDTHS), strict=True)
    return Growth(
        {
            f'batch {batch}, width {width:g}': {
                'settings': settings[batch, width], 'gflop': sizes[batch, width][0],
                'parameters': sizes[batch, width][1], **result,
            }
            for (batch, width), result in results.items()
        },
        f'One training step of configs/paper.py\n\n{rounds.table(header, rows)}',
        {
            'step of width 1: seconds against images': fit_line(
                BATCHES, [median(r) for r in by_batch]
            ),
            'step of width 1: MiB against images': fit_line(
                BATCHES, [mebibytes(r) for r in by_batch]
            ),
            f'step of {WIDTH_BATCH}: seconds against GFLOP': fit_line(
                gflop, [median(r) for r in by_width]
            ),
            f'step of {WIDTH_BATCH}: MiB against 10⁶ parameters': fit_line(
                [p / 1e6 for p in parameters], [mebibytes(r) for r in by_width]
            ),
        },
        {},
    )  # fmt: skip


def network_size(batch: int, width: float) -> tuple[float, int]:
    """GFLOP of a training step, and parameters."""
    shapes = step.paper_layers(width)
    gflop = batch * step.gigaflop(shapes, training=True)
    return gflop, sum(shape.parameters for shape in shapes)


def pipeline_growth(options: Options) -> Growth:
    """Opening a set with the first batch, and the batches after, against its size."""
    contenders: dict[str, Contender] = {}
    for examples in RECORDS:
        shared = source(examples)
        contenders[f'first of {examples:,}'] = shared | {
            'contender': 'growth.first_batch'
        }
        contenders[f'batch of {examples:,}'] = shared | {
            'contender': 'growth.next_batches', 'batches': TAKEN,
        }  # fmt: skip
    measured = measure(contenders, options.rounds)
    first = [measured[f'first of {examples:,}'] for examples in RECORDS]
    after = [measured[f'batch of {examples:,}'] for examples in RECORDS]
    for result in after:
        result['seconds'] = [s / TAKEN for s in result['seconds']]
    rows = [
        [
            *(f'{examples:,}', str(shard_count(examples))),
            *(rounds.spread([1e3 * s for s in r['seconds']], 2) for r in (one, many)),
            *(f'{mebibytes(r):.0f}' for r in (one, many)),
        ]
        for examples, one, many in zip(RECORDS, first, after, strict=True)
    ]
    header = [
        *('records', 'files', 'opening and first batch, ms', 'a batch after, ms'),
        *('peak after the first batch, MiB', f'after {TAKEN}, MiB'),
    ]
    millions = [examples / 1e6 for examples in RECORDS]
    return Growth(
        measured,
        f'The input pipeline, batches of {BATCH} generated images of {SIZE}×{SIZE}\n\n'
        f'{rounds.table(header, rows)}',
        {
            'opening and first batch: seconds against files': fit_line(
                [shard_count(n) for n in RECORDS], [median(r) for r in first]
            ),
            'pipeline: MiB against 10⁶ records': fit_line(
                millions, [mebibytes(r) for r in after]
            ),
        },
        {
            'opening and first batch: seconds against records': fit_exponent(
                RECORDS, [median(r) for r in first]
            ),
            'a batch after: seconds against records': fit_exponent(
                RECORDS, [median(r) for r in after]
            ),
            'pipeline: bytes against records': fit_exponent(
                RECORDS, [mebibytes(r) for r in after]
            ),
        },
    )


def resume_growth(options: Options) -> Growth:
    """The first batch of a pipeline that starts at a step, against that step."""
    shared = source(RESUME_RECORDS) | {'contender': 'growth.first_batch'}
    contenders: dict[str, Contender] = {
        f'{first:,}': shared | {'first_step': first} for first in FIRST_STEPS
    }
    measured = measure(contenders, options.rounds)
    rows = [
        [
            name,
            rounds.spread([1e3 * s for s in result['seconds']], 2),
            f'{rounds.ratio(result["seconds"], measured["0"]["seconds"]):.2f}',
        ]
        for name, result in measured.items()
    ]
    header = ['first step', 'opening and first batch, ms', '/ of step 0']
    later = [first for first in FIRST_STEPS if first]
    return Growth(
        measured,
        f'A resume, {RESUME_RECORDS:,} records\n\n{rounds.table(header, rows)}',
        {},
        {
            'resume: seconds against step': fit_exponent(
                later, [median(measured[f'{first:,}']) for first in later]
            )
        },
    )


def measure(contenders: dict[str, Contender], repetitions: int) -> dict[str, Record]:
    """Results with their settings and without the rest before each repetition."""
    measured = rounds.measure(contenders, repetitions)
    for name, result in measured.items():
        result['settings'] = contenders[name]
        result['seconds'] = [s - REST for s in result['seconds']]
    return measured


def median(result: Record) -> float:
    return statistics.median(result['seconds'])


def mebibytes(result: Record) -> float:
    return result['peak_bytes'] / MIB


def source(examples: int) -> Contender:
    """Settings for a generated set, which is generated if it is not there."""
    directory = generate(DIRECTORY.absolute(), examples)
    for path in directory.iterdir():  # so that none is read from the disk while timed
        path.read_bytes()
    return {
        'directory': str(directory), 'examples': examples, 'first_step': 0,
        'cores': rounds.cores()[:2],
    }  # fmt: skip


def first_batch(settings: worker.Settings) -> worker.Repetition:
    """Opens the set and takes the batch `first_step`."""

    def run() -> None:
        time.sleep(REST)
        # Or only the first repetition would read the metadata.
        pipeline._builder.cache_clear()
        next(batches(settings))

    return run


def next_batches(settings: worker.Settings) -> worker.Repetition:
    """Takes the next `batches` of an open pipeline."""
    opened = batches(settings)

    def run() -> None:
        time.sleep(REST)
        for _ in range(settings['batches']):
            next(opened)

    return run


def batches(settings: worker.Settings) -> Iterator[pipeline.Batch]:
    data = paper.get_config().data
    data.stored_size = data.crop_size = SIZE
    data.encoding = 'raw'
    dataset = prepared.PreparedDataset(
        directory=Path(settings['directory']),
        class_names=tuple(map(str, range(CLASSES))),
        stored_size=SIZE,
        encoding='raw',
        mean_image=np.zeros((SIZE, SIZE, 3), np.float32),
        colour_std=np.ones(3, np.float32),
        colour_components=np.eye(3, dtype=np.float32),
        split_sizes={'train': settings['examples']},
        left_out={},
    )
    return pipeline.train_batches(
        dataset, data, batch_size=BATCH, seed=0, first_step=settings['first_step']
    )


def shard_count(examples: int) -> int:
    """Files of a set of so many small records, as `prepare` divides it."""
    smallest = min(shards.SMALL_SET_SHARDS, examples // shards.SMALLEST_SHARD)
    return max(-(-examples // shards.SHARD_EXAMPLES), smallest)


def contents(shard: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """What the records of a file hold: images uint8[count,S,S,3], labels."""
    rng = np.random.default_rng(shard)
    images = rng.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    return images, rng.integers(0, CLASSES, count, np.uint8)


def generate(root: Path, examples: int) -> Path:
    """Writes a set as `prepare` would, if it is not there; its directory."""
    directory = root / str(examples) / '1.0.0'
    if directory.exists():
        return directory
    temporary = root / f'.{examples}.{os.getpid()}' / '1.0.0'
    temporary.mkdir(parents=True)
    names = [str(i) for i in range(CLASSES)]
    features = prepared.features(SIZE, 'raw', names=names)
    # Serialising each takes minutes for 10⁶. All have the bytes of this one but for
    # pixels and label, which is a single byte below 128.
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    record, other = (
        features.serialize_example({'image': pixels, 'label': label})
        for label in (1, 2)
    )
    image_at = record.index(pixels.tobytes())
    (label_at,) = (i for i in range(len(record)) if record[i] != other[i])
    template = np.frombuffer(record, np.uint8)
    count = shard_count(examples)
    bounds = [examples * i // count for i in range(count + 1)]
    lengths = [bounds[i + 1] - bounds[i] for i in range(count)]
    names_of_files = tfds.core.ShardedFileTemplate(
        data_dir=tfds.core.Path(temporary), dataset_name='generated', split='train',
        filetype_suffix='array_record',
    )  # fmt: skip
    for i, length in enumerate(lengths):
        images, labels = contents(i, length)
        records = np.tile(template, (length, 1))
        records[:, image_at : image_at + pixels.size] = images.reshape(length, -1)
        records[:, label_at] = labels
        path = names_of_files.sharded_filepath(shard_index=i, num_shards=count)
        writer = array_record_module.ArrayRecordWriter(
            str(path), 'group_size:1,uncompressed'
        )
        for row in records:
            writer.write(row.tobytes())
        writer.close()
    split = tfds.core.SplitInfo(
        name='train', shard_lengths=lengths, num_bytes=examples * len(record),
        filename_template=names_of_files,
    )  # fmt: skip
    tfds.folder_dataset.write_metadata(
        data_dir=temporary, features=features, split_infos=[split], check_data=False
    )
    directory.parent.mkdir(exist_ok=True)
    os.replace(temporary, directory)
    shutil.rmtree(temporary.parent)
    return directory
