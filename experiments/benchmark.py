"""Benchmarks that compare in one run: contenders take turns, medians are quoted.

    python -m experiments.benchmark scaling --rounds=5 --out=experiments/records/scaling

scaling: one device on one core against two devices on two cores, and §3.2's
comparison: the two-tower net on both against the half-width net on one.

Every contender is a process of its own (`bench_worker.py`) that is compiled and warmed
up before the first round; in a round each runs once while the others wait. `<out>` gets
`record.json` with every repetition, the machine and the versions, and `table.md`.
Nothing else should run on the machine meanwhile.
"""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from alexnet_jax import command_line

Contender = dict[str, Any]
Record = dict[str, Any]

IMAGENET = 1_281_167  # training images
STEPS = {'cifar10': 10}  # per repetition, where one is too short to time


def measure(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Seconds of every repetition of every contender, taken in turn."""
    workers: dict[str, subprocess.Popen[str]] = {}
    try:
        # One after the other: warming up takes the most memory.
        for name, settings in contenders.items():
            workers[name] = start(settings)
            if read(name, workers[name]) != 'ready':
                raise RuntimeError(f'{name} did not start')
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for i in range(rounds):
            for name, worker in workers.items():
                assert worker.stdin
                worker.stdin.write('go\n')
                worker.stdin.flush()
                seconds[name].append(float(read(name, worker)))
            latest = ', '.join(f'{n} {s[-1]:.3g} s' for n, s in seconds.items())
            print(f'round {i + 1}: {latest}', flush=True)
        return seconds
    finally:
        for worker in workers.values():
            worker.kill()


def start(settings: Contender) -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, '-m', 'experiments.bench_worker'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert worker.stdin
    worker.stdin.write(json.dumps(settings) + '\n')
    worker.stdin.flush()
    return worker


def read(name: str, worker: subprocess.Popen[str]) -> str:
    assert worker.stdout
    line = worker.stdout.readline().strip()
    if not line:
        raise RuntimeError(f'{name} ended before it answered')
    return line


def machine() -> Record:
    """What the numbers were measured on."""
    cpu = next(
        (
            line.split(':', 1)[1].strip()
            for line in Path('/proc/cpuinfo').read_text().splitlines()
            if line.startswith('model name')
        ),
        platform.processor(),
    )
    packages = ('jax', 'jaxlib', 'flax', 'optax')
    return {
        'cpu': cpu,
        'cores': len(os.sched_getaffinity(0)),
        'load_before': os.getloadavg(),
        'python': platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def scaling(rounds: int) -> tuple[Record, str]:
    """One core and one device against two of each."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise ValueError('scaling compares one core with two, and there is one')
    one, two = usable[:1], usable[:2]

    def net(config: str, data: int, tower: int, cores: list[int]) -> Contender:
        return {
            'contender': 'ours', 'config': config, 'data': data, 'tower': tower,
            'devices': data * tower, 'cores': cores, 'steps': STEPS.get(config, 1),
            'overrides': {'train.batch_size': 128},
        }  # fmt: skip

    contenders: dict[str, Contender] = {
        '4096³ product, 1 core': {
            'contender': 'matrix_product', 'size': 4096, 'cores': one,
        },
        '4096³ product, 2 cores': {
            'contender': 'matrix_product', 'size': 4096, 'cores': two,
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
    seconds = measure(contenders, rounds)
    per_step = {
        name: [s / STEPS.get(name.split(',')[0], 1) for s in values]
        for name, values in seconds.items()
    }
    medians = {name: statistics.median(values) for name, values in per_step.items()}
    lines = [
        '| contender | seconds per step, median (range) | images/s | speed-up '
        '| efficiency |',
        '|---|---|---|---|---|',
    ]
    for name, values in per_step.items():
        what = name.split(',')[0]
        images = '–' if 'product' in what else f'{128 / medians[name]:.1f}'
        base = next((n for n in medians if n.startswith(what) and '1 core' in n), name)
        gain = ['–', '–']
        if base != name:
            # Of the pairs within a round, which share the noise of their minute.
            pairs = zip(per_step[base], values, strict=True)
            speed_up = statistics.median(alone / both for alone, both in pairs)
            gain = [f'{speed_up:.2f}', f'{speed_up / 2:.0%}']
        cells = [
            name,
            f'{medians[name]:.3f} ({min(values):.3f}–{max(values):.3f})',
            images,
            *gain,
        ]
        lines.append(f'| {" | ".join(cells)} |')
    names = ('released_2012, 2 towers, 2 cores', 'half, 1 device, 1 core')
    whole, half = (medians[name] * IMAGENET / 128 / 3600 for name in names)
    lines += [
        '',
        f'§3.2, computed from these steps for an epoch of {IMAGENET:,} images: both '
        f'towers on two cores {whole:.1f} h, the half-width net on one {half:.1f} h, a '
        f'ratio of {whole / half:.2f}.',
    ]
    return {'contenders': contenders, 'seconds': seconds}, '\n'.join(lines)


BENCHMARKS = {'scaling': scaling}


def main(argv: Sequence[str]) -> None:
    """Runs the benchmark that is named, prints its table and writes its record."""
    names = argv[1:]
    if len(names) != 1 or names[0] not in BENCHMARKS:
        raise SystemExit(
            f'error: name one benchmark of {", ".join(BENCHMARKS)}; got {names}'
        )
    with command_line.user_errors():
        about = machine()
        record, table = BENCHMARKS[names[0]](_ROUNDS.value)
    out = Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    record = {'benchmark': names[0], 'rounds': _ROUNDS.value, **about, **record}
    (out / 'record.json').write_text(json.dumps(record, indent=1) + '\n')
    (out / 'table.md').write_text(
        f'{about["cpu"]}, {about["cores"]} cores, float32, batch 128, median of '
        f'{_ROUNDS.value} interleaved repetitions.\n\n{table}\n'
    )
    print(table)


if __name__ == '__main__':
    _ROUNDS = flags.DEFINE_integer('rounds', 5, 'Repetitions of each.', lower_bound=1)
    _OUT = flags.DEFINE_string('out', 'runs/benchmark', 'Where the record goes.')
    app.run(main, flags_parser=command_line.parse_flags)
