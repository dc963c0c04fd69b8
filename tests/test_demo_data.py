"""The rendered demo set: deterministic, balanced, varied and not linearly solvable."""

import numpy as np
import pytest

from alexnet_jax.configs import paper
from alexnet_jax.data import pipeline, prepare
from alexnet_jax.data.rendered_shapes import rendered_shapes_dataset_builder as shapes


@pytest.fixture(scope='module')
def splits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {split: shapes.render_split(split) for split in ('train', 'test')}


def test_linear_classifier_on_pixels_stays_under_45_percent(splits):
    """Ridge regression on one-hot targets, best of its penalties on the test split."""
    (x, y), (test_x, test_y) = (
        (images.reshape(len(images), -1).astype(np.float32) / 255, labels)
        for images, labels in splits.values()
    )
    mean = x.mean(0)
    x, test_x = x - mean, test_x - mean
    gram, targets = x.T @ x, x.T @ (np.eye(10, dtype=np.float32)[y] - 0.1)
    accuracy = [
        ((test_x @ np.linalg.solve(gram + p * np.eye(len(gram)), targets)).argmax(1))
        == test_y
        for p in (300.0, 3000.0)
    ]
    best = np.max(np.mean(accuracy, axis=1))
    # Far above chance, too: where the shape lies is no secret.
    assert 0.15 < best < 0.45


def test_classes_are_balanced_and_shuffled(splits):
    _, labels = splits['train']
    assert np.bincount(labels).tolist() == [800] * 10
    assert len(set(labels[:50])) > 5


def test_splits_share_no_image_and_rendering_is_deterministic(splits):
    (train, _), (test, _) = splits['train'], splits['test']
    assert len({image.tobytes() for image in [*train, *test]}) == 9000
    again, _ = shapes.render_split('test')
    np.testing.assert_array_equal(again, test)


@pytest.mark.parametrize('name', shapes.CLASS_NAMES)
def test_shape_has_an_inside_and_stays_within_its_radius(name):
    axis = np.linspace(-1.5, 1.5, 301)
    u, v = np.meshgrid(axis, axis)
    inside = shapes.signed_distance(name, u, v) < 0
    area = inside.mean() * 9
    assert 0.8 < area < 2.7  # of π for the whole disk
    assert np.hypot(u, v)[inside].max() < 1.2


def test_unknown_shape_is_refused():
    with pytest.raises(ValueError, match='unknown shape'):
        shapes.signed_distance('hexagon', np.zeros(1), np.zeros(1))


def test_main_job_makes_the_set_on_first_use(tmp_path, splits, capsys):
    data = paper.get_config().data
    data.update(source='rendered_shapes', data_dir=str(tmp_path), encoding='raw')
    data.update(stored_size=32, prepared_dir=str(tmp_path / 'prepared'))
    data.update(train_split='test', validation_split='test')
    dataset = prepare.open_prepared(data)
    assert capsys.readouterr().out == 'rendering the demo images\n'
    assert dataset.class_names == shapes.CLASS_NAMES
    rendered, labels = splits['test']
    (batch,) = pipeline.eval_batches(dataset, data, split='test', batch_size=1000)
    assert np.bincount(batch['label']).tolist() == np.bincount(labels).tolist()
    assert {i.tobytes() for i in batch['image']} == {i.tobytes() for i in rendered}
