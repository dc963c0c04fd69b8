"""An imported network is a workdir like any other, and sees images as it should."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from alexnet_jax import mesh as mesh_lib
from alexnet_jax import model, train
from alexnet_jax import step as step_lib
from alexnet_jax.analysis import export
from alexnet_jax.data import augment
from alexnet_jax.formats import networks, registry, safetensors
from alexnet_jax.run import (
    checkpoint_folder,
    config_file,
    inputs,
    trained,
    transfer,
)
from alexnet_jax.system import locks
from tests.conftest import as_flags, run_here
from tests.formats import bit_equal, make_weights

# torchvision.transforms.Normalize's, as its models' page has them.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope='module')
def caffe_files(tmp_path_factory):
    weights = make_weights('caffe', width=1 / 16, fc=16)
    path = tmp_path_factory.mktemp('caffe') / 'net.caffemodel'
    registry.write(weights, path)
    return weights, path


def test_a_caffe_net_becomes_a_workdir_and_comes_out_to_the_bit(caffe_files, tmp_path):
    weights, path = caffe_files
    classes, workdir = tmp_path / 'classes.txt', tmp_path / 'imported'
    classes.write_text('\n'.join(weights.class_names))
    ended = run_here(
        'alexnet_jax.weights', 'import', path, f'--workdir={workdir}',
        f'--mean={path.with_suffix(".binaryproto")}', f'--classes={classes}',
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert weights.digest in ended.out
    again = transfer.weights_of(workdir)
    assert bit_equal(again, weights)
    assert again.class_names == weights.class_names
    assert again.preprocessing.mean == 'crop' and again.preprocessing.fit == 'warp'
    assert dataclasses.asdict(again.network) == dataclasses.asdict(weights.network)
    for suffix in ('caffemodel', 'safetensors'):
        out = tmp_path / f'again.{suffix}'
        run_here('alexnet_jax.weights', 'export', workdir, f'--out={out}')
        options = {'mean': str(out.with_suffix('.binaryproto'))}
        back = registry.read(out, **(options if suffix == 'caffemodel' else {}))
        assert bit_equal(back, weights)
    assert weights.digest in run_here('alexnet_jax.weights', 'inspect', workdir).out
    # The warp, the mean under the crop and the classes are those of the file.
    # Smooth, because a photograph is stored as a JPEG.
    ramp = np.arange(256, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp, ramp[:, None], ramp[::-1]), -1)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    ended = run_here(
        'alexnet_jax.predict', f'--workdir={workdir}', '--format=jsonl', '--top=1',
        tmp_path / 'a.png',
    )  # fmt: skip
    (line,) = ended.out.splitlines()
    seen = weights.preprocessing
    crop = (pixels.astype(np.float32) - seen.mean_image)[14:241, 14:241]
    log_probabilities = by_hand(weights, crop[None])[0]
    (best,) = json.loads(line)['top']
    assert best['class'] == weights.class_names[log_probabilities.argmax()]
    assert best['probability'] == pytest.approx(np.exp(log_probabilities.max()), 0.1)
    classes.write_bytes(b'\xe9clair\n')
    latin = ('alexnet_jax.weights', 'inspect', path, f'--classes={classes}')
    assert 'classes.txt is not UTF-8' in run_here(*latin).error
    classes.write_text('\n'.join(weights.class_names))
    of_run = ('alexnet_jax.weights', 'inspect', workdir)
    for flag in ('--mean=a.binaryproto', '--network=caffenet', '--from=caffe'):
        line = run_here(*of_run, flag).error
        assert flag.split('=')[0] in line and 'is of a run' in line
    # A second import into the same folder would hide the first.
    into = ('alexnet_jax.weights', 'import', path, f'--classes={classes}')
    assert 'is there already' in run_here(*into, f'--workdir={workdir}').error
    busy = tmp_path / 'busy'
    busy.mkdir()
    with locks.held(busy / 'owner.json'):
        assert 'is in use' in run_here(*into, f'--workdir={busy}').error
        command = ('alexnet_jax.export_workdir', f'--workdir={workdir}')
        assert 'is in use' in run_here(*command, f'--output={busy}').error
    assert not any(busy.iterdir())
    # Nothing was measured with such weights; what prediction needs comes out as well.
    for which in ('best', 'latest'):
        command = ('alexnet_jax.export_workdir', f'--checkpoint={which}')
        out = tmp_path / which
        done = run_here(*command, f'--workdir={workdir}', f'--output={out}')
        assert done.status == 0, done
        assert bit_equal(transfer.weights_of(out), weights)
        assert not (out / 'owner.json').exists()


def test_what_cannot_be_made_leaves_nothing(tmp_path, monkeypatch):
    weights = make_weights('demo', width=0.125)
    transfer.make_workdir(weights, tmp_path / 'run')

    def full(*arguments, **options):
        raise ValueError('no space')

    monkeypatch.setattr(inputs, 'write', full)  # after the checkpoints
    (tmp_path / 'empty').mkdir()
    for name in ('new', 'empty'):
        with pytest.raises(ValueError, match='no space'):
            transfer.make_workdir(weights, tmp_path / name)
        with pytest.raises(ValueError, match='no space'):
            export.export(tmp_path / 'run', tmp_path / name)
    assert not (tmp_path / 'new').exists() and not any((tmp_path / 'empty').iterdir())


def test_imagenets_classes_have_their_synsets_and_others_must_be_named(tmp_path):
    synsets = transfer.imagenet_synsets()
    assert len(set(synsets)) == 1000 and synsets[0] == 'n01440764'
    nameless = dataclasses.replace(make_weights('demo', width=0.125), class_names=())
    with pytest.raises(ValueError, match='--classes=FILE'):
        transfer.make_workdir(nameless, tmp_path / 'a')
    assert not (tmp_path / 'a').exists()


@pytest.mark.parametrize(
    ('name', 'errors'),
    [('caffe', '42.9 %'), ('caffenet', '42.6 %'), ('one_tower:torchvision', '43.478')],
)
def test_published_errors_stand_beside_the_command_that_confirms_them(
    name, errors, tmp_path
):
    # Of the shipped table itself, which only a network in full width has.
    config = networks.config(name)
    network = model.network_from_config(config.model, config.data.crop_size, 1000)
    params = {
        shape.name: {
            'kernel': np.zeros(shape.kernel, np.float32),
            'bias': np.zeros(shape.bias, np.float32),
        }
        for shape in model.layer_shapes(network)
    }
    narrow = make_weights(name, width=1 / 16, fc=8)
    weights = dataclasses.replace(
        narrow, table=networks.table_of(config), params=params, class_names=()
    )
    text = transfer.expected(weights, tmp_path)
    assert errors in text and f'alexnet_jax.evaluate --workdir={tmp_path}' in text
    assert 'published' in transfer.expected(narrow, tmp_path)
    assert errors not in transfer.expected(narrow, tmp_path)


def test_training_goes_on_from_imported_weights(prepared_dir, tmp_path):
    config = networks.config('demo')
    config.data.data_dir = config.data.prepared_dir = str(prepared_dir)
    names = train.prepare.open_prepared(config.data).class_names
    weights = make_weights(
        'demo', width=networks.config('demo').model.width, classes=len(names)
    )
    weights = dataclasses.replace(weights, class_names=names, metrics={})
    workdir = tmp_path / 'imported'
    config = transfer.make_workdir(weights, workdir)
    config.data.data_dir = config.data.prepared_dir = str(prepared_dir)
    train.train_and_evaluate(config, workdir, stop_at_step=1)
    after = trained.load(workdir, which='latest')
    assert after.step == 1
    np.testing.assert_array_equal(after.mean_image, weights.preprocessing.mean_image)
    moved = np.abs(np.asarray(after.params['conv1']['kernel'])
                   - weights.params['conv1']['kernel']).max()  # fmt: skip
    assert 0 < moved < 0.05 * np.abs(weights.params['conv1']['kernel']).max()


@pytest.fixture(scope='module')
def travelled(whole_run, tmp_path_factory):
    """The small run, through a file of safetensors into another workdir."""
    folder = tmp_path_factory.mktemp('travelled')
    file, workdir = folder / 'a.safetensors', folder / 'imported'
    for words in (('export', whole_run['workdir'], f'--out={file}'),
                  ('import', file, f'--workdir={workdir}')):  # fmt: skip
        done = run_here('alexnet_jax.weights', *words)
        assert done.status == 0, done
    return file, workdir


def test_a_run_predicts_and_is_evaluated_elsewhere_as_at_home(
    whole_run, travelled, small_values, tmp_path
):
    _, imported = travelled
    ramp = np.arange(32, dtype=np.uint8) * 8
    pixels = np.stack(np.broadcast_arrays(ramp, ramp[:, None], ramp[::-1]), -1)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    where = {key: small_values[key] for key in ('data.data_dir', 'data.prepared_dir')}
    out = [tmp_path / 'a.json', tmp_path / 'b.json']
    guesses, rows = [], []
    for workdir, file in zip((whole_run['workdir'], imported), out, strict=True):
        words = (f'--workdir={workdir}', '--format=jsonl', tmp_path / 'a.png')
        guesses.append(run_here('alexnet_jax.predict', *words).out)
        done = run_here(
            'alexnet_jax.evaluate', f'--workdir={workdir}', '--split=test',
            f'--out={file}', *as_flags(where),
        )  # fmt: skip
        assert done.status == 0, done
        rows.append(json.loads(file.read_text())['rows'][0] | {'network': ''})
    assert guesses[0] and guesses[0] == guesses[1]
    # On the run's two devices, and on all four here: the loss rounds otherwise.
    losses = [row.pop('loss') for row in rows]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert rows[0] == rows[1] and rows[0]['examples'] == 130


def test_every_step_that_a_run_kept_is_inspected_and_exported(whole_run, tmp_path):
    workdir, digests = whole_run['workdir'], {}
    for kind in ('checkpoints', 'best'):
        for step in checkpoint_folder.saved_steps(workdir, kind):
            folder = workdir / kind / str(step)
            out = run_here('alexnet_jax.weights', 'inspect', folder).out
            assert f'{workdir.name}/{kind}/{step}' in out
            digests[kind, step] = out.rpartition('digest: ')[2].split()[0]
    for which, kind in (('latest', 'checkpoints'), ('best', 'best')):
        newest = max(step for of, step in digests if of == kind)
        weights = transfer.weights_of(workdir, which=which)
        assert digests[kind, newest] == weights.digest
    assert len({d for (kind, _), d in digests.items() if kind == 'checkpoints'}) > 1
    oldest = min(step for kind, step in digests if kind == 'checkpoints')
    file = tmp_path / 'a.safetensors'
    folder = workdir / 'checkpoints' / str(oldest)
    assert run_here('alexnet_jax.weights', 'export', folder, f'--out={file}').out
    assert registry.read(file).digest == digests['checkpoints', oldest]
    with pytest.raises(ValueError, match='has no step 99999; there are'):
        transfer.weights_of(workdir, which='checkpoints/99999')


def test_a_run_goes_on_elsewhere_with_its_own_config(travelled, small, tmp_path):
    small.mesh.data, small.mesh.tower = 1, 2
    workdir = shutil.copytree(travelled[1], tmp_path / 'a')
    train.train_and_evaluate(small, workdir, stop_at_step=1)
    assert trained.load(workdir, which='latest').step == 1
    small.optimizer.momentum = 0.8
    with pytest.raises(ValueError, match=r'optimizer\.momentum=0\.9, and you asked'):
        train.train_and_evaluate(small, workdir)


@pytest.mark.parametrize('format', ['safetensors', 'pytorch', 'huggingface', 'onnx'])
def test_a_config_travels_without_what_is_of_its_machine(
    format, whole_run, travelled, tmp_path
):
    if format == 'onnx':
        pytest.importorskip('onnx')
    weights = registry.read(travelled[0])
    told = weights.run_config | {'data.encoding': 'jpeg', 'data.jpeg_quality': 31}
    weights = dataclasses.replace(weights, run_config=told)
    registry.write(weights, tmp_path / 'a', format)
    found = transfer.config_of(registry.read(tmp_path / 'a', format))
    config = config_file.read(whole_run['workdir'])
    config.data.encoding, config.data.jpeg_quality = 'jpeg', 31
    config.data.data_dir = config.data.prepared_dir = ''
    config.mesh.data = config.mesh.tower = 0
    assert found.to_dict() == config.to_dict()


def test_a_file_that_says_nothing_of_its_run_gets_the_networks_config(tmp_path):
    """As files of safetensors were before."""
    path = tmp_path / 'a.safetensors'
    registry.write(make_weights('clothing', width=1 / 16), path)
    arrays, metadata = safetensors.read_arrays(path)
    del metadata['run_config']
    safetensors.write_arrays(arrays, metadata, path)
    config = transfer.config_of(registry.read(path))
    assert config.model.width == 1 / 16 and config.data.source == 'folder'


def logits_of(weights, squares: np.ndarray, view) -> np.ndarray:
    """Log-probabilities of one view by the compiled step, with a workdir's config."""
    config = transfer.config_of(weights)
    mesh = mesh_lib.make_mesh(data=1, tower=1, towers=weights.network.towers,
                              batch_size=len(squares))  # fmt: skip
    predict = step_lib.make_predict_step(
        weights.network, mesh, [view], config.data.scale
    )
    mean = augment.mean_to_subtract(weights.preprocessing.mean_image, config.data)
    params = mesh_lib.put_params(
        {k: dict(v) for k, v in weights.params.items()}, weights.network, mesh
    )
    return np.asarray(predict(params, squares, mesh_lib.put_everywhere(mean, mesh)))


def by_hand(weights, crops: np.ndarray) -> np.ndarray:
    return np.asarray(
        jax.nn.log_softmax(model.merge(weights.network, weights.params)(crops))
    )


SQUARES = np.random.default_rng(2).integers(0, 256, (2, 256, 256, 3), np.uint8)


def test_caffes_mean_lies_under_the_crop(caffe_files):
    weights, path = caffe_files
    weights = registry.read(path, mean=str(path.with_suffix('.binaryproto')))
    mean = weights.preprocessing.mean_image
    found = logits_of(weights, SQUARES, (3, 20, True))
    part = np.s_[3:230, 20:247]
    crops = SQUARES[:, *part].astype(np.float32) - mean[part]
    np.testing.assert_allclose(
        found, by_hand(weights, crops[:, :, ::-1]), rtol=1e-5, atol=1e-5
    )


def test_torchvisions_mean_and_deviation_are_of_each_channel():
    weights = make_weights('one_tower:torchvision', width=1 / 16, fc=16)
    colour = 255 * np.array(MEAN, np.float32)
    weights = dataclasses.replace(
        weights, preprocessing=networks.preprocessing('one_tower:torchvision', colour)
    )
    assert weights.preprocessing.mean == 'colour'
    found = logits_of(weights, SQUARES, (16, 16, False))
    crops = SQUARES[:, 16:240, 16:240].astype(np.float32) / 255
    crops = (crops - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    np.testing.assert_allclose(found, by_hand(weights, crops), rtol=1e-5, atol=1e-5)
    assert np.abs(found - found.mean()).max() > 1e-3
