"""Measures contenders in turn, so that all stand under the same noise.

Every contender is a process of its own (`worker.py`) that is compiled and warmed up
before the first round; in a round each runs once while the others wait.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alexnet_jax.run import provenance
from alexnet_jax.system import huge_pages
from experiments.runs import commit_of

Contender = dict[str, Any]
Answer = dict[str, float]
Record = dict[str, Any]

GIB, MIB = 2**30, 2**20


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says; a benchmark reads what concerns it."""

    rounds: int
    batch: Sequence[int]
    dtype: Sequence[str]
    platform: str
    data_dir: str | None


def measure(contenders: Mapping[str, Contender], rounds: int) -> dict[str, Record]:
    """Runs every contender once a round.

    Args:
      contenders: settings by name, see `worker.py`.
      rounds: repetitions of each.

    Returns:
      By name: `seconds` of every repetition, `warm_up` in seconds (the first, which
      compiles) and `peak_bytes`, the most memory the process held.
    """
    workers: dict[str, subprocess.Popen[str]] = {}
    results: dict[str, Record] = {}
    try:
        # One after the other: warming up takes the most memory.
        for name, settings in contenders.items():
            workers[name] = start(settings)
            warm_up = read(name, workers[name])['seconds']
            results[name] = {'seconds': [], 'warm_up': warm_up}
        for i in range(rounds):
            for name, worker in workers.items():
                assert worker.stdin
                worker.stdin.write('go\n')
                worker.stdin.flush()
                answer = read(name, worker)
                results[name]['seconds'].append(answer['seconds'])
                results[name]['peak_bytes'] = answer['peak_bytes']
            latest = (f'{n} {r["seconds"][-1]:.3g} s' for n, r in results.items())
            print(f'round {i + 1}: {", ".join(latest)}', flush=True)
        return results
    finally:
        for worker in workers.values():
            worker.kill()
            worker.communicate()  # closes its pipes


def start(settings: Contender) -> subprocess.Popen[str]:
    """Starts a contender's process and gives it its settings."""
    # As our commands start themselves.
    added = huge_pages.environment() if settings.get('huge_pages') else {}
    worker = subprocess.Popen(
        [sys.executable, '-m', 'experiments.benchmark.worker'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | added,
    )
    assert worker.stdin
    worker.stdin.write(json.dumps(settings) + '\n')
    worker.stdin.flush()
    return worker


def read(name: str, worker: subprocess.Popen[str]) -> Answer:
    """Waits for the answer to one repetition."""
    assert worker.stdout
    line = worker.stdout.readline().strip()
    if not line:
        raise RuntimeError(f'{name} ended before it answered')
    return json.loads(line)


def require_pytorch() -> None:
    """Raises a ValueError where the peer of a benchmark is not installed."""
    if importlib.util.find_spec('torch') is None:
        raise ValueError(
            'this benchmark compares with PyTorch, which is not installed; '
            'run `make install-peers`'
        )


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
    return {
        'commit': commit_of({'git': provenance.git_of(Path(__file__))}),
        'cpu': cpu,
        'cores': len(cores()),
        'load_before': os.getloadavg(),
        'python': platform.python_version(),
        'versions': versions('jax', 'jaxlib', 'flax', 'optax', 'torch'),
    }


def versions(*packages: str) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cores() -> list[int]:
    """The cores that may be used."""
    return sorted(os.sched_getaffinity(0))


def heading(record: Record) -> str:
    """The line above a table."""
    libraries = ', '.join(f'{name} {v}' for name, v in record['versions'].items())
    # Records from before 2026-12 do not have the commit.
    commit = f'; commit `{record["commit"]}`' if 'commit' in record else ''
    return (
        f'{record["cpu"]}, {record["cores"]} cores, Python {record["python"]}, '
        f'{libraries}; median (range) of {record["rounds"]} interleaved repetitions'
        f'{commit}.'
    )


def spread(values: Sequence[float], digits: int = 3) -> str:
    """`median (least–most)`."""
    median, least, most = statistics.median(values), min(values), max(values)
    return f'{median:.{digits}f} ({least:.{digits}f}–{most:.{digits}f})'


def median_seconds(result: Record) -> float:
    """Of the repetitions of a result of `measure`."""
    return statistics.median(result['seconds'])


def peak_mib(result: Record) -> float:
    """The most memory that a result's process held."""
    return result['peak_bytes'] / MIB


def ratio(values: Sequence[float], base: Sequence[float]) -> float:
    """The median over the rounds of value / base.

    Of the pairs within a round, which share the noise of their minute.
    """
    return statistics.median(v / b for v, b in zip(values, base, strict=True))
