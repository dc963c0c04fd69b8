"""One view and ten, ensembles and their weights, layers taken from another run."""

import json
import shutil

import jax
import numpy as np
import pytest

from alexnet_jax import mesh, model, optimizer, train, train_state
from alexnet_jax.analysis import ensembles, prediction
from alexnet_jax.configs import paper, six_conv
from alexnet_jax.data import augment, pipeline, prepare
from alexnet_jax.run import data_changes, trained
from tests.conftest import network_of, run_here


def make(probabilities, labels=(0, 1, 2, 0)) -> prediction.Predictions:
    return prediction.Predictions(
        np.log(np.asarray(probabilities, np.float32)), np.asarray(labels, np.int32)
    )


def test_errors_are_those_of_the_averaged_probabilities_with_ties_in_part():
    found = prediction.errors(
        np.log(np.array([[0.7, 0.2, 0.1], [0.4, 0.4, 0.2]], np.float32)),
        np.array([0, 1]),
    )
    assert found['examples'] == 2
    assert found['top1_error'] == pytest.approx(0.25)  # the second is half a hit
    assert found['top5_error'] == 0.0
    assert found['loss'] == pytest.approx(-(np.log(0.7) + np.log(0.4)) / 2)


def test_search_drops_a_member_that_only_harms():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 10
    good = 0.05 + 0.5 * np.eye(10)[labels] * (rng.random((200, 1)) < 0.9)
    bad = 0.05 + 0.9 * np.eye(10)[(labels + 1) % 10]
    members = [make(p / p.sum(1, keepdims=True), labels) for p in (good, bad)]
    weights = ensembles.search_weights(members)
    equal = prediction.errors(ensembles.logarithms(members, [1.0, 1.0]), labels)
    found = prediction.errors(ensembles.logarithms(members, weights), labels)
    assert weights[1] < weights[0]
    assert (found['top5_error'], found['loss']) < (equal['top5_error'], equal['loss'])
    assert all(round(w / 0.05, 6) == round(w / 0.05) for w in weights)


def test_one_view_is_what_the_run_itself_reported(whole_run):
    for split, name, count in (('test', 'test', 130), ('validation', 'val', 200)):
        (row,) = ensembles.evaluate(
            [whole_run['workdir']], views=1, split=split, which='latest'
        ).rows
        assert row['examples'] == count
        for error in ('loss', 'top1_error', 'top5_error'):  # to the last bit
            assert row[error] == whole_run['results'][f'{name}/{error}']


def test_ten_views_are_the_mean_over_corners_centre_and_mirrors(whole_run):
    network = trained.load(whole_run['workdir'])
    split = prediction.open_split(network, 'test')
    predictions = prediction.predict(network, split, 10)
    data = network.config.data
    dataset = prepare.open_prepared(data)
    (first, *_) = pipeline.eval_batches(
        dataset, data, split=data.test_split, batch_size=4
    )
    logits = jax.jit(model.merge(network.network, network.params).__call__)
    mean = dataset.mean_image[2:30, 2:30]
    views = []
    for row, column in ((0, 0), (0, 4), (2, 2), (4, 0), (4, 4)):
        crop = first['image'][:, row : row + 28, column : column + 28]
        for image in (crop, crop[:, :, ::-1]):
            image = (image.astype(np.float32) - mean) / 64
            views.append(jax.nn.softmax(logits(image)))
    np.testing.assert_allclose(
        predictions.probabilities[:4], np.mean(views, axis=0), rtol=1e-4
    )
    assert len(predictions.labels) == 130


def test_the_command_prints_a_table_and_writes_json(whole_run, tmp_path):
    out = tmp_path / 'out.json'
    done = run_here(
        'alexnet_jax.evaluate', *(f'--workdir={whole_run["workdir"]}',) * 2,
        '--views=10', '--split=test', f'--out={out}',
    )  # fmt: skip
    assert done.status == 0, done
    assert 'ensemble, equal weights' in done.out
    record = json.loads(out.read_text())
    single, _, equal, searched = record['rows']
    assert record['views'] == 10 and single['examples'] == 130
    # A net twice is that net.
    for row in (equal, searched):
        assert row['top1_error'] == pytest.approx(single['top1_error'])
        assert row['loss'] == pytest.approx(single['loss'], rel=1e-5)


def test_other_images_get_a_result_of_their_own():
    data = paper.get_config().data
    data.source, data.data_dir, data.test_split = 'folder', '/own', 'test'
    own = {'prepared_dir': '/p', 'data_dir': '/own/', 'test_split': 'test'}
    assert data_changes.name({}, data) == data_changes.name(own, data) == ''
    holdout = {'test_split': 'holdout'}
    again = holdout | {'data_dir': '/own/'}
    assert data_changes.name(again, data) == data_changes.name(holdout, data)
    given = (
        {'data_dir': '/a'},
        {'data_dir': '/b'},
        {'test_split': 'holdout'},
        {'source': 'imagenet_v2/matched-frequency'},
    )
    names = {data_changes.name(changes, data) for changes in given}
    assert len(names) == 4 and not any('/' in name for name in names)
    assert data_changes.name({'data_dir': '/a/'}, data) in names


def test_a_tfds_set_may_move_and_a_folder_is_its_images():
    data = paper.get_config().data
    moved = {'data_dir': '/a', 'download': True, 'test_split': 'x'}
    of_set = {'data_dir': '/a', 'download': True}
    assert data_changes.of_place(moved, data) == of_set
    assert data_changes.name(of_set, data) == ''
    assert not data_changes.of_place(moved | {'source': 'folder'}, data)
    data.source = 'folder'
    assert data_changes.of_place(moved, data) == {'download': True}


def test_an_ensemble_on_a_set_that_moved_searches_its_weights_there(
    whole_run, small, tmp_path, monkeypatch
):
    changes = {'data_dir': str(tmp_path), 'prepared_dir': small.data.prepared_dir}
    shutil.copytree(small.data.data_dir, tmp_path, dirs_exist_ok=True)
    opened, plain = set(), prediction.open_split

    def open_split(network, split, changes=None):
        found = plain(network, split, changes)
        opened.add((split, found.data.data_dir))
        return found

    monkeypatch.setattr(prediction, 'open_split', open_split)
    workdirs = [whole_run['workdir']] * 2
    for split, name in (
        ('test', 'ensemble, searched'),
        ('validation', 'ensemble, searched on this split'),
    ):
        found = ensembles.evaluate(
            workdirs, views=1, split=split, which='best', changes=changes
        )
        assert found.rows[-1]['network'] == name
    assert opened == {('test', str(tmp_path)), ('validation', str(tmp_path))}


def test_without_validation_images_weights_are_not_searched(
    whole_run, monkeypatch, capsys
):
    plain = prediction.open_split

    def open_split(network, split, changes=None):
        if split == 'validation':
            raise ValueError('no such folder')
        return plain(network, split, changes)

    monkeypatch.setattr(prediction, 'open_split', open_split)
    workdirs = [whole_run['workdir']] * 2
    found = ensembles.evaluate(workdirs, views=1, split='test', which='best')
    names = [row['network'] for row in found.rows[2:]]
    assert names == ['ensemble, equal weights']
    assert 'warning: no weights are searched' in capsys.readouterr().err


def test_paths_may_begin_with_the_home(whole_run, tmp_path, monkeypatch):
    (tmp_path / 'run').symlink_to(whole_run['workdir'])
    monkeypatch.setenv('HOME', str(tmp_path))
    for command, flag, name in (
        ('evaluate', 'out', 'errors.json'),
        ('evaluate', 'predictions', 'all.csv'),
        ('figures', 'output', 'curves.png'),
    ):
        done = run_here(
            f'alexnet_jax.{command}', '--workdir=~/run', f'--{flag}=~/{name}'
        )
        assert done.status == 0 and (tmp_path / name).is_file(), done


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ((), ['--workdir']),
        (('--workdir=nowhere',), ['nowhere', 'holds no run']),
        (('--workdir=nowhere', '--views=5'), ['--views=5', '1 or 10']),
        (('--workdir=nowhere', '--split=tset'), ['split', 'validation']),
    ],
)
def test_a_users_mistake_is_one_line(arguments, words):
    line = run_here('alexnet_jax.evaluate', *arguments).error
    assert all(word in line for word in words)


def test_a_place_that_cannot_be_written_is_refused_before_the_work(whole_run):
    workdir = f'--workdir={whole_run["workdir"]}'
    line = run_here('alexnet_jax.evaluate', workdir, '--out=no/where.json').error
    assert '--out=no/where.json' in line and 'is not there' in line
    words = (workdir, '--split=test', '--output=no/where.json')
    line = run_here('alexnet_jax.neighbours', *words).error
    assert '--output=no/where.json' in line and 'is not there' in line


def test_fine_tuning_copies_what_is_named_and_trains_the_rest(
    whole_run, small, tmp_path, capsys
):
    source = trained.load(whole_run['workdir'])
    small.seed = 1  # or the new layers would start as the source's did
    small.init.workdir = str(whole_run['workdir'])
    small.init.copy = ('conv1', 'conv2')
    small.optimizer.layer_rates = (('conv1', 0.0, 0.0), ('fc8', 0.0, 10.0))
    small.train.steps = 3
    small.mesh.data, small.mesh.tower = 1, 2
    train.train_and_evaluate(small, tmp_path)
    tuned = trained.load(tmp_path, which='latest')
    same = {
        name: np.array_equal(source.params[name]['kernel'], weights['kernel'])
        for name, weights in tuned.params.items()
    }
    assert same.pop('conv1') and not any(same.values())
    # conv2 went on from the copy, conv3 began anew.
    moved = {
        name: float(np.abs(np.subtract(source.params[name]['kernel'],
                                       tuned.params[name]['kernel'])).max())
        for name in ('conv2', 'conv3')
    }  # fmt: skip
    assert moved['conv2'] < 0.01 < moved['conv3']
    out = capsys.readouterr().out.splitlines()
    lines = {line.split()[0]: line.split() for line in out if '/kernel' in line}
    assert lines['conv1/kernel'][-2:] == ['0', '0.0005']
    assert lines['fc8/kernel'][-2:] == ['0.01', '0.0005']
    assert f'{", ".join(small.init.copy)}: from {small.init.workdir}' in out


def test_what_does_not_fit_is_named(whole_run, small, tmp_path):
    small.init.workdir = str(whole_run['workdir'])
    small.init.copy = ('conv1', 'conv2')
    small.model.conv2.features = 64
    with pytest.raises(ValueError, match=r'conv2/bias has shape \(24,\).*\(16,\) here'):
        train.train_and_evaluate(small, tmp_path)
    small.init.workdir = str(tmp_path / 'none')
    with pytest.raises(ValueError, match='holds no run'):
        train.train_and_evaluate(small, tmp_path)


def test_six_conv_starts_from_a_net_with_five(whole_run, small, tmp_path):
    """The released pre-training at the size of the tests' net."""
    extra = six_conv.get_config().model.conv6
    with small.unlocked():
        small.model.conv6 = extra
        small.model.conv6.features = 48
    small.model.layers = (*small.model.layers[:5], 'conv6', *small.model.layers[5:])
    small.init.workdir = str(whole_run['workdir'])
    small.init.copy = six_conv.get_config().init.copy
    network = network_of(small)
    two = mesh.make_mesh(data=1, tower=2, towers=2, batch_size=32)
    tx = optimizer.create_optimizer(small.optimizer, steps_per_epoch=1)
    state = train_state.create_train_state(network, tx, two, small.seed)
    copied = trained.copy_layers(state.params, small.init, network, two)
    theirs = trained.load(whole_run['workdir']).params
    for name in network.layers:
        expected = theirs if name.name in small.init.copy else state.params
        np.testing.assert_array_equal(
            copied[name.name]['kernel'], expected[name.name]['kernel']
        )
    assert copied['conv5']['kernel'].sharding.shard_shape((3, 3, 16, 24)) == (
        3, 3, 16, 12,
    )  # fmt: skip


def test_views_of_a_small_image_lie_inside_it():
    for row, column, _ in augment.ten_views(32, 24):
        assert 0 <= row <= 8 and 0 <= column <= 8
