"""What is measured on the nets of a study's cells, and how it comes into the record."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import alexnet_jax
from alexnet_jax import train_state
from alexnet_jax.analysis import prepared_split
from alexnet_jax.analysis.net import Net
from alexnet_jax.run import config_file
from experiments import inspections, measured, pages, runs, studies, study_cells
from experiments.inspections import adoption, chroma, neighbours, probe
from experiments.studies import figure3, trained_nets
from experiments.studies.study import Base, Study
from tests.conftest import Ended, run_here


def test_chroma_is_the_share_of_energy_off_grey():
    rng = np.random.default_rng(0)
    grey = rng.standard_normal((5, 5, 1, 1)).repeat(3, axis=2)
    colour = rng.standard_normal((5, 5, 1, 1)) * np.array([1, -1, 0])[:, None]
    noise = rng.standard_normal((5, 5, 3, 4000))
    kernels = np.concatenate(
        [grey, colour, grey + colour, 0 * grey, noise], axis=3
    ).astype(np.float32)
    found = chroma.chroma(kernels)
    np.testing.assert_allclose(found[[0, 1, 3]], [0, 1, 0], atol=1e-6)
    assert found[4:].mean() == pytest.approx(2 / 3, abs=0.005)
    # Pixel by pixel, by the projector off (1, 1, 1).
    off = np.eye(3) - np.full((3, 3), 1 / 3)
    for number in (2, 4, 5):
        pixels = kernels[..., number].reshape(-1, 3).astype(np.float64)
        share = sum(np.sum((off @ p) ** 2) for p in pixels) / np.sum(pixels**2)
        assert found[number] == pytest.approx(share, abs=1e-6)


def test_a_colour_tower_is_found_and_one_by_chance_is_not(monkeypatch):
    rng = np.random.default_rng(1)
    planted = np.concatenate([rng.uniform(0.0, 0.3, 12), rng.uniform(0.4, 0.9, 12)])
    found = chroma.compare(planted, 2)
    assert found['difference'] == pytest.approx(
        planted[12:].mean() - planted[:12].mean()
    )
    assert found['greyer'] == pytest.approx(planted[:12].mean())
    # No dealing but this one and its mirror image is as far apart.
    assert found['p'] < 0.001 and found['significant'] == 1
    assert found['separation'] == pytest.approx(1)
    assert found['share_of_colour'] == 1
    assert chroma.compare(planted[::-1], 2) == pytest.approx(found, abs=2e-3)
    # The same kernels dealt at random: as often significant as p says.
    monkeypatch.setattr(chroma, 'PERMUTATIONS', 400)
    null = [chroma.compare(rng.permutation(planted), 2) for _ in range(200)]
    assert 0.01 <= np.mean([one['significant'] for one in null]) <= 0.11
    assert np.mean([one['p'] for one in null]) == pytest.approx(0.5, abs=0.08)
    assert np.mean([one['excess'] for one in null]) == pytest.approx(0, abs=0.02)
    assert abs(np.mean([one['separation'] for one in null])) < 0.06


def test_kernels_of_one_tower_are_split_at_random():
    shares = np.arange(24) / 24
    split, towers = chroma.dealt(shares, 1)
    assert towers == 2 and sorted(split) == shares.tolist()
    assert split.tolist() != shares.tolist()
    assert chroma.compare(split, towers)['p'] > 0.05 > chroma.compare(shares, 2)['p']
    kept, towers = chroma.dealt(shares, 2)
    assert towers == 2 and kept is shares


def test_groups_share_no_seed():
    def groups(name: str, seeds: int) -> list[list[int]]:
        made = map(inspections.INSPECTIONS[name].seeds, range(seeds))
        return [list(group) for group in made if group and group[-1] < seeds]

    assert groups('average2', 5) == [[0, 1], [2, 3]]
    assert groups('average3', 10) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert groups('average5', 10) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert groups('chroma', 3) == [[0], [1], [2]]


def test_every_number_that_a_study_shows_is_measured():
    """A measure of a misspelt key would be an empty column for ever."""
    ones = {
        'chroma': [
            *(name for name in chroma.compare(np.arange(8) / 8, 2)),
            *(f'learned_{name}' for name in chroma.compare(np.arange(8) / 8, 2)),
        ],
        'neighbours': ['hidden', 'pixels', 'random', 'chance'],
        'probe': trained_nets.LAYERS,
        **{
            f'average{nets}': ['top1_error', 'gain', 'top1_error_10view', 'gain_10view']
            for nets in trained_nets.NETS
        },
    }
    numbers = {f'{name}/{key}': 0.5 for name, keys in ones.items() for key in keys}
    run = runs.Run(
        *('base', 0, 'abc', 10, 1.0, 'c', 9.0, 8.0),
        {'test/top5_error': [[10, 0.04]]},
        measured=numbers,
    )
    inspected = [one for one in studies.STUDIES.values() if one.inspections]
    assert len(inspected) == 7
    for one in inspected:
        assert set(one.inspections) <= inspections.INSPECTIONS.keys()
        for effect in one.effects:
            assert effect.measure.of(run) is not None, effect
        assert all(measure.of(run) is not None for measure in one.columns)


# The whole step, on the tests' small run at its end and two steps before.


@pytest.fixture(scope='module')
def tiny(small_values) -> Study:
    """All inspections, on the tests' small run."""
    base = Base(
        name='tiny',
        config='demo',
        overrides=dict(small_values) | {'mesh.data': 1, 'mesh.tower': 2},
        data='of tests',
        network='of tests',
        schedule='20 steps',
        ten_views=False,
    )
    return dataclasses.replace(
        figure3.CIFAR10,
        name='tiny',
        base=base,
        arms=('base',),
        effects=figure3.CIFAR10.effects[:1],
        inspections=('chroma', 'neighbours', 'probe', 'average2'),
        seeds=3,
    )


@pytest.fixture(scope='module')
def sweep(tiny, whole_run, tmp_path_factory) -> study_cells.Sweep:
    """Of three cells, two of them finished: the run, and one like it."""
    workdir = tmp_path_factory.mktemp('studies')
    made = study_cells.of_study(tiny, (), workdir, places={})
    for cell in made.cells[:2]:
        shutil.copytree(whole_run['workdir'], cell.workdir)
        # But for seed and start it is this config's run.
        config = json.dumps(config_file.to_json(cell.config))
        (cell.workdir / 'config.json').write_text(config)
    shutil.rmtree(cell.workdir / 'checkpoints' / '20')  # the last is step 18's
    return made


@pytest.fixture
def few(monkeypatch, tiny) -> None:
    """Fewer images, so that it takes a second; and a study to call by its name."""
    monkeypatch.setitem(studies.STUDIES, 'tiny', tiny)
    monkeypatch.setattr(neighbours, 'QUERIES', 40)
    monkeypatch.setattr(neighbours, 'IMAGES', 300)
    monkeypatch.setattr(probe, 'TRAIN', 200)
    monkeypatch.setattr(probe, 'TEST', 100)
    monkeypatch.setattr(chroma, 'PERMUTATIONS', 200)


def inspect(sweep: study_cells.Sweep, *words: str) -> Ended:
    folder = f'--workdir={sweep.workdir}'
    return run_here('experiments.inspect_cells', '--study=tiny', folder, *words)


def images_of(net: Net, name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first squares of a split and their labels."""
    images = list(prepared_split.open_split(net, name, {}, count))
    return np.stack([x.pixels for x in images]), np.array([x.label for x in images])


@pytest.mark.long
def test_finished_cells_are_inspected_once_and_their_numbers_are_numpys(
    sweep, tiny, few
):
    done = inspect(sweep)
    assert done.status == 0, done.err
    assert 'tiny: 2 of 3 cells, 7 measured now' in done.out
    kept = sweep.workdir / 'records' / 'tiny.jsonl'
    found = {(run.arm, run.seed): run for run in runs.load(kept)}
    assert list(found) == [('base', 0), ('base', 1)]
    first, second = (cell.workdir for cell in sweep.cells[:2])
    numbers = found['base', 0].measured
    net = alexnet_jax.load(first, checkpoint='latest')

    # Chroma, and that of what was learned.
    start = train_state.initial_params(net.network, 0)['conv1']['kernel']
    for name, kernels in (
        ('mean', net.params['conv1']['kernel']),
        ('learned_mean', np.subtract(net.params['conv1']['kernel'], start)),
    ):
        grey = np.asarray(kernels).mean(axis=2, keepdims=True, dtype=np.float64)
        off = np.square(kernels - grey).sum((0, 1, 2))
        shares = off / np.square(np.asarray(kernels, np.float64)).sum((0, 1, 2))
        assert numbers[f'chroma/{name}'] == pytest.approx(shares.mean(), rel=1e-4)

    # Neighbours by brute force.
    queries, of_queries = images_of(net, 'test', 40)
    images, labels = images_of(net, 'train', 300)
    random = dataclasses.replace(net, params=train_state.initial_params(net.network, 0))
    side = slice(2, 30)  # crops of 28 pixels of 32
    for by, features in (
        ('hidden', lambda x: net.activations(x, 'fc7')['fc7']),
        ('random', lambda x: random.activations(x, 'fc7')['fc7']),
        ('pixels', lambda x: x[:, side, side].reshape(len(x), -1).astype(float)),
    ):
        distances = [np.linalg.norm(features(images) - q, axis=1) for q in
                     features(queries)]  # fmt: skip
        nearest = labels[np.argsort(distances, axis=1, kind='stable')[:, :6]]
        right = np.mean(nearest == of_queries[:, None])
        assert numbers[f'neighbours/{by}'] == pytest.approx(right), by

    # A probe of fc7 without the basis: every fifth image chooses the penalty.
    linear = pytest.importorskip('sklearn.linear_model')
    tests, of_tests = images_of(net, 'test', 100)
    rows = net.activations(images[:200], 'fc7')['fc7']
    held = np.arange(200) % 5 == 4
    deviation = rows[~held].std(0)
    mean, deviation = rows[~held].mean(0), np.where(deviation > 0, deviation, 1)
    best = (np.inf, np.nan)
    for strength in probe.probe_lib.STRENGTHS:
        plain = linear.LogisticRegression(C=strength, max_iter=5000)
        plain.fit((rows[~held] - mean) / deviation, labels[:200][~held])
        wrong = plain.predict((rows[held] - mean) / deviation) != labels[:200][held]
        if wrong.mean() < best[0]:
            seen = net.activations(tests, 'fc7')['fc7']
            guesses = plain.predict((seen - mean) / deviation)
            best = wrong.mean(), np.mean(guesses != of_tests)
    assert numbers['probe/fc7'] == pytest.approx(best[1], abs=0.021)
    layers = {name for name in numbers if name.startswith('probe/')}
    assert layers == {f'probe/{layer}' for layer in trained_nets.LAYERS}

    # The average of both seeds.
    every, of_every = images_of(net, 'test', 130)
    both = [alexnet_jax.load(w, checkpoint='latest') for w in (first, second)]
    for views, ending in ((1, ''), (10, '_10view')):
        alone = [one.predict(every, views=views) for one in both]
        assert not np.allclose(*alone, atol=1e-6)
        errors = [np.mean(p.argmax(1) != of_every) for p in (*alone, sum(alone))]
        assert numbers[f'average2/top1_error{ending}'] == pytest.approx(errors[2])
        gain = np.mean(errors[:2]) - errors[2]
        mean = np.stack(alone).mean(axis=0)[np.arange(130), of_every]
        loss = -np.log(mean).mean()
        assert numbers[f'average2/loss{ending}'] == pytest.approx(loss, rel=1e-4)
        assert numbers[f'average2/gain{ending}'] == pytest.approx(gain, abs=1e-6)
    assert not any('average2' in name for name in found['base', 1].measured)

    # Again: nothing to do. Where a number is missing, that alone.
    before = kept.read_bytes()
    assert '0 measured now' in inspect(sweep).out
    content = measured.read(first)
    del content['neighbours']
    (first / measured.FILE).write_text(json.dumps(content))
    again = inspect(sweep)
    assert '1 measured now' in again.out and kept.read_bytes() == before
    pictures = sorted(path.name for path in (kept.parent / 'tiny').iterdir())
    assert pictures == ['guesses.png', 'kernels.png', 'neighbours.png']
    text = pages.table(tiny, list(found.values()), pictures)
    assert '![kernels](kernels.png)' in text and 'The nets were measured by' in text
    assert '(n = 1)' not in text and 'n = 2' in text


def test_a_cell_of_an_earlier_version_is_taken_if_it_predicts_as_it_did(
    sweep, few, monkeypatch
):
    cell = sweep.cells[0]
    files = [cell.workdir / name for name in ('dataset.json', 'mean_image.npy')]
    before = [path.read_bytes() for path in files]
    result = (cell.workdir / 'result.json').read_text()
    config = json.loads((cell.workdir / 'config.json').read_text())
    del config['train']['nonfinite']['factor']
    (cell.workdir / 'config.json').write_text(json.dumps(config))
    for path in files:
        path.unlink()
    other = json.loads(result)
    other['test/loss'] *= 1.01
    (cell.workdir / 'result.json').write_text(json.dumps(other))
    with pytest.raises(ValueError, match='its loss on test is'):
        adoption.adopt(cell, {})
    assert not any(path.exists() for path in files)
    (cell.workdir / 'result.json').write_text(result)
    assert adoption.adopt(cell, {})
    assert [path.read_bytes() for path in files] == before
    assert not adoption.adopt(cell, {})


def test_numbers_of_a_net_survive_new_runs_of_a_record():
    series = {'val/loss': [[10, 1.0]]}
    old = runs.Run(
        *('base', 0, 'abc', 10, 1.0, 'c', 9.0, 8.0, series),
        measured={'chroma/p': 0.5},
        measured_by='abc',
    )
    same = dataclasses.replace(old, measured={}, measured_by='')
    assert runs.merged([old], [same], ['base']) == [old]
    more = dataclasses.replace(old, measured={'probe/fc7': 0.1}, measured_by='def')
    (both,) = runs.merged([old], [more], ['base'])
    assert both.measured == {'chroma/p': 0.5, 'probe/fc7': 0.1}
    assert both.measured_by == 'def, abc'
    # Of another training they are not.
    new = dataclasses.replace(same, series={'val/loss': [[10, 2.0]]})
    assert runs.merged([old], [new], ['base']) == [new]
    # The picture of the series need not be drawn again.
    assert repr(old) == repr(same)


def test_what_inspection_refuses_is_one_line(tmp_path):
    for words, said in (
        ([], '--study=NAME is needed'),
        (['--study=figure9'], 'there are lrn'),
        (['--study=lrn'], 'measures nothing on its nets; figure3'),
        (['--study=figure3'], 'no finished cell of figure3; train them with'),
        (['--study=figure4_photographs'], 'no finished cell of figure4_photographs'),
    ):
        done = run_here('experiments.inspect_cells', f'--workdir={tmp_path}', *words)
        assert said in done.error
