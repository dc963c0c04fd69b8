"""How long a run takes to end after Ctrl-C or SIGTERM, in each of its phases.

    python -m experiments.signalled --rounds=5 --out=experiments/records/signalled

The demo begins, a signal comes when it has printed the line of a phase, and the seconds
until the process has ended are counted: with a checkpoint where it was in its loop, at
once elsewhere. `<out>/rounds.jsonl` gets a line per signal; what is there is kept.
Nothing else should run meanwhile.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from alexnet_jax.system import command_line
from experiments import kills
from experiments.benchmark import rounds
from experiments.journal import Journal
from experiments.report import Report

# The line after which the signal comes; '' stands for as soon as it is listened for.
PLACES = {
    'listening': '',
    'preparation': 'preparing|rendering',
    'overview': '^workdir: ',
    'step': r'^ +5 ',
    'evaluation': '^ +validation: ',
}
SIGNALS = (signal.SIGINT, signal.SIGTERM)
LIMIT = 2.0  # seconds


def await_place(process: subprocess.Popen[str], place: str) -> None:
    """Reads a run's output until it is at a place."""
    if not PLACES[place]:
        while process.poll() is None and not _catches_sigterm(process.pid):
            time.sleep(0.01)
        return
    assert process.stdout
    for line in process.stdout:
        if re.search(PLACES[place], line):
            return


def _catches_sigterm(pid: int) -> bool:
    status = Path(f'/proc/{pid}/status').read_text()
    caught = re.search(r'^SigCgt:\s*([0-9a-f]+)$', status, re.MULTILINE)
    return bool(caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def seconds_to_end(place: str, number: signal.Signals, data: Path) -> float:
    """Starts a run, sends it the signal at a place, and waits for its end."""
    values = kills.VALUES | {'train.log_every_steps': 1}
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(
            [
                *(sys.executable, '-m', 'alexnet_jax.main', '--config=demo'),
                *(f'--config.{key}={value}' for key, value in values.items()),
                f'--workdir={Path(home, "run")}',
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ
            | {
                'HOME': home if place == 'preparation' else str(data),
                'XDG_CACHE_HOME': str(data / 'cache'),
                'JAX_PLATFORMS': 'cpu',
            },
            cwd=Path(__file__).parents[1],
        )
        await_place(process, place)
        sent = time.monotonic()
        process.send_signal(number)
        out, _ = process.communicate()
        seconds = time.monotonic() - sent
    if process.returncode != 128 + number or f'signal {number:d}' not in out:
        raise RuntimeError(f'{place}: status {process.returncode}: {out[-2000:]}')
    return seconds


def tables(lines: Sequence[Mapping[str, Any]]) -> Report:
    """A row per phase and signal."""
    rows = [['phase', 'signal', 'times', 'seconds', f'over {LIMIT:g} s']]
    for place in PLACES:
        for number in SIGNALS:
            seconds = [
                line['seconds']
                for line in lines
                if (line['place'], line['signal']) == (place, number.name)
            ]
            if seconds:
                late = sum(value > LIMIT for value in seconds)
                spread = rounds.spread(seconds, 2)
                rows.append([place, number.name, str(len(seconds)), spread, str(late)])
    return [rows, 'Seconds from the signal to the end: median (least–most).']


def main(argv: Sequence[str]) -> None:
    """Goes on with the rounds, and writes the table."""
    command_line.reject_positionals(argv)
    journal = Journal(command_line.local_path('out', _OUT.value))
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory)
        seconds_to_end('step', signal.SIGTERM, data)  # renders, prepares and compiles
        for place in PLACES:
            for number in SIGNALS:
                about = {'place': place, 'signal': number.name}
                while journal.count(**about) < _ROUNDS.value:
                    seconds = round(seconds_to_end(place, number, data), 3)
                    journal.append(about | {'seconds': seconds})
    journal.write_table(tables(journal.lines))


if __name__ == '__main__':
    _ROUNDS = flags.DEFINE_integer('rounds', 5, 'Of each.', lower_bound=1)
    _OUT = flags.DEFINE_string('out', 'runs/signalled', 'Where the record goes.')
    app.run(main, flags_parser=command_line.parse_flags)
