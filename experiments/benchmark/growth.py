"""Time and memory against batch, width, records and steps, with the fitted laws.

A step must be linear in its images and in its arithmetic (`step_growth.py`). The
pipeline must not depend on the number of records, whose order is computed and not
stored, nor its first batch on the step it resumes at (`input_growth.py`).
"""

import dataclasses

from experiments.benchmark import input_growth, rounds, step_growth
from experiments.benchmark.rounds import Options, Record
from experiments.report import Report


def measure(options: Options) -> Record:
    """Measures all three parts; of the options it reads rounds and platform."""
    record: Record = {
        'step': step_growth.measure(options),
        'pipeline': input_growth.measure_records(options),
        'resume': input_growth.measure_resume(options),
    }
    lines = step_growth.lines(record['step']) | input_growth.lines(record['pipeline'])
    record['lines'] = {name: dataclasses.asdict(law) for name, law in lines.items()}
    record['exponents'] = input_growth.exponents(record['pipeline'], record['resume'])
    record['peers'] = rounds.versions('grain', 'array-record', 'numpy')
    return record


def report(record: Record) -> Report:
    """The tables of the three parts, and their laws."""
    lines = [
        [name, f'{law["slope"]:.4g}', f'{law["intercept"]:.4g}', f'{law["r2"]:.5f}']
        for name, law in record['lines'].items()
    ]
    exponents = [[name, f'{p:.3f}'] for name, p in record['exponents'].items()]
    return [
        'One training step of configs/paper.py',
        step_growth.table(record['step']),
        f'The input pipeline, {input_growth.OF}',
        input_growth.table(record['pipeline']),
        f'A resume, {input_growth.RESUME_RECORDS:,} records',
        input_growth.resume_table(record['resume']),
        'Lines through the medians, by least squares',
        [['y against x', 'slope', 'intercept', 'R²'], *lines],
        'Exponents p of y ∝ xᵖ; a constant has 0',
        [['y against x', 'p'], *exponents],
        'Restoring a checkpoint is not measured against the step: its files hold '
        'the parameters, their momentum and a few integers, whose sizes do not '
        'depend on it.',
    ]
