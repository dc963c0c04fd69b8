"""Runs one benchmark, prints its table and writes its record.

    python -m experiments.benchmark step --rounds=5 --out=experiments/records/step

`<out>` gets `record.json`, with every repetition, the machine and the versions, and
`table.md`. Nothing else should run on the machine meanwhile.
"""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from alexnet_jax.system import command_line, files
from experiments import report
from experiments.benchmark import BENCHMARKS, rounds

_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Repetitions of each.', lower_bound=1)
_OUT = flags.DEFINE_string(
    'out', None, 'Where the record goes; default: runs/benchmark/<name>.'
)
_BATCH = flags.DEFINE_multi_integer('batch', 128, 'Images of a step.', lower_bound=1)
_DTYPE = flags.DEFINE_multi_enum(
    'dtype', ['float32'], ['float32', 'bfloat16'], 'Arithmetic of the layers.'
)
_PLATFORM = flags.DEFINE_enum('platform', 'cpu', ['cpu', 'cuda'], 'Where steps run.')
_DATA_DIR = flags.DEFINE_string(
    'data_dir',
    None,
    'The folder with `clothing/`, which `pipeline` and `predict` read.',
)


def main(argv: Sequence[str]) -> None:
    """Measures, writes the record, then its table."""
    names = argv[1:]
    if len(names) != 1 or names[0] not in BENCHMARKS:
        known = '; '.join(f'{name}, {what}' for name, (_, what) in BENCHMARKS.items())
        raise SystemExit(f'error: name one benchmark; got {names}; there are {known}')
    name = names[0]
    module, _ = BENCHMARKS[name]
    out = command_line.local_path('out', _OUT.value or Path('runs', 'benchmark', name))
    out.mkdir(parents=True, exist_ok=True)
    options = rounds.Options(
        rounds=_ROUNDS.value,
        batch=_BATCH.value,
        dtype=_DTYPE.value,
        platform=_PLATFORM.value,
        data_dir=_DATA_DIR.value,
    )
    with command_line.user_errors():
        about = rounds.machine()
        benchmark = importlib.import_module(f'experiments.benchmark.{module}')
        record = benchmark.measure(options)
    record = {'benchmark': name, 'rounds': options.rounds, **about, **record}
    # Where this machine has its folders says nothing to others.
    text = json.dumps(record, indent=1).replace(f'{Path.cwd()}/', '')
    text = text.replace(f'{Path.cwd().parent}/', '../')
    files.write_atomically(out / 'record.json', text + '\n')
    found = [rounds.heading(record), *benchmark.report(record)]
    files.write_atomically(out / 'table.md', report.as_markdown(found) + '\n')
    print(report.as_text(found), end='\n\n')
    print(f'written to {out}/record.json and table.md')


if __name__ == '__main__':
    app.run(main, flags_parser=command_line.parse_flags)
