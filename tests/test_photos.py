"""The config of one's own photographs: what it chooses by their number, or of a run."""

import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

import alexnet_jax
from alexnet_jax import config as config_lib
from alexnet_jax.configs import photos
from alexnet_jax.run import config_file
from alexnet_jax.system import config_arguments
from tests.conftest import run_here


def make_folder(root: Path, count: int, splits=('train',)) -> Path:
    """`count` photographs in two classes, all the same file; nothing decodes them."""
    for split in splits:
        for label in ('cat', 'dog'):
            (root / split / label).mkdir(parents=True)
            for i in range(count // 2):
                (root / split / label / f'{i}.jpg').write_bytes(b'x')
    return root


def complete(folder: Path, **given: object) -> tuple[ConfigDict, str]:
    config = photos.get_config()
    config.data.data_dir = str(folder)
    config.update_from_flattened_dict(given)
    said = photos.complete(config, given)
    config_lib.validate(config)
    return config, said


def chosen(config: ConfigDict) -> tuple[float, ...]:
    train = config.train
    return (
        train.batch_size, train.epochs, config.model.width,
        config.optimizer.learning_rate,
    )  # fmt: skip


@pytest.mark.parametrize(
    ('count', 'learned_from', 'row'), [(150, 120, 0), (624, 499, 0), (626, 501, 1)]
)
def test_batch_epochs_width_and_rate_follow_the_number_that_is_learned_from(
    count, learned_from, row, tmp_path
):
    config, said = complete(make_folder(tmp_path, count))
    assert chosen(config) == photos.FROM_SCRATCH[row][1:]
    assert said.startswith(f'{learned_from} photographs to learn from: ')
    assert 'from scratch' in said and '--config.init.workdir=RUN' in said
    assert config.data.train_split == 'train[:80%]'
    assert config.data.validation_split == 'train[80%:]'


def test_splits_that_are_there_are_used(tmp_path):
    config, said = complete(make_folder(tmp_path, 10, ('train', 'validation', 'test')))
    assert said.startswith('10 photographs')
    data = config.data
    names = data.train_split, data.validation_split, data.test_split
    assert names == ('train', 'validation', 'test')


def test_classes_without_splits_are_divided(tmp_path):
    config, said = complete(make_folder(tmp_path, 40, ('',)))
    data = config.data
    assert data.train_split == 'train' and data.validation_split == 'validation'
    assert 20 <= int(said.split()[0]) < 40


def test_what_is_given_stands_and_the_start_follows_the_width(tmp_path):
    folder = make_folder(tmp_path, 20)
    plain, _ = complete(folder)
    given = {'train.batch_size': 7, 'model.width': 0.5, 'model.conv4.init_std': 0.3}
    config, said = complete(folder, **given)
    assert config.train.batch_size == 7 and 'batches of 7' in said
    assert config.train.epochs == plain.train.epochs
    # conv3 reads four times as many maps: half the deviation.
    halved = 0.5 * plain.model.conv3.init_std
    assert config.model.conv3.init_std == pytest.approx(halved)
    assert config.model.conv4.init_std == 0.3


def test_a_wrong_folder_or_source_is_one_line(tmp_path):
    with pytest.raises(ValueError, match='no folder of images'):
        complete(tmp_path / 'nowhere')
    with pytest.raises(ValueError, match="no folder 'train'"):
        complete(make_folder(tmp_path, 4, ('validation', 'test')))
    with pytest.raises(ValueError, match=r"data\.source='cifar10'"):
        complete(tmp_path, **{'data.source': 'cifar10'})


def test_a_run_of_torchvisions_net_gives_its_scale_and_lacks_a_norm(tmp_path):
    other = config_arguments.load(config_arguments.to_file('one_tower:torchvision'))
    (tmp_path / 'run').mkdir()
    content = json.dumps(config_file.to_json(other))
    (tmp_path / 'run' / 'config.json').write_text(content)
    folder = make_folder(tmp_path / 'photos', 12)
    given = {'init.workdir': str(tmp_path / 'run')}
    config, _ = complete(folder, **given)
    assert config.data.scale == other.data.scale and len(config.data.scale) == 3
    with pytest.raises(ValueError, match=r'config\.model\.lrn\.k: the network of'):
        complete(folder, **given, **{'model.lrn.k': 1.0})
    with pytest.raises(ValueError, match=r'config\.data\.scale=1\.0: .* leave it out'):
        complete(folder, **given, **{'data.scale': 1.0})


def test_the_command_goes_on_from_the_layers_of_another_run_and_says_so(
    whole_run, tmp_path
):
    """The layers wait while the last learns alone."""
    rng = np.random.default_rng(0)
    for label in ('cat', 'dog', 'eel'):
        (tmp_path / 'mine/train' / label).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f'mine/train/{label}/{i}.png')
    workdir = tmp_path / 'run'
    done = run_here(
        'alexnet_jax.main', '--config=photos', f'--workdir={workdir}',
        f'--config.data.data_dir={tmp_path / "mine"}',
        f'--config.data.prepared_dir={tmp_path / "prepared"}',
        f'--config.init.workdir={whole_run["workdir"]}', '--stop_at_step=2',
    )  # fmt: skip
    assert done.status == 0, done
    assert done.out.startswith('photos: 48 photographs to learn from: batches of 16, ')
    assert 'from the layers conv1 to fc7 of ' in done.out.splitlines()[0]
    config = json.loads((workdir / 'config.json').read_text())
    of_run = json.loads((whole_run['workdir'] / 'config.json').read_text())
    assert config['model'] == of_run['model'] | {'num_classes': 0}
    assert config['data']['crop_size'] == of_run['data']['crop_size'] == 28
    mine = alexnet_jax.load(workdir, checkpoint='latest')
    other = alexnet_jax.load(whole_run['workdir'])
    assert mine.class_names == ('cat', 'dog', 'eel') and mine.step == 2
    for layer in ('conv1', 'conv5', 'fc7'):
        for name in ('kernel', 'bias'):
            np.testing.assert_array_equal(
                mine.params[layer][name], other.params[layer][name]
            )
    assert mine.params['fc8']['kernel'].shape[1] == 3
