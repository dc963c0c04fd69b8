"""From the command to the first step of configs/demo.py, phase by phase.

Cold with an empty compilation cache, warm with a filled one, each start a process of
its own. The data set is prepared and all files have been read once before.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from experiments.benchmark import rounds
from experiments.benchmark.rounds import Answer, Options, Record
from experiments.report import Report

REPOSITORY = Path(__file__).parents[2]
TOTAL = 'the command to the first step'


def measure(options: Options) -> Record:
    """Starts the demo cold and warm in turn."""
    measured: dict[str, list[Answer]] = {'cold': [], 'warm': []}
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        start(scratch, 'prepare', 'warm', options.platform)
        for i in range(options.rounds):
            for name, answers in measured.items():
                cache = name if name == 'warm' else f'cold-{i}'
                answers.append(start(scratch, f'{name}-{i}', cache, options.platform))
            latest = (f'{n} {a[-1][TOTAL]:.2f} s' for n, a in measured.items())
            print(f'round {i + 1}: {", ".join(latest)}', flush=True)
    return {'measured': measured}


def report(record: Record) -> Report:
    """A row for every phase."""
    measured = record['measured']
    rows = [['seconds', *measured]]
    rows += [
        [phase, *(rounds.spread([a[phase] for a in s], 2) for s in measured.values())]
        for phase in measured['cold'][0]
    ]
    return [
        rows,
        'The step compiles in a thread from the end of `data` on; `compile` is what is '
        'left of it when the first batch is there.',
    ]


def start(scratch: Path, run: str, cache: str, platform: str) -> Answer:
    """The seconds of each phase of one start, by the program, and of all, by us."""
    environment = dict(os.environ, JAX_PLATFORMS=platform)
    for name in ('JAX_COMPILATION_CACHE_DIR', 'JAX_ENABLE_COMPILATION_CACHE'):
        environment.pop(name, None)
    data = scratch / 'data'
    with (scratch / 'errors').open('w+') as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            [
                *(sys.executable, '-m', 'alexnet_jax.main', '--stop_at_step=1'),
                *('--config=configs/demo.py', f'--workdir={scratch / run}'),
                f'--config.data.data_dir={data}',
                f'--config.data.prepared_dir={data}',
            ],
            cwd=REPOSITORY,
            env=environment | {'XDG_CACHE_HOME': str(scratch / cache)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        found: Answer = {}
        assert process.stdout
        for line in process.stdout:
            if line.startswith('  imports '):
                total = time.perf_counter() - began
                found = phases(line)
                found = {'interpreter': total - sum(found.values())} | found
                found[TOTAL] = total
        if process.wait() or not found:
            errors.seek(0)
            raise RuntimeError(f'the demo did not start: {errors.read()[-2000:]}')
    return found


def phases(line: str) -> Answer:
    """Reads the second line of `progress.Startup`."""
    parts = re.findall(r'([a-z]+) ([\d.]+)(?:,|$)', line)
    return {name: float(seconds) for name, seconds in parts}
