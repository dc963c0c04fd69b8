"""Any source becomes the same square records, once, whatever kills the preparation."""

import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from PIL import Image

from alexnet_jax.data import pipeline, prepare, sources
from configs import paper

REPOSITORY = Path(__file__).parents[1]


def data_config(tmp_path: Path, **values) -> ConfigDict:
    data = paper.get_config().data
    data.update(
        source='folder',
        prepared_dir=str(tmp_path / 'prepared'),
        encoding='raw',
        **values,
    )
    return data


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours, which JPEG and resizing hardly change."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two splits of two classes: 12 + 6 images of 16×16 and more."""
    for split, per_class in (('train', 6), ('validation', 3)):
        for c, name in enumerate(('cat', 'dog')):
            directory = tmp_path / 'photos' / split / name
            directory.mkdir(parents=True)
            for i in range(per_class):
                suffix = ('jpg', 'png', 'JPEG')[i % 3]
                image = photograph(16 + 4 * i, 16, seed=100 * c + 10 * per_class + i)
                image.save(directory / f'{i}.{suffix}')
            (directory / 'notes.txt').write_text('not an image')
    return tmp_path / 'photos'


def stored(dataset: prepare.PreparedDataset, split: str) -> list[dict]:
    """What TFDS itself reads from a prepared set."""
    builder = tfds.builder_from_directory(dataset.directory)
    return list(builder.as_data_source(split))


# Decoding and resizing.


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_square_image_of_the_stored_size_passes_untouched(kind):
    encoded = encode(photograph(32, 32), kind)
    pixels = np.asarray(Image.open(io.BytesIO(encoded)))
    np.testing.assert_array_equal(np.asarray(prepare.square(encoded, 32)), pixels)


@pytest.mark.parametrize('size', [(43, 32), (32, 77)])
def test_short_side_that_fits_is_cropped_and_not_resampled(size):
    image = photograph(*size)
    left, top = (size[0] - 32) // 2, (size[1] - 32) // 2
    expected = np.asarray(image)[top : top + 32, left : left + 32]
    result = np.asarray(prepare.square(encode(image, 'PNG'), 32))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ('mode', 'kind', 'tolerance'),
    [('L', 'PNG', 0), ('P', 'PNG', 0), ('CMYK', 'JPEG', 8), ('RGBA', 'PNG', 0)],
)
def test_colour_modes_become_rgb(mode, kind, tolerance):
    image = photograph(32, 32)
    expected = image.convert(mode).convert('RGB') if mode in 'LP' else image
    options = {'quality': 95} if kind == 'JPEG' else {}
    result = prepare.square(encode(image.convert(mode), kind, **options), 32)
    difference = np.abs(np.asarray(result, int) - np.asarray(expected, int))
    assert difference.mean() <= tolerance


def test_sixteen_bits_are_scaled_and_not_clipped():
    values = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    result = np.asarray(prepare.square(encode(Image.fromarray(values), 'PNG'), 32))
    np.testing.assert_array_equal(result, np.repeat((values >> 8)[..., None], 3, 2))


def test_rotation_tag_of_a_camera_is_followed():
    image = photograph(40, 32)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees to see it upright
    result = prepare.square(encode(image, 'PNG', exif=exif), 32)
    expected = np.rot90(np.asarray(image), -1)[4:36]
    np.testing.assert_array_equal(np.asarray(result), expected)


@pytest.mark.parametrize('size', [(1, 1), (2000, 1), (3, 500)])
def test_extreme_sizes_become_square(size):
    assert prepare.square(encode(photograph(*size), 'PNG'), 8).size == (8, 8)


def test_reduction_does_not_alias():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255  # one pixel wide: grey from afar
    result = np.asarray(prepare.square(encode(Image.fromarray(stripes), 'PNG'), 32))
    assert np.abs(result[4:-4, 4:-4].astype(int) - 127).max() <= 4


# Whole preparations.


def test_folder_holds_every_image_with_its_class(folder, tmp_path):
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    dataset = prepare.open_prepared(data)
    assert dataset.class_names == ('cat', 'dog')
    assert dataset.num_classes == 2
    assert dataset.split_sizes == {'train': 12, 'validation': 6}
    examples = stored(dataset, 'train')
    assert [int(e['label']) for e in examples] == [0] * 6 + [1] * 6
    files = sorted(p for p in (folder / 'train').glob('*/*') if p.suffix != '.txt')
    for example, file in zip(examples, files, strict=True):
        expected = prepare.square(file.read_bytes(), 16)
        np.testing.assert_array_equal(example['image'], np.asarray(expected))
    assert len(stored(dataset, 'train[:50%]')) == 6


def test_statistics_equal_numpy(folder, tmp_path):
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    dataset = prepare.open_prepared(data)
    pixels = np.stack([e['image'] for e in stored(dataset, 'train')]).astype(float)
    np.testing.assert_allclose(dataset.mean_image, pixels.mean(0), rtol=1e-6)
    covariance = np.cov(pixels.reshape(-1, 3).T, bias=True)
    components, std = dataset.colour_components, dataset.colour_std
    assert (np.diff(std) <= 0).all()
    np.testing.assert_allclose(
        components @ np.diag(std.astype(float) ** 2) @ components.T,
        covariance,
        rtol=1e-4,
    )
    np.testing.assert_allclose(components.T @ components, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(
        std**2, np.linalg.eigvalsh(covariance)[::-1], rtol=1e-4, atol=1e-3
    )


def test_jpeg_of_the_stored_size_keeps_its_bytes(folder, tmp_path):
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    data.encoding = 'jpeg'
    dataset = prepare.open_prepared(data)
    source = folder / 'train' / 'cat' / '0.jpg'  # 16×16
    np.testing.assert_array_equal(
        stored(dataset, 'train')[0]['image'], np.asarray(Image.open(source))
    )


def test_changed_folder_is_prepared_again_and_an_unchanged_one_is_not(folder, tmp_path):
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    first = prepare.open_prepared(data)
    written = {p: p.stat().st_mtime_ns for p in first.directory.iterdir()}
    assert prepare.open_prepared(data).directory == first.directory
    assert {p: p.stat().st_mtime_ns for p in first.directory.iterdir()} == written
    photograph(20, 20, seed=9).save(folder / 'train' / 'dog' / 'new.png')
    second = prepare.open_prepared(data)
    assert second.directory != first.directory
    assert second.split_sizes['train'] == 13


def test_prepared_set_outlives_its_source(folder, tmp_path):
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    directory = prepare.open_prepared(data).directory
    folder.rename(tmp_path / 'elsewhere')
    assert prepare.open_prepared(data).directory == directory


def test_split_named_later_is_added(folder, tmp_path):
    data = data_config(
        tmp_path,
        data_dir=str(folder),
        stored_size=16,
        crop_size=16,
        validation_split='',
    )
    first = prepare.open_prepared(data)
    assert first.split_sizes == {'train': 12}
    data.validation_split = 'validation'
    second = prepare.open_prepared(data)
    assert second.directory == first.directory
    assert second.split_sizes == {'train': 12, 'validation': 6}
    assert len(stored(second, 'train')) == 12


def test_killed_preparation_resumes_without_redoing_shards(
    folder, tmp_path, monkeypatch
):
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    monkeypatch.setattr(prepare, 'SHARD_EXAMPLES', 3)
    whole = prepare.open_prepared(data)
    data.prepared_dir = str(tmp_path / 'killed')
    encode_image = prepare._encode
    calls = []

    def killed_at_the_eighth(*args):
        if len(calls) == 7:
            raise KeyboardInterrupt
        calls.append(args)
        return encode_image(*args)

    monkeypatch.setattr(prepare, '_encode', killed_at_the_eighth)
    with pytest.raises(KeyboardInterrupt):
        prepare.open_prepared(data)
    with pytest.raises(ValueError, match='not prepared'):
        prepare.open_prepared(data, prepare_missing=False)
    done = []
    monkeypatch.setattr(
        prepare, '_encode', lambda *args: done.append(args) or encode_image(*args)
    )
    resumed = prepare.open_prepared(data)
    assert len(done) == 12 + 6 - 2 * 3  # two shards of three were finished
    names = {p.name for p in whole.directory.iterdir()}
    assert {p.name for p in resumed.directory.iterdir()} == names
    for name in names:
        if 'array_record' in name:
            same = (resumed.directory / name).read_bytes()
            assert same == (whole.directory / name).read_bytes()
    np.testing.assert_array_equal(resumed.mean_image, whole.mean_image)


def test_undecodable_image_stops_the_preparation_by_name(folder, tmp_path):
    bad = folder / 'train' / 'cat' / 'bad.jpg'
    bad.write_bytes((folder / 'train' / 'cat' / '0.jpg').read_bytes()[:200])
    (folder / 'train' / 'cat' / 'empty.png').touch()
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    with pytest.raises(ValueError, match=r'2 images .*bad\.jpg.*empty\.png'):
        prepare.open_prepared(data)


# TFDS sets.


def test_shared_cifar10_in_tfrecord_format(shared_data, tmp_path):
    data = data_config(tmp_path, data_dir=str(shared_data / 'tensorflow_datasets'))
    data.update(source='cifar10', stored_size=32, crop_size=24)
    data.train_split = data.validation_split = 'test'  # the small one
    source = sources.open_source(data)
    assert source.split_sizes == {'train': 50_000, 'test': 10_000}
    assert source.class_names[:2] == ('airplane', 'automobile')
    keys, images, labels = zip(*source.read('test', 100, 130), strict=True)
    assert keys[0] == 'test[100]'
    again = list(source.read('test', 110, 112))
    assert [e[1:] for e in again] == [
        (images[i], labels[i]) for i in (10, 11)
    ]  # ranges are exact
    dataset = prepare.open_prepared(data)
    assert dataset.split_sizes == {'test': 10_000}
    example = stored(dataset, 'test[100:101]')[0]
    np.testing.assert_array_equal(
        example['image'], np.asarray(Image.open(io.BytesIO(images[0])))
    )
    assert int(example['label']) == labels[0]


def add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def imagenet_tars(manual_dir: Path) -> None:
    """Stand-ins for ImageNet's two tars, with three of its real synsets."""
    manual_dir.mkdir(parents=True)
    with tarfile.open(manual_dir / 'ILSVRC2012_img_train.tar', 'w') as train:
        for synset in ('n01440764', 'n01443537', 'n15075141'):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode='w') as tar:
                for i in range(4):
                    image = encode(photograph(50 + i, 40, seed=i), 'JPEG')
                    add_file(tar, f'{synset}_{i}.JPEG', image)
            add_file(train, f'{synset}.tar', inner.getvalue())
    with tarfile.open(manual_dir / 'ILSVRC2012_img_val.tar', 'w') as validation:
        for i in range(1, 6):
            name = f'ILSVRC2012_val_{i:08}.JPEG'
            add_file(validation, name, encode(photograph(40, 50, seed=i), 'JPEG'))


def test_real_imagenet_builder_on_stand_in_tars(tmp_path):
    data = data_config(tmp_path, data_dir=str(tmp_path / 'tfds'))
    data.update(source='imagenet2012', stored_size=32, crop_size=28, encoding='jpeg')
    with pytest.raises(
        ValueError, match=r'_img_train\.tar and ILSVRC2012_img_val\.tar'
    ) as e:
        prepare.open_prepared(data)
    assert str(tmp_path / 'tfds' / 'downloads' / 'manual') in str(e.value)
    imagenet_tars(tmp_path / 'tfds' / 'downloads' / 'manual')
    dataset = prepare.open_prepared(data)
    assert dataset.num_classes == 1000
    assert dataset.split_sizes == {'train': 12, 'validation': 5}
    labels = sorted(int(e['label']) for e in stored(dataset, 'train'))
    assert labels == [0] * 4 + [1] * 4 + [999] * 4
    batch = next(pipeline.eval_batches(dataset, data, split='validation', batch_size=5))
    assert batch['image'].shape == (5, 32, 32, 3)
    # The first five of the real validation labels, n01751748 and on.
    assert sorted(batch['label'].tolist()) == sorted([65, 970, 230, 809, 516])


def test_too_large_a_set_prints_the_command_that_prepares_it(folder, tmp_path):
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    data.auto_prepare_gb = 1e-9
    with pytest.raises(ValueError, match=r'takes? about 1\.4e-05 GB') as error:
        prepare.open_prepared(data)
    command = str(error.value).split('prepare it with: ')[1]
    assert command.startswith('python -m alexnet_jax.data.prepare --config=configs/')
    run = subprocess.run(
        [sys.executable, *command.split()[1:], '--workers=2'],
        cwd=REPOSITORY,
        env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert 'train: 12 images' in run.stdout
    dataset = prepare.open_prepared(data)
    assert f'directory: {dataset.directory}' in run.stdout


# Bad input.


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'data_dir': '/nowhere/photos'}, 'no folder of images at .*/nowhere/photos'),
        ({'train_split': 'training'}, "no split 'training'; it has train, validation"),
        ({'train_split': 'train[:'}, "cannot read the split 'train\\[:'"),
        ({'train_split': ''}, 'train_split'),
        ({'encoding': 'webp'}, 'encoding=.webp.; one of raw, jpeg'),
        ({'source': 'cifer10'}, 'did you mean cifar10'),
        ({'source': 'mnist'}, 'not prepared in .*download=True'),
    ],
)
def test_bad_values_are_one_line(folder, tmp_path, values, message):
    values = {'data_dir': str(folder), 'stored_size': 16, 'crop_size': 16} | values
    data = data_config(tmp_path)
    data.update(values)
    with pytest.raises(ValueError, match=message) as error:
        prepare.open_prepared(data)
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'prepared').exists()


def test_folder_with_one_class_none_or_different_ones(tmp_path):
    data = data_config(tmp_path, data_dir=str(tmp_path / 'f'), stored_size=16)
    (tmp_path / 'f').mkdir()
    with pytest.raises(ValueError, match='no splits with classes'):
        prepare.open_prepared(data)
    for split, name in (('train', 'cat'), ('validation', 'cat'), ('validation', 'dog')):
        (tmp_path / 'f' / split / name).mkdir(parents=True)
        photograph(16, 16).save(tmp_path / 'f' / split / name / '0.png')
    with pytest.raises(ValueError, match="one class \\('cat'\\)"):
        prepare.open_prepared(data)
    (tmp_path / 'f' / 'train' / 'cow').mkdir()
    with pytest.raises(ValueError, match=r'different classes.* cow, dog'):
        prepare.open_prepared(data)


def test_unwritable_prepared_dir_is_one_line(folder, tmp_path):
    (tmp_path / 'prepared').write_text('a file')
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    with pytest.raises(ValueError, match=r'cannot write .*prepared_dir'):
        prepare.open_prepared(data)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['extra'], 'extra'),
        (['--config.data.stored_sizes=3'], 'stored_size'),
        (['--workers=0'], '--workers=0'),
        (['--config.data.data_dir=/nowhere'], '/nowhere'),
    ],
)
def test_command_line_ends_in_one_line(tmp_path, arguments, message):
    run = subprocess.run(
        [
            sys.executable,
            *['-m', 'alexnet_jax.data.prepare', '--config=configs/clothing.py'],
            f'--config.data.prepared_dir={tmp_path}',
            *arguments,
        ],
        cwd=REPOSITORY,
        env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 1
    assert 'Traceback' not in run.stderr
    assert message in re.split('\n', run.stderr.strip())[-1]
