"""What a sweep shows, what it takes for finished, and its table."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from alexnet_jax.configs import demo, photos
from alexnet_jax.run import config_file, progress
from alexnet_jax.system import config_arguments
from experiments import cells, runs, sweep, workers
from tests.conftest import as_flags, make_small, run, run_here, save_pixel


def make_cell(workdir: Path, ablation: str = 'base', seed: int = 0, code: str = ''):
    config = demo.get_config()
    config.seed = seed
    command = (sys.executable, '-c', code)
    return cells.Cell(ablation, seed, config, command, workdir / f'{ablation}-s{seed}')


def finish(cell: cells.Cell, error: float) -> None:
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
    assert cells.read_result(cell)
    (cell.workdir / name).write_text(torn)
    assert cells.read_result(cell) is None
    assert sweep.tabulate([cell])[0]['n'] == 0


def test_a_cell_of_another_config_is_not_finished(tmp_path):
    cell = make_cell(tmp_path)
    finish(cell, 0.25)
    cell.config.optimizer.learning_rate *= 2
    assert cells.read_result(cell) is None


def test_a_cell_that_began_with_another_is_finished_where_both_were_moved_to(tmp_path):
    cell = make_cell(tmp_path)
    cell.config.init.workdir = 'before/first-s0'
    finish(cell, 0.25)
    cell.config.init.workdir = str(tmp_path / 'first-s0')
    assert cells.read_result(cell)
    cell.config.init.workdir = str(tmp_path / 'other-s0')
    assert cells.read_result(cell) is None


def test_an_arm_has_one_digest_for_all_seeds_and_places(tmp_path):
    def digests(of: str, changes: dict, **data: str) -> set[str]:
        config = demo.get_config()
        config.data.update(data)
        file = config_arguments.to_file('demo')
        made = cells.make_cells({'arm': changes}, config, file, {}, 2, tmp_path / of)
        return {cell.digest for cell in made}

    one = digests('a', {'train.epochs': 3.0})
    assert len(one) == 1 and one == digests('b', {'train.epochs': 3.0}, data_dir='D')
    assert one != digests('a', {'train.epochs': 4.0})


def test_a_base_that_looks_at_its_photographs_is_swept_as_it_trains(tmp_path):
    for split in ('train', 'validation'):
        for i in range(20):
            save_pixel(tmp_path / 'photos' / split / 'ab'[i % 2] / f'{i}.png', i)
    base = ['--base=photos', f'--base.data.data_dir={tmp_path / "photos"}']
    words = ['base', 'width_x2', *base, f'--workdir={tmp_path / "runs"}']
    done = run_here('experiments.sweep', *words, '--print_commands')
    assert done.status == 0 and '20 photographs to learn from' in done.err, done
    assert '--config.model.width=0.25' in done.out.splitlines()[1]
    config = photos.get_config()
    config.data.data_dir = str(tmp_path / 'photos')
    file = config_arguments.to_file('photos')
    (cell,) = cells.make_cells({'base': {}}, config, file, {}, 1, tmp_path)
    assert cell.config.data.validation_split == 'validation'


def test_differences_are_of_the_same_seed_and_carry_their_deviation(tmp_path):
    errors = {'base': (0.20, 0.24), 'tanh': (0.30, 0.32)}
    made = [make_cell(tmp_path, name, seed) for name in errors for seed in range(2)]
    for cell in made:
        finish(cell, errors[cell.arm][cell.seed])
    table = sweep.as_markdown(sweep.tabulate(made))
    # Differences of 10 and 8 points: 9 ± 1.41, not the deviation of either arm.
    # Its interval is 12.706 × 1.41 / √2 on each side.
    row = '| tanh | 2 | 31.00 % ± 1.41 | 31.00 % ± 1.41 | +9.00 [-3.71, +21.71] |'
    assert row in table
    assert '| base | 2 | 22.00 % ± 2.83 | 22.00 % ± 2.83 |  |' in table
    assert 'n = 1' not in table


def test_one_seed_says_so_and_has_no_deviation(tmp_path):
    made = [make_cell(tmp_path, name) for name in ('base', 'tanh')]
    for cell, error in zip(made, (0.2, 0.3), strict=True):
        finish(cell, error)
    table = sweep.as_markdown(sweep.tabulate(made))
    assert '| tanh | 1 | 30.00 % | 30.00 % | +10.00 |' in table
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
    assert workers.compact(train_line(10)) == shown
    assert not workers.compact('  validation: loss 2.5000  top-1 err 50.00%')
    assert not workers.compact('conv1/kernel  11 × 11 × 3 × 96  34,848')


def test_a_cell_shows_its_progress_and_keeps_its_output(tmp_path, capsys):
    lines = ['parameters: 3', train_line(10)]
    code = f'print({chr(10).join(lines)!r}); raise SystemExit("no such thing")'
    cell = make_cell(tmp_path, code=code)
    assert workers.run([cell], tmp_path, 1) == ['base-s0']
    out = capsys.readouterr().out
    assert '  base-s0: step 10  epoch 1.00  loss 2.5000  2m00s left' in out
    assert 'failed with status 1: no such thing' in out
    assert 'parameters: 3' in (cell.workdir / 'log.txt').read_text()
    # Of a later start only what is new.
    again = make_cell(tmp_path, code='print("done")')
    assert workers.run([again], tmp_path, 1) == []
    assert 'step 10' not in capsys.readouterr().out
    cost = json.loads((cell.workdir / 'cost.json').read_text())
    assert cost['starts'] == 2 and cost['cpu_seconds'] > 0 and cost['wall_seconds'] > 0


def test_jobs_run_at_once_each_on_cores_of_its_own(tmp_path):
    # Each waits for the other's file.
    code = """
import os, pathlib, sys, time
own, other = map(pathlib.Path, sys.argv[1:])
own.write_text(repr(sorted(os.sched_getaffinity(0))))
for _ in range(300):
    if other.exists(): sys.exit()
    time.sleep(0.1)
sys.exit('alone')
"""
    a, b = (tmp_path / name for name in 'ab')
    made = [
        dataclasses.replace(cell, train=(sys.executable, '-c', code, *map(str, paths)))
        for cell, paths in (
            (make_cell(tmp_path, 'base'), (a, b)),
            (make_cell(tmp_path, 'tanh'), (b, a)),
        )
    ]
    ended = []
    assert workers.run(made, tmp_path, 2, ended=ended.append) == []
    assert sorted(cell.name for cell in ended) == ['base-s0', 'tanh-s0']
    divided = workers.divided_cores(2)
    assert sorted(p.read_text() for p in (a, b)) == sorted(map(repr, divided))
    whole = os.sched_getaffinity(0)
    assert set().union(*divided) == whole
    assert len(whole) == 1 or not set(divided[0]) & set(divided[1])


def start_from(cell: cells.Cell, first: cells.Cell) -> cells.Cell:
    cell.config.init.workdir = str(first.workdir)
    return cell


def test_a_cell_waits_for_the_run_that_it_starts_from(tmp_path, capsys):
    code = "import pathlib, time; time.sleep(1); pathlib.Path('{}').write_text('{{}}')"
    first = make_cell(tmp_path, 'first')
    result = first.workdir / 'result.json'
    first = dataclasses.replace(
        first, train=(sys.executable, '-c', code.format(result))
    )
    check = f'import os; assert os.path.exists({str(result)!r})'
    second = start_from(make_cell(tmp_path, 'second', code=check), first)
    assert workers.run([second, first], tmp_path, 2) == []
    # A run that failed is no start, and neither is one that was never asked for.
    result.unlink()
    broken = make_cell(tmp_path, 'first', code='raise SystemExit(1)')
    assert workers.run([second, broken], tmp_path, 1) == ['first-s0', 'second-s0']
    assert workers.run([second], tmp_path, 1) == ['second-s0']
    result.touch()  # of another config, of an earlier sweep
    assert workers.run([second, broken], tmp_path, 1) == ['first-s0', 'second-s0']
    result.unlink()
    said = f'second-s0: not run, the run in {first.workdir} that it starts from has not'
    assert capsys.readouterr().out.count(said) == 3


def test_a_folder_has_one_owner_and_a_run_left_behind_is_one(tmp_path):
    with workers.owned(tmp_path) as lock:
        left = subprocess.Popen(
            [sys.executable, '-c', 'input()'], stdin=subprocess.PIPE, pass_fds=(lock,)
        )
        with pytest.raises(
            ValueError, match=f'in use by the sweep of process {os.getpid()}'
        ):
            workers.run([], tmp_path, 1)
    with pytest.raises(ValueError, match='runs that it left behind'):
        workers.run([], tmp_path, 1)
    left.communicate(b'\n')
    assert workers.run([], tmp_path, 1) == []


def test_sigterm_goes_on_to_the_cells_and_the_sweep_then_ends(tmp_path, capsys):
    code = """
import pathlib, signal, sys, time
def stop(number, frame):
    pathlib.Path(sys.argv[1], 'checkpointed').touch()
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[1], 'started').touch()
time.sleep(60)
"""
    made = [
        dataclasses.replace(cell, train=(sys.executable, '-c', code, str(cell.workdir)))
        for cell in (make_cell(tmp_path, name) for name in ('base', 'tanh', 'no_lrn'))
    ]

    def interrupt():
        deadline = time.monotonic() + 50  # later nobody would catch the signal
        while len(list(tmp_path.glob('*/started'))) < 2:
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(SystemExit) as ended:
        workers.run(made, tmp_path, 2)
    assert ended.value.code == 128 + signal.SIGTERM
    assert {p.parent.name for p in tmp_path.glob('*/checkpointed')} == {
        'base-s0', 'tanh-s0',
    }  # fmt: skip
    assert not made[2].workdir.exists()
    out = capsys.readouterr().out
    assert out.count('stopped; the same sweep goes on with it') == 2
    with workers.owned(tmp_path):  # nobody is left
        pass


def test_commands_are_printed_and_nothing_runs(tmp_path):
    words = ['base', 'no_lrn', '--base=demo', '--seeds=2', f'--workdir={tmp_path}/a']
    done = run_here('experiments.sweep', *words, '--print_commands')
    commands = done.out.splitlines()
    assert done.status == 0 and len(commands) == 4
    assert all(c.split()[2:5] == ['python', '-m', 'alexnet_jax.main'] for c in commands)
    # Seed by seed: pairs are complete early.
    assert [('--config.model.conv1.lrn=False' in c) for c in commands] == [0, 1, 0, 1]
    # What is recorded already can be left out.
    later = run_here('experiments.sweep', *words, '--print_commands', '--first_seed=1')
    assert later.out.splitlines() == commands[2:]
    none = run_here('experiments.sweep', *words, '--first_seed=2')
    assert none.status == 1 and 'first_seed=2 leaves no seed of 0 … 1' in none.error
    study = ['--study=depth', f'--workdir={tmp_path}/b', '--print_commands']
    last = run_here('experiments.sweep', *study, '--first_seed=2').out.split()
    workdirs = {word for word in last if word.startswith('--workdir=')}
    assert len(workdirs) == 8 and all(name.endswith('-s2') for name in workdirs)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('given', 'used'), [(None, '1'), ('2', '2')])
def test_a_printed_command_has_the_devices_that_the_cell_gets(given, used, monkeypatch):
    monkeypatch.delenv('JAX_NUM_CPU_DEVICES', raising=False)
    if given:
        monkeypatch.setenv('JAX_NUM_CPU_DEVICES', given)
    assert workers.as_shell(('main',)).startswith(f'JAX_NUM_CPU_DEVICES={used} ')


def test_list_names_the_claims_without_a_base():
    done = run_here('experiments.sweep', '--list')
    assert done.status == 0
    assert 'half  (§3.2)\n    Two columns beat one' in done.out


def test_sweep_trains_skips_and_tabulates(small_values, tmp_path):
    base = ['--base=demo', *as_flags(small_values | {'train.steps': 2}, 'base')]
    sweep = ['base', 'no_lrn', *base, '--jobs=2', f'--workdir={tmp_path}']
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
    # With ten views there is one command more, of a finished cell it alone.
    config = make_small(small_values | {'train.steps': 2})
    (cell,) = cells.make_cells(
        {'base': {}},
        config,
        config_arguments.to_file('demo'),
        {},
        1,
        tmp_path,
        ten_views=True,
    )
    assert cells.missing_commands(cell) == (cell.evaluate,)
    assert runs.read(cell) is None
    assert workers.run([cell], tmp_path, 1) == []
    assert cells.missing_commands(cell) == ()
    finished = runs.read(cell)
    assert finished is not None and finished.cpu_seconds > 1
    ten, one = (finished.last(f'test/loss{end}') for end in ('_10view', ''))
    assert ten is not None and ten == pytest.approx(one, rel=0.1) and ten != one


def test_sweep_refuses_before_it_trains(tmp_path):
    done = run(
        '-m', 'experiments.sweep', 'base', 'no_lrm', '--base=demo',
        f'--workdir={tmp_path}', status=1,
    )  # fmt: skip
    assert 'no_lrm' in done.error
    assert not list(tmp_path.iterdir())
