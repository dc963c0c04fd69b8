"""A workdir is whole, and `alexnet_jax.load` sees images with it as a run does."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import alexnet_jax
from alexnet_jax import build, model, train
from alexnet_jax.analysis import prediction
from alexnet_jax.data import augment, images, pipeline, prepare
from alexnet_jax.run import checkpoint, inputs, trained
from tests.conftest import REPOSITORY, load, run


@pytest.fixture(scope='module')
def net(whole_run) -> alexnet_jax.Net:
    return alexnet_jax.load(whole_run['workdir'])


@pytest.fixture(scope='module')
def photographs() -> list[np.ndarray]:
    """Of several sizes, none of them the stored one."""
    rng = np.random.default_rng(0)
    sizes = [(50, 40), (33, 70), (64, 64)]
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def squares_of_test_split(config, count: int) -> np.ndarray:
    dataset = prepare.open_prepared(config.data)
    batches = pipeline.eval_batches(
        dataset, config.data, split=config.data.test_split, batch_size=count
    )
    return next(batches)['image']


# The workdir.


def test_class_names_and_mean_travel_with_the_weights(whole_run, small):
    held = inputs.read(whole_run['workdir'])
    dataset = prepare.open_prepared(small.data)
    assert held.class_names == dataset.class_names and 'ring' in held.class_names
    np.testing.assert_array_equal(held.mean_image, dataset.mean_image)


MOVED = """
import sys
import alexnet_jax
assert 'jax' not in sys.modules
import numpy as np
net = alexnet_jax.load(sys.argv[1])
images = [np.load(sys.argv[2]), np.load(sys.argv[2])[:20]]
np.save(sys.argv[3], net.predict(images, views=10))
print({'tensorflow', 'tensorflow_datasets', 'grain', 'clu'} & sys.modules.keys())
"""


def test_a_moved_workdir_predicts_the_same_without_data_or_tensorflow(
    whole_run, photographs, tmp_path
):
    moved = tmp_path / 'elsewhere [1]'
    shutil.copytree(whole_run['workdir'], moved)
    as_json = json.loads((moved / 'config.json').read_text())
    for key in ('data_dir', 'prepared_dir'):
        as_json['data'][key] = '/no/such/folder'
    (moved / 'config.json').write_text(json.dumps(as_json))
    np.save(tmp_path / 'image.npy', photographs[0])
    found = {}
    for name, workdir in (('here', whole_run['workdir']), ('there', moved)):
        done = run('-c', MOVED, workdir, tmp_path / 'image.npy', tmp_path / name)
        assert done.out.strip() == 'set()'
        found[name] = np.load(tmp_path / f'{name}.npy')
    np.testing.assert_array_equal(found['here'], found['there'])
    assert found['here'].shape == (2, 10)


def test_a_run_begun_without_class_names_gets_them_when_it_is_started_again(
    whole_run, small, tmp_path, monkeypatch
):
    restore = checkpoint.Checkpoints.restore_latest

    def restore_older(self, like):
        state, meta = restore(self, like)
        del meta['evaluated'], meta['rate_cuts'], meta['config']
        return state, meta

    monkeypatch.setattr(checkpoint.Checkpoints, 'restore_latest', restore_older)
    workdir = tmp_path / 'older'
    shutil.copytree(whole_run['workdir'], workdir)
    (workdir / 'dataset.json').unlink()
    (workdir / 'mean_image.npy').unlink()
    with pytest.raises(ValueError, match=r'dataset\.json.*training command again'):
        alexnet_jax.load(workdir)
    small.mesh.data, small.mesh.tower = 1, 2
    train.train_and_evaluate(small, workdir)
    assert (workdir / 'mean_image.npy').read_bytes() == (
        whole_run['workdir'] / 'mean_image.npy'
    ).read_bytes()
    assert alexnet_jax.load(workdir).class_names


def test_a_run_keeps_its_mean_and_refuses_other_classes(tmp_path):
    begun = inputs.Inputs(('a', 'b'), np.ones((4, 4, 3), np.float32))
    inputs.write(tmp_path, begun)
    now = inputs.Inputs(('a', 'b'), np.zeros((4, 4, 3), np.float32))
    np.testing.assert_array_equal(
        inputs.of_run(tmp_path, now).mean_image, begun.mean_image
    )
    with pytest.raises(ValueError, match=r'2 classes.*has 3 \(only one has c\)'):
        inputs.of_run(tmp_path, inputs.Inputs(('a', 'b', 'c'), now.mean_image))
    with pytest.raises(ValueError, match='their order'):
        inputs.of_run(tmp_path, inputs.Inputs(('b', 'a'), now.mean_image))


def test_a_run_says_when_its_data_set_has_changed(tmp_path, capsys):
    mean = np.ones((4, 4, 3), np.float32)
    inputs.write(tmp_path, inputs.Inputs(('a', 'b'), mean, '0' * 64))
    for now, warns in (('0' * 64, False), ('1' * 64, True), ('', False)):
        inputs.of_run(tmp_path, inputs.Inputs(('a', 'b'), mean, now))
        assert ('warning: the data set is not' in capsys.readouterr().err) == warns


@pytest.mark.parametrize('file', ['dataset.json', 'mean_image.npy', 'config.json'])
def test_a_damaged_file_of_the_workdir_is_one_line(whole_run, tmp_path, file):
    for path in whole_run['workdir'].iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=file) as error:
        trained.load(tmp_path)
    assert '\n' not in str(error.value)


# What it sees.


@pytest.mark.parametrize('views', [1, 10])
def test_prediction_is_evaluations_on_the_same_pixels(whole_run, net, views):
    run = trained.load(whole_run['workdir'])
    found = prediction.predict(run, prediction.open_split(run, 'test'), views)
    squares = squares_of_test_split(net.config, 70)  # more than one batch
    np.testing.assert_allclose(
        net.predict(squares, views=views), found.probabilities[:70], rtol=1e-4
    )


def test_images_of_any_size_are_resized_and_cropped_as_in_preparation(net, photographs):
    size = net.config.data.stored_size
    expected = [
        np.asarray(images.resized(Image.fromarray(image), size))
        for image in photographs
    ]
    np.testing.assert_array_equal(net.squares(photographs), expected)
    together = net.predict(photographs)
    assert together.shape == (3, len(net.class_names))
    np.testing.assert_allclose(together.sum(1), 1, rtol=1e-5)
    for image, row in zip(photographs, together, strict=True):
        np.testing.assert_allclose(net.predict(image)[0], row, rtol=1e-4)
    stacked = np.stack([photographs[2], photographs[2][::-1]])
    assert net.predict(stacked).shape == (2, len(net.class_names))


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        (np.zeros((8, 8, 3), np.float32), r'float32\[8, 8, 3\].*uint8'),
        ([np.zeros((8, 8), np.uint8)], r'uint8\[8, 8\]'),
        (np.zeros((8, 8, 4), np.uint8), r'uint8\[8, 8, 4\]'),
        (np.zeros((0, 8, 3), np.uint8), 'empty'),
        ([], 'no images'),
    ],
)
def test_what_is_no_image_is_named(net, given, words):
    with pytest.raises(ValueError, match=words):
        net.predict(given)


def test_taps_are_every_step_of_every_layer(net, photographs):
    made = net.activations(photographs, net.taps)
    data = net.config.data
    start = augment.centre_offset(data.stored_size, data.crop_size)
    stop = start + data.crop_size
    mean = net.mean_image[start:stop, start:stop]
    crops = net.squares(photographs)[:, start:stop, start:stop]
    crops = (crops.astype(np.float32) - mean) * data.scale
    expected = jax.jit(model.merge(net.network, net.params).activations)(crops)
    assert set(expected) == set(net.taps) and tuple(made) == net.taps
    for tap, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(made[tap], value, atol=1e-5 * scale, err_msg=tap)
    last = net.taps[-1]
    np.testing.assert_allclose(
        jax.nn.softmax(made[last]), net.predict(photographs), rtol=1e-4
    )


def test_ten_views_average_the_activations(net, photographs):
    taps = ('conv1/lrn', 'fc7', 'fc8')
    made = net.activations(photographs[:1], taps, views=10)
    data = net.config.data
    crop, (square,) = data.crop_size, net.squares(photographs[:1])
    start = augment.centre_offset(data.stored_size, crop)
    mean = net.mean_image[start : start + crop, start : start + crop]
    views = []
    for row, column, mirrored in augment.ten_views(data.stored_size, crop):
        view = square[row : row + crop, column : column + crop]
        views.append((view[:, ::-1] if mirrored else view) - mean)
    of_views = model.merge(net.network, net.params).activations(
        np.stack(views).astype(np.float32) * data.scale
    )
    for tap in taps:
        expected = np.mean(of_views[tap], axis=0)
        np.testing.assert_allclose(made[tap][0], expected, rtol=1e-3, atol=1e-5)


def test_unknown_taps_and_views_are_named(net, photographs):
    with pytest.raises(ValueError, match=r"'conv1/lnr'; the nearest is 'conv1/lrn'"):
        net.activations(photographs, ['fc7', 'conv1/lnr'])
    with pytest.raises(ValueError, match='views=5: expected 1 or 10'):
        net.predict(photographs, views=5)


# Networks without a run.


def test_a_shipped_network_begins_as_its_run_does(photographs):
    net = alexnet_jax.network('demo', seed=3)
    config = load('demo')
    config.seed = 3
    first = build.training(config, num_classes=10, num_examples=100).first_state()
    jax.tree.map(np.testing.assert_array_equal, net.params, first.params)
    assert net.predict(photographs).shape == (3, 10)
    other = alexnet_jax.network('demo').params
    assert not np.array_equal(other['fc8']['kernel'], net.params['fc8']['kernel'])


def test_networks_go_by_the_names_of_their_configs():
    net = alexnet_jax.network('cuda_convnet:18pct')
    assert 'conv1/spatial_norm' in net.taps
    with pytest.raises(ValueError, match='cifar10'):
        alexnet_jax.network('cifar')


def test_the_face_of_the_package_is_what_it_names():
    assert {'load', 'network', 'Net', 'AlexNet'} <= set(dir(alexnet_jax))
    assert alexnet_jax.AlexNet is model.AlexNet
    with pytest.raises(AttributeError, match='lod'):
        _ = alexnet_jax.lod
    assert Path(sys.modules['alexnet_jax'].__file__ or '').name == '__init__.py'


def test_the_python_of_the_documents_runs(whole_run, photographs, tmp_path, capsys):
    text = (REPOSITORY / 'docs' / 'python.md').read_text()
    names: dict[str, Any] = {}
    for code in re.findall(r'```python\n(.*?)```', text, re.DOTALL):
        exec(code.replace('runs/demo', str(whole_run['workdir'])), names)
    assert "'conv1/lrn': (1, 28, 28, 24)" in capsys.readouterr().out
    Image.fromarray(photographs[0]).save(tmp_path / 'a.png')
    (tmp_path / 'b.png').write_bytes(b'junk')
    ((path, row),) = names['fc7_of'](tmp_path)
    assert path == tmp_path / 'a.png'
    expected = names['net'].activations(photographs[0], 'fc7', views=1)
    np.testing.assert_allclose(row, expected['fc7'][0], rtol=1e-4, atol=1e-6)
