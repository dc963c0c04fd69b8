"""Is a training step as fast as that of another version?

    python -m experiments.against_version --other=CHECKOUT [--out=DIR]

CHECKOUT is a checkout of the other version (0.1 or later), whose code runs in this
environment. Each contender is a process of its own that measures a few steps after one
that does not count; the contenders take turns in every round. Writes
`<out>/against_<version>.json` and prints the table. Nothing else should run meanwhile.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import app, flags

from alexnet_jax.system import command_line, files, huge_pages, tables
from experiments.benchmark import rounds

# By name: config, overrides, devices along tower, steps.
STEPS: dict[str, tuple[str, dict[str, object], int, int]] = {
    'paper, one device': ('paper', {}, 1, 2),
    'paper, a tower on each of two': ('paper', {}, 2, 2),
    'cifar10, a tower on each of two': ('cifar10', {}, 2, 12),
}
ROOT = Path(__file__).parents[1]
# 0.1 had its contender in another place.
MEASURE = """
import json, sys, time
try:
    from experiments.benchmark.contenders import ours
except ImportError:
    from experiments.benchmark import ours
config, overrides, tower, steps = json.loads(sys.argv[1])
run = ours.train_step({'config': config, 'overrides': overrides, 'data': 1,
                       'tower': tower, 'devices': tower, 'steps': 1})
run()
seconds = []
for _ in range(steps):
    begin = time.perf_counter()
    run()
    seconds.append(time.perf_counter() - begin)
print(json.dumps(seconds))
"""


def seconds(checkout: Path, step: str) -> float:
    """The median seconds of a step in a process that runs a checkout's code."""
    done = subprocess.run(
        [sys.executable, '-c', MEASURE, json.dumps(STEPS[step])],
        cwd=checkout,
        env=os.environ
        | huge_pages.environment()
        | {'PYTHONPATH': str(checkout), 'JAX_PLATFORMS': 'cpu'},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(f'{checkout} does not run: {done.stderr.strip()[-500:]}')
    return statistics.median(json.loads(done.stdout.splitlines()[-1]))


def table(measured: Mapping[str, Mapping[str, Sequence[float]]]) -> list[list[str]]:
    """A row per step: medians of both versions, and of the ratios of the rounds.

    Args:
      measured: by step, the seconds of each round of `other` and of `this`.
    """
    rows = [['step', 'other, s', 'this, s', 'ratio']]
    for step, found in measured.items():
        pairs = zip(found['this'], found['other'], strict=True)
        ratio = statistics.median(this / other for this, other in pairs)
        medians = [f'{statistics.median(found[key]):.3f}' for key in ('other', 'this')]
        rows.append([step, *medians, f'{ratio:.2f}'])
    return rows


def main(argv: Sequence[str]) -> None:
    """Measures both versions in turn, writes the record and prints the table."""
    command_line.reject_positionals(argv)
    other = Path(_OTHER.value or '').absolute()
    if not (other / 'experiments' / 'benchmark').is_dir():
        raise SystemExit('error: --other=DIR is needed, a checkout of another version')
    out = command_line.local_path('out', _OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    measured = {step: {'other': [], 'this': []} for step in STEPS}
    with command_line.user_errors():
        for number in range(_ROUNDS.value):
            for step, found in measured.items():
                for key, checkout in (('other', other), ('this', ROOT)):
                    found[key].append(seconds(checkout, step))
                print(f'round {number + 1}, {step}', flush=True)
    commit = subprocess.run(
        ['git', '-C', str(other), 'rev-parse', '--short', 'HEAD'],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    record = {'other': commit, **rounds.machine(), 'seconds': measured}
    files.write_json(out / f'against_{commit}.json', record)
    print(tables.aligned(table(measured)))


if __name__ == '__main__':
    _OTHER = flags.DEFINE_string('other', None, 'A checkout of another version.')
    _OUT = flags.DEFINE_string('out', 'runs/against', 'Where the record goes.')
    _ROUNDS = flags.DEFINE_integer('rounds', 5, 'Repetitions of each.', lower_bound=1)
    app.run(main, flags_parser=command_line.parse_flags)
