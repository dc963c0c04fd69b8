r"""Kills commands with SIGKILL wherever they are, and compares what they end with.

    python -m experiments.kills --kills=200 --out=experiments/records/kills

Five kinds in turn: a run between steps, a run while it saves, a run in an evaluation, a
preparation, and a sweep with its cell. Each is killed `--each` times and started again,
then left to its end and compared with one that nobody killed: arrays of the latest and
of the best checkpoint, metrics.jsonl, TensorBoard's points and result.json but for
times; records, statistics and order of a prepared set. `<out>/rounds.jsonl` gets a line
each; what is there is kept, so that a killed experiment goes on.
"""

import collections
import contextlib
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from alexnet_jax.system import command_line, files
from experiments import same_run
from experiments.benchmark import rounds
from experiments.journal import Journal
from experiments.report import Report

VALUES = {
    'model.width': 0.25,
    'train.epochs': 0,
    'train.steps': 40,
    'train.batch_size': 16,
    'train.log_every_steps': 5,
    'train.checkpoint_every_steps': 4,
    'train.eval_every_epochs': 0.02,  # every 10 steps of 16 images of 8,000
    'mesh.data': 1,
    'mesh.tower': 1,
    'data.validation_split': 'validation[:400]',
    'data.test_split': '',
}
KINDS = ('training', 'saving', 'evaluation', 'preparation', 'sweep')

Record = dict[str, Any]


def start(words: Sequence[object], home: Path) -> subprocess.Popen[bytes]:
    """Starts Python in a home of its own, output to a file there."""
    with (home / 'output.txt').open('ab') as output:
        return subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ
            | {
                'HOME': str(home),
                'XDG_CACHE_HOME': str(home.parent / 'cache'),  # compiled programs
                'JAX_PLATFORMS': 'cpu',
            },
            cwd=Path(__file__).parents[1],
        )


def command(kind: str, home: Path) -> list[str]:
    """What is killed."""
    if kind == 'preparation':
        return ['-m', 'alexnet_jax.prepare', '--config=demo']
    if kind == 'sweep':
        words = ['-m', 'experiments.sweep', 'base', '--base=demo']
        words += [f'--base.{key}={value}' for key, value in VALUES.items()]
        return [*words, f'--workdir={home / "sweep"}']
    words = ['-m', 'alexnet_jax.main', '--config=demo', f'--workdir={home / "run"}']
    return words + [f'--config.{key}={value}' for key, value in VALUES.items()]


def folder(kind: str, home: Path) -> Path:
    """Where its run is."""
    return home / 'sweep' / 'base-s0' if kind == 'sweep' else home / 'run'


def moment(kind: str, home: Path) -> Callable[[], bool]:
    """Whether a command is where it shall be killed."""
    workdir = folder(kind, home)
    if kind == 'preparation':
        root = home / 'tensorflow_datasets'
        return root.exists
    if kind == 'saving':
        return lambda: any(workdir.glob('*/*.orbax-checkpoint-tmp'))
    metrics = workdir / 'metrics.jsonl'
    size = metrics.stat().st_size if metrics.exists() else 0

    def wrote() -> bool:
        if not metrics.exists() or metrics.stat().st_size in (0, size):
            return False
        last = metrics.read_text().splitlines()[-1]
        # The log line of an evaluation's step is written just before it.
        due = re.search(r'"step": \d*0, "train', last)
        return kind != 'evaluation' or due is not None

    return wrote


def kill_once(kind: str, home: Path, rng: random.Random) -> str:
    """Starts the command and kills it; where that was, or that it had ended."""
    ready = moment(kind, home)
    process = start(command(kind, home), home)
    while process.poll() is None and not ready():
        time.sleep(0.002)
    longest = {'preparation': 6.0, 'training': 1.0, 'sweep': 2.0}.get(kind, 0.05)
    time.sleep(rng.uniform(0.0, longest))
    if process.poll() is not None:
        return 'had ended'
    owner = files.read_json(folder(kind, home) / 'owner.json')
    process.kill()
    process.wait()
    if kind == 'sweep' and owner:
        with contextlib.suppress(ProcessLookupError):
            os.kill(owner['process'], signal.SIGKILL)
    return 'killed'


def finish(kind: str, home: Path) -> int:
    """Starts the command for the last time; its status."""
    return start(command(kind, home), home).wait()


def prepared_files(home: Path) -> dict[str, str]:
    """The digests of what preparation leaves, but for what names its source's state.

    Of a record it takes the entries in a fixed order: protobuf writes those of a map in
    an order of their hashes, which is another one in each process.
    """
    return {
        str(path.relative_to(home)): digest_of(path)
        for path in sorted((home / 'tensorflow_datasets').rglob('*'))
        if path.is_file() and path.suffix != '.json' and not path.is_symlink()
    }


def digest_of(path: Path) -> str:
    """SHA-256 of a file, or of the records of a file of them."""
    if '.array_record' not in path.name:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    from array_record.python import array_record_module
    from tensorflow_datasets.proto import tf_example_pb2

    reader = array_record_module.ArrayRecordReader(str(path))
    digest = hashlib.sha256()
    for record in reader.read_all():
        example = tf_example_pb2.Example.FromString(record)  # pyrefly: ignore
        features = example.features.feature
        for name in sorted(features):
            value = features[name].SerializeToString(deterministic=True)
            digest.update(f'{name} {len(value)} '.encode() + value)
    reader.close()
    return digest.hexdigest()


def one_round(kind: str, each: int, whole: Path, seed: int) -> Record:
    """Kills a command so many times, lets it end and compares."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=whole.parent) as name:
        home = Path(name)
        if kind != 'preparation':  # the set is there
            (home / 'tensorflow_datasets').symlink_to(whole / 'tensorflow_datasets')
        outcomes = [kill_once(kind, home, rng) for _ in range(each)]
        status = finish(kind, home)
        if status:
            found = (home / 'output.txt').read_text().splitlines()[-1:]
            different = [f'status {status}: {" ".join(found)}']
        elif kind == 'preparation':
            same = prepared_files(home) == prepared_files(whole)
            different = [] if same else ['files']
        else:
            different = same_run.differences(folder(kind, home), whole / 'run')
        return {
            'kind': kind,
            'kills': outcomes.count('killed'),
            'ended_before': outcomes.count('had ended'),
            'different': different,
            'tracebacks': (home / 'output.txt').read_text().count('Traceback'),
        }


def as_report(lines: Sequence[Record], machine: Record) -> Report:
    """The counts as a table."""
    table = [['killed in', 'kills', 'commands let end', 'the same', 'tracebacks']]
    total: collections.Counter[str] = collections.Counter()
    for kind in KINDS:
        chosen = [line for line in lines if line['kind'] == kind]
        row = {
            'kills': sum(line['kills'] for line in chosen),
            'ends': len(chosen),
            'same': sum(not line['different'] for line in chosen),
            'tracebacks': sum(line['tracebacks'] for line in chosen),
        }
        total.update(row)
        table.append([kind, *map(str, row.values())])
    table.append(['all', *(str(total[name]) for name in row)])
    text = f'{machine["cpu"]}, {machine["cores"]} cores; SIGKILL.'
    return [text, table]


def main(argv: list[str]) -> None:
    """Goes on with the kills and writes the table."""
    command_line.reject_positionals(argv)
    journal = Journal(command_line.local_path('out', _OUT.value))
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name, 'whole')
        whole.mkdir()
        for kind in ('preparation', 'training'):  # undisturbed
            if finish(kind, whole):
                raise RuntimeError((whole / 'output.txt').read_text())
        while sum(line['kills'] for line in journal.lines) < _KILLS.value:
            number = len(journal.lines)
            kind = KINDS[number % len(KINDS)]
            journal.append(one_round(kind, _EACH.value, whole, seed=number))
    journal.write_table(as_report(journal.lines, rounds.machine()))


if __name__ == '__main__':
    _KILLS = flags.DEFINE_integer('kills', 200, 'In all, at least.', lower_bound=1)
    _EACH = flags.DEFINE_integer('each', 8, 'Kills of one command.', lower_bound=1)
    _OUT = flags.DEFINE_string('out', 'runs/kills', 'Where the record goes.')
    app.run(main, flags_parser=command_line.parse_flags)
