"""What a sweep shows, what it takes for finished, and its table."""

import json
import sys
from pathlib import Path

import pytest

from alexnet_jax.configs import demo
from alexnet_jax.run import config_file, progress
from experiments import sweep
from tests.conftest import as_flags, run, run_here


def make_cell(workdir: Path, ablation: str = 'base', seed: int = 0, code: str = ''):
    config = demo.get_config()
    config.seed = seed
    command = (sys.executable, '-c', code)
    return sweep.Cell(ablation, seed, config, command, workdir / f'{ablation}-s{seed}')


def finish(cell: sweep.Cell, error: float) -> None:
    cell.workdir.mkdir(parents=True)
    config = json.dumps(config_file.to_json(cell.config))
    (cell.workdir / 'config.json').write_text(config)
    result = {'val/top1_error': error, 'test/top1_error': error}
    (cell.workdir / 'result.json').write_text(json.dumps(result))


@pytest.mark.parametrize('torn', ['', '{"val/top1_er', '{}', '[1]'])
@pytest.mark.parametrize('name', ['result.json', 'config.json'])
def test_a_torn_file_is_of_an_unfinished_cell(tmp_path, name, torn):
    cell = make_cell(tmp_path)
    finish(cell, 0.25)
    assert sweep.read_result(cell)
    (cell.workdir / name).write_text(torn)
    assert sweep.read_result(cell) is None
    assert sweep.tabulate([cell])[0]['n'] == 0


def test_a_cell_of_another_config_is_not_finished(tmp_path):
    cell = make_cell(tmp_path)
    finish(cell, 0.25)
    cell.config.optimizer.learning_rate *= 2
    assert sweep.read_result(cell) is None


def test_differences_are_of_the_same_seed_and_carry_their_deviation(tmp_path):
    errors = {'base': (0.20, 0.24), 'tanh': (0.30, 0.32)}
    cells = [make_cell(tmp_path, name, seed) for name in errors for seed in range(2)]
    for cell in cells:
        finish(cell, errors[cell.ablation][cell.seed])
    table = sweep.as_markdown(sweep.tabulate(cells))
    # Differences of 10 and 8 points: 9 ± 1.41, not the deviation of either arm.
    assert '| tanh | 2 | 31.00 % ± 1.41 | +9.00 ± 1.41 | 31.00 % ± 1.41 |' in table
    assert '| base | 2 | 22.00 % ± 2.83 |  | 22.00 % ± 2.83 |' in table
    assert 'n = 1' not in table


def test_one_seed_says_so_and_has_no_deviation(tmp_path):
    cells = [make_cell(tmp_path, name) for name in ('base', 'tanh')]
    for cell, error in zip(cells, (0.2, 0.3), strict=True):
        finish(cell, error)
    table = sweep.as_markdown(sweep.tabulate(cells))
    assert '| tanh | 1 | 30.00 % | +10.00 | 30.00 % |' in table
    assert '±' not in table
    assert 'n = 1 for base, tanh' in table


def train_line(step: int) -> str:
    length = progress.run_length(
        num_examples=640, batch_size=64, epochs=5.0, steps=0, eval_every_epochs=1.0
    )
    scalars = {
        'train/loss': 2.5, 'train/top1_error': 0.5, 'train/top5_error': 0.25,
        'train/learning_rate': 0.01, 'train/images_per_second': 1000.0,
        'train/seconds_per_step': 3.0,
    }  # fmt: skip
    return progress.train_line(step, length, scalars, num_classes=10)


def test_a_runs_line_is_shown_with_step_loss_and_time_left():
    shown = 'step 10  epoch 1.00  loss 2.5000  2m00s left'
    assert sweep.compact(train_line(10)) == shown
    assert not sweep.compact('  validation: loss 2.5000  top-1 err 50.00%')
    assert not sweep.compact('conv1/kernel  11 × 11 × 3 × 96  34,848')


def test_a_cell_shows_its_progress_and_keeps_its_output(tmp_path, capsys):
    lines = ['parameters: 3', train_line(10)]
    code = f'print({chr(10).join(lines)!r}); raise SystemExit("no such thing")'
    cell = make_cell(tmp_path, code=code)
    assert not sweep.run(cell)
    out = capsys.readouterr().out
    assert '  base-s0: step 10  epoch 1.00  loss 2.5000  2m00s left' in out
    assert 'failed with status 1: no such thing' in out
    assert 'parameters: 3' in (cell.workdir / 'log.txt').read_text()
    # Of a later start only what is new.
    again = make_cell(tmp_path, code='print("done")')
    assert sweep.run(again)
    assert 'step 10' not in capsys.readouterr().out


def test_list_names_the_claims_without_a_base():
    done = run_here('experiments.sweep', '--list')
    assert done.status == 0
    assert 'half  (§3.2)\n    Two columns beat one' in done.out


def test_sweep_trains_skips_and_tabulates(small_values, tmp_path):
    base = ['--base=demo', *as_flags(small_values | {'train.steps': 2}, 'base')]
    sweep = ['base', 'no_lrn', *base, '--seeds=1', f'--workdir={tmp_path}']
    done = run_here('experiments.sweep', *sweep)
    assert done.status == 0, done
    assert '| no_lrn | 1 |' in (tmp_path / 'table.md').read_text()
    changed = json.loads((tmp_path / 'no_lrn-s0' / 'config.json').read_text())
    assert changed['model']['conv1']['lrn'] is False
    before = (tmp_path / 'base-s0' / 'result.json').stat().st_mtime_ns
    table = (tmp_path / 'table.md').read_bytes()
    done = run_here('experiments.sweep', *sweep)
    assert done.status == 0 and done.out.count('finished before') == 2
    assert (tmp_path / 'base-s0' / 'result.json').stat().st_mtime_ns == before
    assert (tmp_path / 'table.md').read_bytes() == table


def test_sweep_refuses_before_it_trains(tmp_path):
    done = run(
        '-m', 'experiments.sweep', 'base', 'no_lrm', '--base=demo',
        f'--workdir={tmp_path}', status=1,
    )  # fmt: skip
    assert 'no_lrm' in done.error
    assert not list(tmp_path.iterdir())
