"""The experiments' own arithmetic, and that their commands run; nothing is timed."""

import functools
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from experiments import (
    against_version,
    arithmetic,
    logit_deviation,
    photos,
    report,
    stall_rate,
)
from experiments.benchmark import BENCHMARKS, comparison, rounds
from experiments.benchmark.contenders import ours, plain_flax
from tests.conftest import run_here

REPOSITORY = Path(__file__).parents[1]


def run(arm: str, left_at: int | None, last: float) -> dict:
    return {'arm': arm, 'left_at': left_at, 'losses': [2.3, last]}


def test_stalled_left_and_diverged_runs_are_counted_apart():
    rows = stall_rate.table(
        [
            run('paper', None, 2.3), run('paper', 40, 1.9), run('paper', 60, 1.9),
            run('released', None, float('nan')), run('released', 10, 1.9),
        ]
    )  # fmt: skip
    assert rows[1:] == [
        ['paper', '1 of 3', '0 of 3', '50 (40–60)'],
        ['released', '0 of 2', '1 of 2', '10 (10–10)'],
    ]


@pytest.mark.parametrize('arm', stall_rate.ARMS)
def test_an_arm_changes_the_start_alone_and_keeps_the_signal_at_any_width(arm):
    full = start_of(arm, 1.0)
    quarter = start_of(arm, 0.25)
    for name in full.model.layers:
        grown = 1.0 if name == 'conv1' else 2.0
        std = full.model[name].init_std
        assert quarter.model[name].init_std == pytest.approx(grown * std)
    paper = dict(config_lib.flat(start_of('paper', 1.0)))
    changed = {k for k, v in config_lib.flat(full) if v != paper[k]}
    assert changed == set(stall_rate.ARMS[arm])


@pytest.mark.long
def test_starts_that_are_compared_at_one_signal_have_it():
    noise = logit_deviation.noise_images(4, 224, seed=0).astype(np.float32)
    images = noise - noise.mean(axis=0)

    @functools.cache
    def signal(arm: str) -> float:
        config = start_of(arm, 0.125)
        config.model.num_classes = 10
        return logit_deviation.logit_deviation(config, images * config.data.scale, 0, 4)

    for arm, other in (
        ('no_biases_text_signal', 'paper'),
        ('no_biases_released_signal', 'released'),
        ('unit_inputs_text_signal', 'paper'),
    ):
        # Without its factor the first has 0.28 of it, the second 0.52.
        assert signal(arm) == pytest.approx(signal(other), rel=0.3), arm


def test_starts_are_compared_by_the_steps_of_the_same_seed():
    def line(arm: str, seed: int, steps: int, stalled: bool = False) -> dict:
        left_at = None if stalled else steps
        return {'arm': arm, 'seed': seed, 'left_at': left_at, 'losses': [2.0] * steps}

    def row(steps: list[int], others: list[int], stalled: bool = False) -> list[str]:
        runs = [line('paper', i, n, stalled) for i, n in enumerate(steps)]
        runs += [line('released', i, n) for i, n in enumerate(others)]
        (found,) = stall_rate.comparisons(runs)[1:]
        return found[-2:]

    # Each 2.5 times: there is no spread of pairs, however far apart the seeds are.
    assert row([100, 200, 150], [40, 80, 60]) == ['2.50 [2.50, 2.50], n = 3', 'slower']
    assert row([40, 80, 60], [100, 200, 150])[1] == 'faster'
    assert row([100, 200, 150], [99, 202, 149])[1] == 'alike'
    assert row([100, 200, 150], [40, 202, 149])[1] == 'undecided'
    assert row([100], [40]) == ['2.50, n = 1', 'undecided']
    # Runs that stalled were at least so slow; how far they spread is not known.
    assert row([100, 200, 150], [40, 80, 60], stalled=True) == [
        '≥ 2.50, n = 3', 'undecided',
    ]  # fmt: skip
    assert row([100, 200, 150], [99, 202, 149], stalled=True)[1] == 'undecided'


def test_a_record_of_other_images_is_not_continued(photos, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    before = json.dumps(run('paper', 40, 1.9) | {'seed': 0, 'data': 'of others'}) + '\n'
    (out / 'runs.jsonl').write_text(before)
    where = (f'--data_dir={photos}', f'--prepared_dir={tmp_path}', f'--out={out}')
    done = run_here('experiments.stall_rate', *where)
    assert done.status == 1, done
    assert f'holds runs of other images than {photos}; take another' in done.err
    assert (out / 'runs.jsonl').read_text() == before


def start_of(arm: str, width: float) -> ConfigDict:
    return stall_rate.make_config(
        arm, width=width, batch_size=64, steps=3, data_dir='data', prepared_dir=''
    )


def test_contenders_of_a_benchmark_take_turns_in_processes_of_their_own():
    contenders: dict[str, rounds.Contender] = {
        name: {
            'contender': 'ceilings.matrix_product',
            'size': 64,
            'cores': rounds.cores()[:1],
        }
        for name in ('a', 'b')
    }
    measured = rounds.measure(contenders, 2)
    seconds = {name: result['seconds'] for name, result in measured.items()}
    assert {name: len(values) for name, values in seconds.items()} == {'a': 2, 'b': 2}
    assert all(value > 0 for values in seconds.values() for value in values)


@pytest.mark.long
def test_a_step_of_the_package_is_a_contender():
    small = {'train.batch_size': 8, 'model.width': 0.25}
    contender: rounds.Contender = {
        'contender': 'ours.train_step', 'config': 'cifar10', 'overrides': small,
        'data': 1, 'tower': 2, 'devices': 2, 'cores': rounds.cores()[:1],
    }  # fmt: skip
    assert len(rounds.measure({'ours': contender}, 1)['ours']['seconds']) == 1


@pytest.mark.parametrize('backward', [False, True])
@pytest.mark.parametrize('layer', ['conv1', 'fc8'])
def test_a_layer_of_the_package_is_a_contender(layer, backward):
    repetition = ours.layer(
        {
            'config': 'cifar10', 'layer': layer, 'backward': backward,
            'devices': len(jax.devices()),
            'overrides': {'train.batch_size': 4, 'model.width': 0.25},
        }
    )  # fmt: skip
    repetition()


def test_the_table_of_a_step_compares_with_the_fastest_peer_and_the_ceiling():
    seconds = {
        '4096³ product': [0.5, 0.6], 'memory copy': [0.1, 0.1], 'ours': [2.0, 3.0],
        'PyTorch, eager': [9.0, 9.0], 'PyTorch, compiled': [4.0, 4.0],
    }  # fmt: skip
    measured = {
        name: {'seconds': values, 'warm_up': 7.0, 'peak_bytes': 2**31}
        for name, values in seconds.items()
    }
    flops = 2e-9 * 4096**3
    header, *rows = comparison.table(measured, batch_size=100, gflop=flops / 100)
    assert 'time / PyTorch, compiled' in header
    assert [
        *('ours', '2.500 (2.000–3.000)', '40.0 images/s', '22%', '0.62', '2.0', '7.0')
    ] in rows


def test_the_arithmetic_of_a_step_is_three_forward_passes_less_conv1s_input():
    # conv1 55² × 363 × 96 multiplications, conv2 27² × 1,200 × 256, …
    forward = 2 * (
        55**2 * 363 * 96 + 27**2 * 1200 * 256 + 13**2 * 9 * 256 * 384
        + 13**2 * 9 * 192 * (384 + 256) + 9216 * 4096 + 4096 * 4096 + 4096 * 1000
    )  # fmt: skip
    layers = arithmetic.paper_layers()
    assert arithmetic.operations(layers, training=False) == forward
    conv1 = 2 * 55**2 * 363 * 96
    assert arithmetic.operations(layers, training=True) == 3 * forward - conv1


@pytest.mark.peers
def test_the_peers_of_the_benchmark_are_the_papers_network():
    from flax import nnx

    from experiments.benchmark.contenders import pytorch

    plain = nnx.eval_shape(lambda: plain_flax.make_network(jnp.float32))
    leaves = jax.tree.leaves(nnx.state(plain, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == 60_965_224
    network = pytorch.make_network()
    assert sum(p.numel() for p in network.parameters()) == 60_965_224


@pytest.mark.parametrize('name', ['step', 'forward', 'pipeline'])
def test_a_benchmark_without_its_peer_says_what_to_install(name, monkeypatch):
    monkeypatch.setattr(rounds.importlib.util, 'find_spec', lambda _: None)
    options = rounds.Options(1, [2], ['float32'], 'cpu', 'nowhere')
    with pytest.raises(ValueError, match='make install-peers'):
        module_of(name).measure(options)


@pytest.mark.parametrize('name', ['pipeline', 'predict'])
def test_a_benchmark_says_that_it_needs_photographs(name, monkeypatch):
    monkeypatch.setattr(rounds, 'require_pytorch', lambda: None)
    options = rounds.Options(1, [2], ['float32'], 'cpu', None)
    with pytest.raises(ValueError, match='--data_dir=DIR'):
        module_of(name).measure(options)


def module_of(name: str) -> ModuleType:
    module, _ = BENCHMARKS[name]
    return importlib.import_module(f'experiments.benchmark.{module}')


@pytest.mark.parametrize('name', BENCHMARKS)
def test_the_tables_of_a_benchmark_are_made_from_its_record(name):
    folder = REPOSITORY / 'experiments' / 'records' / name
    record = json.loads((folder / 'record.json').read_text())
    heading, *rest = (folder / 'table.md').read_text().splitlines()
    assert rounds.heading(record) == heading
    made = report.as_markdown(module_of(name).report(record)).splitlines()
    # The sentences below a table may have been put better since it was recorded.
    assert tables_in(made) == tables_in(rest) != []


def tables_in(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith('|')]


def test_a_terminal_gets_aligned_columns_and_a_file_markdown():
    found = ['two steps', [['step', 's'], ['first', '10.5']], 'slow']
    assert report.as_text(found) == 'two steps\n\nstep      s\nfirst  10.5\n\nslow'
    assert report.as_markdown(found) == (
        'two steps\n\n| step | s |\n| --- | --- |\n| first | 10.5 |\n\nslow'
    )


@pytest.mark.parametrize(
    ('words', 'error'),
    [
        (['speed'], 'error: name one benchmark'),
        # Before anything is measured.
        (['startup', '--out=gs://bucket/x'], 'error: --out=gs://bucket/x: URLs'),
    ],
)
def test_a_mistake_of_the_benchmarks_user_is_one_line(words, error):
    done = subprocess.run(
        [sys.executable, '-m', 'experiments.benchmark', *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(error)


def test_records_are_what_their_tables_say():
    records = REPOSITORY / 'experiments' / 'records'
    for folder in (records / 'stall_rate', records / 'stall_rate' / 'signal_and_bias'):
        runs = [json.loads(line) for line in (folder / 'runs.jsonl').open()]
        assert (folder / 'table.md').read_text().strip() == (
            report.as_markdown(stall_rate.made_of(runs))
        )
    runs = [json.loads(x) for x in (records / 'photos' / 'runs.jsonl').open()]
    assert (records / 'photos' / 'table.md').read_text().strip() == (
        report.as_markdown([photos.table(runs)])
    )
    for record in sorted((records / 'logit_deviation').rglob('record.json')):
        table = logit_deviation.table(json.loads(record.read_text()))
        assert record.with_name('table.md').read_text() == table


def test_errors_of_photographs_are_compared_seed_by_seed():
    def run(size: int, arm: str, seed: int, error: float) -> dict:
        return {'size': size, 'arm': arm, 'seed': seed, 'error': error}

    rows = photos.table(
        [
            run(150, 'probe', 0, 0.3), run(150, 'probe', 1, 0.5),
            run(150, 'from a run', 1, 0.4), run(1500, 'from scratch', 0, 0.25),
        ]
    )  # fmt: skip
    assert rows[1:] == [
        ['150', 'from a run', '1', '40.0%', '40.0%–40.0%', '-10.0 points'],
        ['150', 'probe', '2', '40.0%', '30.0%–50.0%', '–'],
        ['1,500', 'from scratch', '1', '25.0%', '25.0%–25.0%', '–'],
    ]


def test_photographs_of_a_seed_are_drawn_again_and_the_smaller_set_is_in_the_larger():
    paths = [Path(f'{i}.jpg') for i in range(100)]
    few, many = photos.draw(paths, 10, 0), photos.draw(reversed(paths), 50, 0)
    assert few == many[:10] and few != photos.draw(paths, 10, 1)


def test_noise_has_an_amplitude_of_1_over_f_and_imagenets_colours():
    images = logit_deviation.noise_images(16, 128, seed=0)
    again = logit_deviation.noise_images(16, 128, seed=0)
    np.testing.assert_array_equal(images, again)
    # A little is cut off at 0 and 255.
    deviations = images.std(axis=(0, 1, 2))
    np.testing.assert_allclose(deviations, [74.0, 72.0, 77.0], rtol=0.15)
    grey = images.mean(axis=-1) - images.mean()
    amplitude = np.sqrt((np.abs(np.fft.rfft2(grey)) ** 2).mean(axis=0))
    assert amplitude[4, 4] / amplitude[16, 16] == pytest.approx(4, rel=0.3)


@pytest.mark.long
def test_a_small_net_has_more_of_the_image_from_the_released_start():
    images = logit_deviation.noise_images(4, logit_deviation.STORED, seed=1)
    measured = logit_deviation.measure(images, seeds=1, width=0.125)
    (released,), (paper,), _, _, (unit,) = measured.values()
    assert released > 3 * paper > 0
    assert released > 3 * unit > 0


def test_the_documented_comparison_with_0_1_is_of_its_record():
    record = REPOSITORY / 'experiments' / 'records' / 'step' / 'against_d7d715c.json'
    rows = against_version.table(json.loads(record.read_text())['seconds'])
    speed = (REPOSITORY / 'docs' / 'speed.md').read_text()
    documented = re.findall(
        r'^\| `?(paper|cifar10)`?, (.*?) \| ([\d.]+) s \| ([\d.]+) s \| ([\d.]+) \|$',
        speed,
        re.M,
    )
    assert len(documented) == len(rows) - 1
    for (config, where, *numbers), row in zip(documented, rows[1:], strict=True):
        assert row[0] == f'{config}, {where}'
        assert [float(x) for x in numbers] == pytest.approx(
            [float(x) for x in row[1:]], abs=0.006
        )
