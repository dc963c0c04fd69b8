"""The experiments' own arithmetic, and that their commands run; nothing is timed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_jax import config as config_lib
from experiments import stall_rate
from experiments.benchmark import rounds

REPOSITORY = Path(__file__).parents[1]


def run(arm: str, left_at: int | None, last: float) -> dict:
    return {'arm': arm, 'left_at': left_at, 'losses': [2.3, last]}


def test_stalled_left_and_diverged_runs_are_counted_apart():
    table = stall_rate.table(
        [
            run('paper', None, 2.3), run('paper', 40, 1.9), run('paper', 60, 1.9),
            run('released', None, float('nan')), run('released', 10, 1.9),
        ]
    )  # fmt: skip
    assert '| paper | 1 of 3 | 0 of 3 | 50 (40–60) |' in table
    assert '| released | 0 of 2 | 1 of 2 | 10 (10–10) |' in table


@pytest.mark.parametrize('arm', stall_rate.ARMS)
def test_an_arm_changes_the_start_alone_and_keeps_the_signal_at_any_width(arm):
    full = stall_rate.make_config(arm, 1.0, 64, 'data', '')
    quarter = stall_rate.make_config(arm, 0.25, 64, 'data', '')
    for name in full.model.layers:
        grown = 1.0 if name == 'conv1' else 2.0
        std = full.model[name].init_std
        assert quarter.model[name].init_std == pytest.approx(grown * std)
    paper = dict(config_lib.flat(stall_rate.make_config('paper', 1.0, 64, 'data', '')))
    changed = {k for k, v in config_lib.flat(full) if v != paper[k]}
    assert changed == set(stall_rate.ARMS[arm])


def test_contenders_of_a_benchmark_take_turns_in_processes_of_their_own():
    contenders: dict[str, rounds.Contender] = {
        name: {'contender': 'ceilings.matrix_product', 'size': 64, 'cores': [0]}
        for name in ('a', 'b')
    }
    measured = rounds.measure(contenders, 2)
    seconds = {name: result['seconds'] for name, result in measured.items()}
    assert {name: len(values) for name, values in seconds.items()} == {'a': 2, 'b': 2}
    assert all(value > 0 for values in seconds.values() for value in values)


def test_a_step_of_the_package_is_a_contender():
    small = {'train.batch_size': 8, 'model.width': 0.25}
    contender: rounds.Contender = {
        'contender': 'ours.train_step', 'config': 'cifar10', 'overrides': small,
        'data': 1, 'tower': 2, 'devices': 2, 'cores': [0],
    }  # fmt: skip
    assert len(rounds.measure({'ours': contender}, 1)['ours']['seconds']) == 1


def test_an_unknown_benchmark_is_one_line():
    done = subprocess.run(
        [sys.executable, '-m', 'experiments.benchmark', 'speed'],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith('error: name one benchmark')


def test_records_are_what_their_tables_say():
    records = REPOSITORY / 'experiments' / 'records'
    runs = [json.loads(x) for x in (records / 'stall_rate' / 'runs.jsonl').open()]
    assert (records / 'stall_rate' / 'table.md').read_text().strip() == (
        stall_rate.table(runs)
    )
