"""Time and memory of the input pipeline against its records and the step it starts at.

The records are generated and kept in runs/benchmark/records.
"""

from pathlib import Path

from experiments.benchmark import fits, generated_set, rounds
from experiments.benchmark.contenders import generated
from experiments.benchmark.generated_set import SIZE, shard_count
from experiments.benchmark.rounds import Contender, Options, Record
from experiments.report import Table

RECORDS = (10**3, 10**4, 10**5, 10**6)
FIRST_STEPS, RESUME_RECORDS = (0, 10**2, 10**4, 10**6), 10**5
TAKEN = 100  # batches of a repetition
DIRECTORY = Path('runs', 'benchmark', 'records')
OF = f'batches of {generated.BATCH} generated images of {SIZE}×{SIZE}'


def measure_records(options: Options) -> Record:
    """Opens sets with their first batch, and takes the batches after it."""
    contenders: dict[str, Contender] = {}
    for examples in RECORDS:
        shared = source(examples)
        contenders[f'first of {examples:,}'] = shared | {
            'contender': 'generated.first_batch'
        }
        contenders[f'batch of {examples:,}'] = shared | {
            'contender': 'generated.next_batches', 'batches': TAKEN,
        }  # fmt: skip
    record = measure(contenders, options.rounds)
    for examples in RECORDS:
        result = record[f'batch of {examples:,}']
        result['seconds'] = [s / TAKEN for s in result['seconds']]
    return record


def measure_resume(options: Options) -> Record:
    """Takes the first batch of a pipeline that starts at a step."""
    shared = source(RESUME_RECORDS) | {'contender': 'generated.first_batch'}
    contenders: dict[str, Contender] = {
        f'{first:,}': shared | {'first_step': first} for first in FIRST_STEPS
    }
    return measure(contenders, options.rounds)


def measure(contenders: dict[str, Contender], repetitions: int) -> Record:
    """Results with their settings and without the rest before each repetition."""
    measured = rounds.measure(contenders, repetitions)
    for name, result in measured.items():
        result['settings'] = contenders[name]
        result['seconds'] = [s - generated.REST for s in result['seconds']]
    return measured


def source(examples: int) -> Contender:
    """Settings for a generated set, which is generated if it is not there."""
    directory = generated_set.generate(DIRECTORY.absolute(), examples)
    for path in directory.iterdir():  # so that none is read from the disk while timed
        path.read_bytes()
    return {
        'directory': str(directory), 'examples': examples, 'first_step': 0,
        'cores': rounds.cores()[:2],
    }  # fmt: skip


def by_records(record: Record) -> tuple[list[Record], list[Record]]:
    """Of `measure_records`: results of first batches, and of those after."""
    return (
        [record[f'first of {examples:,}'] for examples in RECORDS],
        [record[f'batch of {examples:,}'] for examples in RECORDS],
    )


def table(record: Record) -> Table:
    """A row for every number of records."""
    rows = [
        [
            *('records', 'files', 'opening and first batch, ms', 'a batch after, ms'),
            *('peak after the first batch, MiB', f'after {TAKEN}, MiB'),
        ]
    ]
    for examples, *both in zip(RECORDS, *by_records(record), strict=True):
        rows.append(
            [
                *(f'{examples:,}', str(shard_count(examples))),
                *(milliseconds(result) for result in both),
                *(f'{rounds.peak_mib(result):.0f}' for result in both),
            ]
        )
    return rows


def resume_table(record: Record) -> Table:
    """A row for every step."""
    rows = [['first step', 'opening and first batch, ms', '/ of step 0']]
    for first in FIRST_STEPS:
        result = record[f'{first:,}']
        ratio = rounds.ratio(result['seconds'], record['0']['seconds'])
        rows.append([f'{first:,}', milliseconds(result), f'{ratio:.2f}'])
    return rows


def milliseconds(result: Record) -> str:
    """Median and range of the repetitions."""
    return rounds.spread([1e3 * s for s in result['seconds']], 2)


def lines(record: Record) -> dict[str, fits.Line]:
    """The laws of opening a set, and of the pipeline's memory."""
    first, after = by_records(record)
    return {
        'opening and first batch: seconds against files': fits.fit_line(
            [shard_count(n) for n in RECORDS], [rounds.median_seconds(r) for r in first]
        ),
        'pipeline: MiB against 10⁶ records': fits.fit_line(
            [n / 1e6 for n in RECORDS], [rounds.peak_mib(r) for r in after]
        ),
    }


def exponents(record: Record, resume: Record) -> dict[str, float]:
    """What should not depend on the records, nor on the step."""
    first, after = by_records(record)
    later = [step for step in FIRST_STEPS if step]
    return {
        'opening and first batch: seconds against records': fits.fit_exponent(
            RECORDS, [rounds.median_seconds(r) for r in first]
        ),
        'a batch after: seconds against records': fits.fit_exponent(
            RECORDS, [rounds.median_seconds(r) for r in after]
        ),
        'pipeline: bytes against records': fits.fit_exponent(
            RECORDS, [rounds.peak_mib(r) for r in after]
        ),
        'resume: seconds against step': fits.fit_exponent(
            later, [rounds.median_seconds(resume[f'{step:,}']) for step in later]
        ),
    }
