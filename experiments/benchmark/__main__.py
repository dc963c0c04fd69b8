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

from alexnet_jax.system import command_line
from experiments.benchmark import rounds

# By the module that runs it.
BENCHMARKS = {
    'step': 'one training step against PyTorch and plain Flax',
    'forward': 'the logits of one batch against the same',
    'layers': 'where the time of our step goes',
    'pipeline': 'images a second of the input, against DataLoader and tf.data',
    'scaling': 'one device and core against two',
    'growth': 'time and memory against batch, width, records and steps',
    'startup': 'from the command to the first step, phase by phase',
}

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
    'data_dir', '../shared/data', 'The folder with `clothing/`, for `pipeline`.'
)


def main(argv: Sequence[str]) -> None:
    names = argv[1:]
    if len(names) != 1 or names[0] not in BENCHMARKS:
        known = '; '.join(f'{name}, {what}' for name, what in BENCHMARKS.items())
        raise SystemExit(f'error: name one benchmark; got {names}; there are {known}')
    name = names[0]
    with command_line.user_errors():
        options = rounds.Options(
            rounds=_ROUNDS.value,
            batch=_BATCH.value,
            dtype=_DTYPE.value,
            platform=_PLATFORM.value,
            data_dir=_DATA_DIR.value,
        )
        about = rounds.machine()
        benchmark = importlib.import_module(f'experiments.benchmark.{name}')
        record, table = benchmark.run(options)
    out = Path(_OUT.value or Path('runs', 'benchmark', name))
    out.mkdir(parents=True, exist_ok=True)
    record = {'benchmark': name, 'rounds': _ROUNDS.value, **about, **record}
    # Where this machine has its folders says nothing to others.
    text = json.dumps(record, indent=1).replace(f'{Path.cwd()}/', '')
    text = text.replace(f'{Path.cwd().parent}/', '../')
    (out / 'record.json').write_text(text + '\n')
    text = f'{rounds.heading(record)}\n\n{table}\n'
    (out / 'table.md').write_text(text)
    print(text)


if __name__ == '__main__':
    app.run(main, flags_parser=command_line.parse_flags)
