"""Nearest neighbours, their precision, and the linear probe."""

import numpy as np
import pytest

from alexnet_jax.analysis import neighbours, probe


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


def test_a_probe_is_logistic_regression_on_all_features():
    """More features than images: by way of the basis it is the same model."""
    sklearn = pytest.importorskip('sklearn.linear_model')
    rng = np.random.default_rng(0)
    train, held_out, test = (clouds(rng, n, 3.0) for n in (60, 90, 300))
    found = probe.fit(train, held_out, test, strengths=[0.01])
    rows = train.features.reshape(60, -1)
    mean, deviation = rows.mean(0), rows.std(0)
    deviation[deviation == 0] = 1
    plain = sklearn.LogisticRegression(C=0.01, max_iter=5000, tol=1e-6)
    plain.fit((rows - mean) / deviation, train.labels)
    predicted = plain.predict((test.features.reshape(300, -1) - mean) / deviation)
    error = np.mean(predicted != test.labels)
    assert 0.02 < error < 0.6
    assert found.error == pytest.approx(error, abs=0.01)


def test_a_probe_takes_the_penalty_that_the_held_out_images_choose():
    pytest.importorskip('sklearn')
    rng = np.random.default_rng(1)
    sets = [clouds(rng, n, 2.0) for n in (90, 300, 300)]
    found = probe.fit(*sets)
    alone = [probe.fit(*sets, strengths=[each]) for each in probe.STRENGTHS]
    assert found.held_out_error == min(each.held_out_error for each in alone)
    assert found in alone
    with pytest.raises(ValueError, match='two classes'):
        probe.fit(probe.Examples(np.zeros((2, 3)), np.zeros(2)), *sets[1:])
