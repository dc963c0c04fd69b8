"""Nearest neighbours, their precision, and the linear probe."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import alexnet_jax
from alexnet_jax import train_state
from alexnet_jax.analysis import neighbour_search, neighbours, probe
from alexnet_jax.data import names, pipeline, prepare
from tests.conftest import Ended, run_here


def nearest(queries, batches, k) -> neighbours.Neighbours:
    search = neighbours.Search(queries, k)
    for batch in batches:
        search.add(batch)
    return search.found()


def test_the_nearest_of_many_batches_are_those_of_all_at_once():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((50, 3, 4), dtype=np.float32)
    queries = rng.standard_normal((7, 3, 4), dtype=np.float32)
    batches = np.split(images, [1, 9, 20, 41])
    found = nearest(queries, batches, 6)
    distances = np.linalg.norm(
        (queries[:, None] - images[None]).reshape(7, 50, -1).astype(np.float64), axis=2
    )
    order = np.argsort(distances, axis=1)[:, :6]
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_allclose(
        found.distances, np.take_along_axis(distances, order, axis=1), rtol=1e-5
    )


def test_pixels_are_compared_as_numbers_and_an_image_is_its_own_neighbour():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 64, 64, 3), np.uint8)
    near = images.copy()
    near[:, 0, 0] ^= 1  # three pixels by 1: a distance of sqrt(3) among some 10,000
    found = nearest(near, [images], 9)
    assert found.indices.shape == (5, 5)
    assert found.indices[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert found.distances[:, 0].max() < 0.01 * found.distances[:, 1].min()


def test_precision_counts_the_nearest_of_the_same_class():
    found = neighbours.Neighbours(np.array([[0, 1, 2], [3, 0, 1]]), np.zeros((2, 3)))
    images, queries = np.array([5, 5, 6, 7]), np.array([5, 7])
    assert neighbours.precision(found, images, queries, 1) == 1.0
    assert neighbours.precision(found, images, queries, 3) == pytest.approx(
        (2 / 3 + 1 / 3) / 2
    )
    assert neighbours.chance(images, queries) == pytest.approx((2 / 4 + 1 / 4) / 2)


def clouds(rng, count, distance, size=400) -> probe.Examples:
    labels = np.arange(count) % 3
    features = rng.standard_normal((count, 4, size // 4), dtype=np.float32)
    features[:, 0, :3] += distance * np.eye(3, dtype=np.float32)[labels]
    features[:, 1] = 7.0  # dead units
    return probe.Examples(features, labels)


def sklearn_error(train, held_out, test, strength) -> float:
    """Of scikit-learn's model on all features of unit variance."""
    from sklearn import linear_model

    rows = train.features.reshape(len(train.labels), -1)
    mean, deviation = rows.mean(0), rows.std(0)
    deviation[deviation == 0] = 1
    plain = linear_model.LogisticRegression(C=strength, max_iter=5000, tol=1e-6)
    plain.fit((rows - mean) / deviation, train.labels)
    others = test.features.reshape(len(test.labels), -1)
    return float(np.mean(plain.predict((others - mean) / deviation) != test.labels))


def test_a_probe_is_logistic_regression_on_all_features():
    """More features than images: by way of the basis it is the same model."""
    pytest.importorskip('sklearn')
    rng = np.random.default_rng(0)
    train, held_out, test = (clouds(rng, n, 3.0) for n in (60, 90, 300))
    found = probe.fit(train, held_out, test, strengths=[0.01])
    error = sklearn_error(train, held_out, test, strength=0.01)
    assert 0.02 < error < 0.6
    assert found.error == pytest.approx(error, abs=0.01)


@pytest.mark.parametrize(
    ('count', 'size', 'says'),
    [
        (4, 10, '5 training images or more'),
        (60_000, 50_000, 'probes of 60,000 images would take'),
        (28_000, 27_000, 'probes of 28,000'),  # 22,400 of them are fitted
    ],
)
def test_a_probe_that_would_not_fit_is_refused(count, size, says):
    with pytest.raises(ValueError, match=says):
        neighbour_search._check_probes(count, [size])
    neighbour_search._check_probes(36_000, [204])


def test_a_probe_takes_the_penalty_that_the_held_out_images_choose():
    pytest.importorskip('sklearn')
    rng = np.random.default_rng(1)
    sets = [clouds(rng, n, 2.0) for n in (90, 300, 300)]
    found = probe.fit(*sets)
    alone = [probe.fit(*sets, strengths=[each]) for each in probe.STRENGTHS]
    assert found.held_out_error == min(each.held_out_error for each in alone)
    assert found in alone
    # More images than features: they are fitted as they are.
    few = [probe.Examples(e.features[:, 0, :40], e.labels) for e in sets]
    plain = sklearn_error(*few, strength=0.1)
    assert probe.fit(*few, strengths=[0.1]).error == pytest.approx(plain, abs=0.01)
    with pytest.raises(ValueError, match='two classes'):
        probe.fit(probe.Examples(np.zeros((2, 3)), np.zeros(2)), *sets[1:])


def run_neighbours(workdir: Path, *arguments: object) -> Ended:
    return run_here('alexnet_jax.neighbours', f'--workdir={workdir}', *arguments)


@pytest.fixture(scope='module')
def found(whole_run, tmp_path_factory) -> tuple[Ended, Path]:
    """The command on 40 test images among 300 training images, with all it can do."""
    out = tmp_path_factory.mktemp('neighbours')
    done = run_neighbours(
        whole_run['workdir'], '--split=test', '--queries=40', '--limit=300',
        '--probe=fc7,conv1/linear', f'--output={out / "neighbours.json"}',
        f'--figure={out / "neighbours.png"}', '--shown=3',
    )  # fmt: skip
    assert done.status == 0, done
    return done, out


def split_of(net: alexnet_jax.Net, split: str, count: int) -> dict[str, np.ndarray]:
    dataset = prepare.open_prepared(net.config.data)
    return next(
        pipeline.eval_batches(dataset, net.config.data, split=split, batch_size=count)
    )


def test_the_command_finds_the_neighbours_by_layer_pixels_and_random_weights(
    whole_run, found
):
    net = alexnet_jax.load(whole_run['workdir'])
    data = net.config.data
    train = split_of(net, data.train_split, 300)
    test = split_of(net, data.test_split, 40)
    random = dataclasses.replace(net, params=train_state.initial_params(net.network, 1))
    spaces = {
        'fc7': [net.activations(x['image'], 'fc7')['fc7'] for x in (test, train)],
        'pixels': [x['image'][:, 2:30, 2:30].astype(float) for x in (test, train)],
        'random weights': [
            random.activations(x['image'], 'fc7')['fc7'] for x in (test, train)
        ],
    }
    record = json.loads((found[1] / 'neighbours.json').read_text())
    assert [each['image'] for each in record] == [f'test[{i}]' for i in range(40)]
    for space, (queries, images) in spaces.items():
        differences = (queries[:, None] - images[None]).reshape(40, 300, -1)
        distances = np.sort(np.linalg.norm(differences.astype(float), axis=2), axis=1)
        got = [[near['distance'] for near in each['nearest'][space]] for each in record]
        np.testing.assert_allclose(got, distances[:, :6], rtol=1e-3)
        nearest = record[0]['nearest'][space][0]
        dataset = prepare.open_prepared(data)
        place = names.of_split(dataset, data, 'train').index(nearest['image'])
        assert nearest['class'] == dataset.class_names[train['label'][place]]


def test_the_command_prints_precision_and_the_error_of_each_probe(found):
    record = json.loads((found[1] / 'neighbours.json').read_text())
    same = [
        near['class'] == each['class']
        for each in record
        for near in each['nearest']['fc7']
    ]
    lines = [line.split() for line in found[0].out.splitlines()]
    assert lines[0][:5] == ['40', 'queries', 'among', '300', 'training']
    precision = next(line for line in lines if line[0] == 'fc7')
    assert precision[2] == f'{np.mean(same):.1%}'
    assert {'pixels', 'random', 'chance'} <= {line[0] for line in lines}
    probes = lines[next(i for i, line in enumerate(lines) if line[0] == 'linear') + 1 :]
    errors = {line[0]: float(line[3].removesuffix('%')) for line in probes[:2]}
    assert errors.keys() == {'fc7', 'conv1/linear'}
    assert 0 < errors['fc7'] < 95


def test_the_picture_has_a_row_for_each_query_and_three_groups_of_six(found):
    picture = np.asarray(Image.open(found[1] / 'neighbours.png').convert('RGB'))
    height, width, _ = picture.shape
    assert width > 4 * height and width > 1500


def test_queries_may_be_files_and_the_training_split_is_refused(whole_run, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / 'ring').mkdir()
    pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'ring/a.png')
    Image.fromarray(pixels).save(tmp_path / 'b.png')
    (tmp_path / 'z.png').write_text('no image')
    output = tmp_path / 'found.json'
    done = run_neighbours(
        whole_run['workdir'], tmp_path, '--limit=70', f'--output={output}'
    )
    assert done.status == 1 and 'z.png: no image' in done.err
    record = {each['image']: each for each in json.loads(output.read_text())}
    assert record[str(tmp_path / 'ring/a.png')]['class'] == 'ring'
    assert record[str(tmp_path / 'b.png')]['class'] is None
    done = run_neighbours(
        whole_run['workdir'], tmp_path / 'b.png', '--limit=70', '--probe=fc7'
    )
    assert 'needs the classes of the queries' in done.error
    done = run_neighbours(
        whole_run['workdir'], '--split=test', '--config.data.test_split=train'
    )
    assert 'would be its own neighbour' in done.error
