r"""Starts several commands at once on one workdir, and on one empty data folder.

    python -m experiments.started_together --rounds=50 \
        --out=experiments/records/started_together

In each round two, three and then ten commands begin together, each time with a new
home and a new workdir, so that the demo images are rendered, prepared and trained on by
commands that know nothing of each other. One must hold the workdir and end its run; the
others end with status 1 and a line that says who holds it, or they come late and find
the run finished. Then as many prepare another empty data folder: one works, the others
wait and say so, all end with status 0. After each, the run and the set are compared
with those of a command that was alone. `<out>/rounds.jsonl` gets a line per start; what
is there is kept, so that a killed experiment goes on.
"""

import collections
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from alexnet_jax.run import checkpoint_folder
from alexnet_jax.system import command_line, files
from experiments.benchmark import rounds
from experiments.journal import Journal
from experiments.report import Report

COUNTS = (2, 3, 10)
RUN = (
    *('-m', 'alexnet_jax.main', '--config=demo', '--config.model.width=0.25'),
    *('--config.train.epochs=0', '--config.train.steps=4', '--config.mesh.tower=1'),
    *('--config.train.batch_size=16', '--config.data.test_split='),
    *('--config.data.validation_split=validation[:100]',),
)
PREPARE = ('-m', 'alexnet_jax.prepare', '--config=demo')

Record = dict[str, Any]


def together(count: int, words: Sequence[object], home: Path) -> list[Record]:
    """Starts a command several times at once; how each ended."""
    environment = os.environ | {
        'HOME': str(home),
        'XDG_CACHE_HOME': str(home / 'cache'),
        'JAX_PLATFORMS': 'cpu',
    }
    began = time.monotonic()
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[1],
        )
        for _ in range(count)
    ]
    ends = []
    for process in started:
        out, err = process.communicate()
        seconds = time.monotonic() - began
        ends.append(
            {'status': process.returncode, 'out': out, 'err': err, 'seconds': seconds}
        )
    return ends


def digests(workdir: Path) -> dict[str, str]:
    """Of every array of the last checkpoint."""
    step = checkpoint_folder.saved_steps(workdir, 'checkpoints')[-1]
    meta = files.read_json(workdir / 'checkpoints' / str(step) / 'meta' / 'metadata')
    return {name: array['sha256'] for name, array in meta['arrays'].items()}


def start_runs(count: int, alone: Mapping[str, str]) -> Record:
    """One round of runs on one workdir and in one empty home."""
    with tempfile.TemporaryDirectory() as home:
        workdir = Path(home, 'run')
        ends = together(count, (*RUN, f'--workdir={workdir}'), Path(home))
        outcomes = [outcome_of_run(end) for end in ends]
        same = workdir.is_dir() and digests(workdir) == alone
        return finish('runs on one workdir', count, outcomes, same, ends)


def outcome_of_run(end: Record) -> str:
    """Trained it, was refused, or found it finished."""
    lines = end['err'].strip().splitlines()
    if end['status'] == 1 and 'is in use: process' in lines[-1]:
        return 'refused in one line'
    if end['status'] == 0:
        return 'trained' if 'first step after' in end['out'] else 'found it finished'
    return 'failed'


def start_preparations(count: int, alone: Mapping[str, str]) -> Record:
    """One round of preparations of one empty data folder."""
    with tempfile.TemporaryDirectory() as home:
        ends = together(count, PREPARE, Path(home))
        outcomes = [outcome_of_preparation(end) for end in ends]
        same = contents(Path(home)) == alone
        return finish('preparations of one folder', count, outcomes, same, ends)


def outcome_of_preparation(end: Record) -> str:
    """Waited, or did not need to."""
    if end['status']:
        return 'failed'
    waited = [x for x in end['err'].splitlines() if x.startswith('waiting for ')]
    return 'waited in one line' if waited else 'did not wait'


def contents(home: Path) -> dict[str, str]:
    """The sizes and names of all records below a home."""
    return {
        str(path.relative_to(home)): str(path.stat().st_size)
        for path in sorted(home.rglob('*.array_record*'))
    }


def finish(
    what: str,
    count: int,
    outcomes: Sequence[str],
    same: bool,
    ends: Sequence[Record],
) -> Record:
    """A line of the record; of failures it has the last line of stderr."""
    failures = [
        end['err'].strip().splitlines()[-1:]
        for end, outcome in zip(ends, outcomes, strict=True)
        if outcome == 'failed'
    ]
    traces = sum('Traceback' in end['err'] for end in ends)
    return {
        'what': what,
        'count': count,
        'outcomes': dict(collections.Counter(outcomes)),
        'same': same,
        'tracebacks': traces,
        'failures': failures,
        'seconds': round(max(end['seconds'] for end in ends), 1),
    }


def alone() -> tuple[dict[str, str], dict[str, str]]:
    """What an undisturbed command leaves: the run's digests, the set's files."""
    with tempfile.TemporaryDirectory() as home:
        workdir = Path(home, 'run')
        (end,) = together(1, (*RUN, f'--workdir={workdir}'), Path(home))
        if end['status']:
            raise RuntimeError(end['err'])
        run = digests(workdir)
    with tempfile.TemporaryDirectory() as home:
        together(1, PREPARE, Path(home))
        return run, contents(Path(home))


def as_report(lines: Sequence[Record], machine: Record) -> Report:
    """The counts as a table."""
    table = [['started', 'rounds', 'commands', 'how they ended', 'the same', 'traces']]
    keys = dict.fromkeys((line['what'], line['count']) for line in lines)
    for what, count in keys:
        chosen = [x for x in lines if (x['what'], x['count']) == (what, count)]
        ended = collections.Counter()
        for line in chosen:
            ended.update(line['outcomes'])
        table.append(
            [
                f'{count} {what}',
                str(len(chosen)),
                str(sum(ended.values())),
                ', '.join(f'{n} {name}' for name, n in sorted(ended.items())),
                f'{sum(line["same"] for line in chosen)} of {len(chosen)}',
                str(sum(line['tracebacks'] for line in chosen)),
            ]
        )
    text = (
        f'{machine["cpu"]}, {machine["cores"]} cores. "The same": the arrays of the '
        'checkpoint, or names and sizes of the records, are those of a command that '
        'was alone. "Traces": commands that printed a traceback.'
    )
    return [text, table]


def main(argv: list[str]) -> None:
    """Goes on with the rounds and writes the table."""
    command_line.reject_positionals(argv)
    journal = Journal(command_line.local_path('out', _OUT.value))
    run, prepared = alone()
    for number in range(1, _ROUNDS.value + 1):
        for count in COUNTS:
            for start, expected in ((start_runs, run), (start_preparations, prepared)):
                about = {'function': start.__name__, 'count': count}
                if journal.count(**about) < number:
                    journal.append(about | start(count, expected))
    journal.write_table(as_report(journal.lines, rounds.machine()))


if __name__ == '__main__':
    _ROUNDS = flags.DEFINE_integer('rounds', 50, 'Rounds in all.', lower_bound=1)
    _OUT = flags.DEFINE_string('out', 'runs/started_together', 'Where the record goes.')
    app.run(main, flags_parser=command_line.parse_flags)
