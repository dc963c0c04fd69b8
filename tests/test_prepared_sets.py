"""A prepared set belongs to one source, is as it was written, and can harm nobody."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from alexnet_jax.data import (
    disk,
    foreign,
    manifest,
    metadata,
    pipeline,
    prepare,
    prepared,
    shards,
    verify,
)
from alexnet_jax.system import command_line
from tests.conftest import folder_config, load, run, run_here, save_pixel
from tests.test_prepare import as_tfds_set


@pytest.fixture
def made(photos, tmp_path):
    data = folder_config(tmp_path)
    return data, prepare.open_prepared(data)


def refused(data, *words: str) -> str:
    """Opens a set, which must be refused with these words and the way to mend it."""
    with pytest.raises(ValueError, match='prepared set') as error:
        prepare.open_prepared(data)
    message = str(error.value)
    assert '\n' not in message and all(word in message for word in words), message
    assert 'and make it again: python -m alexnet_jax.prepare --source=' in message
    return message


# One source.


def test_a_mistyped_folder_of_the_same_name_is_not_the_one_prepared_before(
    photos,
    tmp_path,
):
    prepare.open_prepared(folder_config(tmp_path))
    data = folder_config(tmp_path, data_dir=str(tmp_path / 'elsewhere' / 'photos'))
    with pytest.raises(ValueError, match=r'no folder of images at .*elsewhere/photos'):
        prepare.open_prepared(data)
    shutil.copytree(photos, tmp_path / 'elsewhere' / 'photos')
    mine = prepare.open_prepared(folder_config(tmp_path))
    assert prepare.open_prepared(data).directory != mine.directory
    assert prepare.open_prepared(data).source_path == data.data_dir


def test_a_tfds_set_of_another_place_is_another(tmp_path):
    for name in ('one', 'two'):
        as_tfds_set(tmp_path / name / 'byclass/1.0.0', 40, disable_shuffling=False)
    data = folder_config(tmp_path, source='byclass', validation_split='')
    directories = set()
    for name in ('one', 'two'):
        data.data_dir = str(tmp_path / name)
        directories.add(prepare.open_prepared(data).directory)
    assert len(directories) == 2
    data.data_dir = str(tmp_path / 'three')
    with pytest.raises(ValueError, match='byclass'):
        prepare.open_prepared(data)
    data.data_dir = str(tmp_path / 'two')
    shutil.rmtree(tmp_path / 'two')  # its own is needed no more
    assert prepare.open_prepared(data).directory in directories


def test_a_set_that_was_put_in_the_place_of_another_is_refused(made, tmp_path):
    data, dataset = made
    other = folder_config(tmp_path, stored_size=2, crop_size=2)
    theirs = prepare.open_prepared(other).directory
    shutil.rmtree(dataset.directory)
    shutil.copytree(theirs, dataset.directory)
    refused(data, 'another way of storing')


# As it was written.


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b'')


def garbage(path: Path) -> None:
    path.write_text('[1]')


FILES = [
    'set.json', 'dataset_info.json', 'features.json', 'label.labels.txt',
    'statistics-train.npz', 'hashes-train.npy', 'photos-train.array_record-*',
]  # fmt: skip


@pytest.mark.parametrize('name', FILES)
def test_a_damaged_file_is_named_at_every_start(made, name):
    data, dataset = made
    (path,) = dataset.directory.glob(name)
    good = path.read_bytes()
    hows: list[Callable[[Path], object]] = [cut, empty, garbage]
    if name == 'set.json':
        hows += [flip]
    else:
        hows += [Path.unlink]
    if name.startswith(('dataset', 'features', 'label', 'statistics')):
        hows += [flip]
    for how in hows:
        how(path)
        for _ in range(2):
            refused(data, path.name)
        path.write_bytes(good)
    prepare.open_prepared(data)


def test_metadata_of_tfds_that_say_another_thing_are_refused(made):
    data, dataset = made
    path = dataset.directory / 'dataset_info.json'
    info = json.loads(path.read_text())
    for split in info['splits']:
        split['shardLengths'] = ['2']
    path.write_text(json.dumps(info))
    refused(data, 'dataset_info.json')
    (dataset.directory / 'label.labels.txt').write_text('cat\n')
    refused(data)


def test_a_damaged_record_stops_reading_with_the_way_to_mend_it(made):
    data, dataset = made
    (path,) = dataset.directory.glob('photos-train.array_record-*')
    flip(path)
    dataset = prepare.open_prepared(data)  # of the same size
    batches = pipeline.eval_batches(dataset, data, split='train', batch_size=6)
    # From a thread of grain's, and still a line for the user.
    with (
        pytest.raises(SystemExit, match=r'of train in .* make it again: py') as error,
        command_line.user_errors(),
    ):
        list(batches)
    assert '\n' not in str(error.value)
    with pytest.raises(ValueError, match='is not as it was written; remove'):
        verify.verify(dataset, data)


def test_verify_reads_every_record(made):
    data, dataset = made
    assert verify.verify(dataset, data) == 8
    # A set that is whole by its digests, but not by what is in it.
    for change, message in (
        ('label', r'train\[0\]: label 7 of 2 classes'),
        ('pixels', 'has not the sums of the records'),
        ('shape', r'train\[0\]: cannot reshape'),
    ):
        forge(dataset, change)
        forged = prepare.open_prepared(data)
        with pytest.raises(ValueError, match=message):
            verify.verify(forged, data)


def forge(dataset: prepared.PreparedDataset, change: str) -> None:
    """Writes other records, with digests that fit them."""
    known = manifest.read(dataset.directory)
    (shard,) = known.splits['train'].shards
    features = metadata.features(2 if change == 'shape' else 1, 'raw', num_classes=9)
    path = dataset.directory / shard.name
    writer = array_record_module.ArrayRecordWriter(str(path), 'group_size:1')
    for _ in range(6):
        side = 2 if change == 'shape' else 1
        image = np.full((side, side, 3), 77, np.uint8)
        label = 7 if change == 'label' else 1
        writer.write(features.serialize_example({'image': image, 'label': label}))
    writer.close()
    file = manifest.describe(path)
    again = manifest.RecordFile(file.name, file.num_bytes, file.sha256, 6)
    train = manifest.Split((again,), known.splits['train'].others)
    splits = {**known.splits, 'train': train}
    manifest.write(
        dataset.directory,
        manifest.Manifest(**{**vars(known), 'splits': splits}),
    )


def test_verify_is_a_command(made):
    data, dataset = made
    flags = [f'--config.data.{key}={data[key]}' for key in
             ('data_dir', 'prepared_dir', 'stored_size', 'encoding')]  # fmt: skip
    command = ('alexnet_jax.prepare', '--source=folder', '--verify', *flags)
    done = run_here(*command)
    assert 'verified: 8 records are as they were written' in done.out, done.err
    (path,) = dataset.directory.glob('photos-validation.array_record-*')
    flip(path)
    done = run_here(*command)
    assert done.status == 1 and 'is not as it was written' in done.err
    assert 'Traceback' not in done.err


def test_a_kill_between_two_splits_is_no_damage(photos, tmp_path, monkeypatch):
    data = folder_config(tmp_path, validation_split='')
    prepare.open_prepared(data)
    data.validation_split = 'validation'
    write = manifest.write

    def killed_at_the_second(directory, known):
        if known.metadata:
            raise KeyboardInterrupt
        write(directory, known)

    with monkeypatch.context() as patch:
        patch.setattr(manifest, 'write', killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            prepare.open_prepared(data)
    only = folder_config(tmp_path, validation_split='')
    assert prepare.open_prepared(only).split_sizes == {'train': 6}
    assert prepare.open_prepared(data).split_sizes == {'train': 6, 'validation': 2}


FULL = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.argv = sys.argv[1:]
runpy.run_module('alexnet_jax.prepare', run_name='__main__', alter_sys=True)
"""


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(photos, tmp_path):
    flags = [
        '--source=folder',
        f'--config.data.data_dir={photos}',
        f'--config.data.prepared_dir={tmp_path / "prepared"}',
        '--config.data.stored_size=64',
        '--config.data.encoding=raw',
    ]
    # A file may be so large and no larger, which array_record meets as a full disk.
    done = run('-c', FULL, 50_000, *flags, status=1)
    (line,) = (x for x in done.err.splitlines() if 'error:' in x)
    assert 'cannot write' in line and 'the same command goes on from here' in line
    assert 'Traceback' not in done.err
    assert not list(tmp_path.glob('prepared/*/*/.*.tmp'))
    assert 'train: 6 images' in run_here('alexnet_jax.prepare', *flags).out


def test_of_a_folder_that_grew_and_went_the_newest_set_is_taken(photos, tmp_path):
    prepare.open_prepared(folder_config(tmp_path))
    save_pixel(photos / 'train' / 'cat' / 'new.png', 200)
    grown = prepare.open_prepared(folder_config(tmp_path))
    shutil.rmtree(photos)
    again = prepare.open_prepared(folder_config(tmp_path))
    assert again.directory == grown.directory
    assert again.split_sizes['train'] == 7


def test_a_shard_that_lost_its_content_is_not_done(tmp_path):
    shard = shards.Shard('train', 0, 1, tmp_path / 'a.array_record')
    shard.path.write_bytes(b'record')
    disk.write_npz(shard.sums, num_bytes=6)
    assert shard.done
    shard.path.write_bytes(b'')  # as a power cut leaves it
    assert not shard.done


def test_verify_makes_no_set(tmp_path):
    data = load('demo').data
    data.data_dir = data.prepared_dir = str(tmp_path)
    with pytest.raises(ValueError, match='is not prepared'):
        prepare.open_prepared(data, prepare_missing=False)
    assert not list(tmp_path.iterdir())


# From a stranger.


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('name', '../../../secret'),
        ('name', '/etc/passwd'),
        ('name', 'a/b'),
        ('name', '..'),
        ('records', -1),
    ],
)
def test_a_manifest_names_no_file_outside_its_folder(made, key, value):
    data, dataset = made
    path = dataset.directory / 'set.json'
    content = json.loads(path.read_text())
    content.pop('sha256')
    content['splits']['train']['shards'][0][key] = value
    path.write_text(json.dumps(content | {'sha256': manifest._digest(content)}))
    refused(data, 'set.json')


def test_a_link_that_leads_out_of_the_folder_is_refused(made, tmp_path):
    data, dataset = made
    (path,) = dataset.directory.glob('photos-train.array_record-*')
    path.rename(tmp_path / 'elsewhere')
    path.symlink_to(tmp_path / 'elsewhere')
    refused(data, 'is not a file of this folder')


def test_opening_a_set_imports_nothing_that_it_names(made, tmp_path, monkeypatch):
    data, dataset = made
    (tmp_path / 'evil.py').write_text('raise SystemExit("imported")')
    monkeypatch.syspath_prepend(tmp_path)
    path = dataset.directory / 'features.json'
    text = path.read_text().replace('tensorflow_datasets.core.features.', 'evil.')
    path.write_text(text)
    known = manifest.read(dataset.directory)  # whose digests the stranger makes fit
    files = tuple(manifest.describe(dataset.directory / f.name) for f in known.metadata)
    manifest.write(
        dataset.directory, manifest.Manifest(**{**vars(known), 'metadata': files})
    )
    opened = prepare.open_prepared(data)
    assert len(list(pipeline.eval_batches(opened, data, split='train', batch_size=6)))
    assert verify.verify(opened, data) == 8
    assert 'evil' not in sys.modules


@pytest.mark.parametrize(
    'features',
    [
        {'pythonClassName': 'evil.X'},
        {'python_class_name': 'evil.X'},
        {'type': 'evil.X', 'content': {}},
        {'jsonFeature': {'json': '{"feature": {"type": "evil.X", "content": {}}}'}},
    ],
)
def test_a_tfds_source_imports_nothing_that_it_names(tmp_path, monkeypatch, features):
    directory = tmp_path / 'tfds' / 'byclass' / '1.0.0'
    as_tfds_set(directory, 4, disable_shuffling=False)
    (tmp_path / 'evil.py').write_text('raise SystemExit("imported")')
    monkeypatch.syspath_prepend(tmp_path)
    content = json.loads((directory / 'features.json').read_text())
    content['featuresDict']['features']['more'] = features
    (directory / 'features.json').write_text(json.dumps(content))
    data = folder_config(tmp_path, source='byclass', data_dir=str(tmp_path / 'tfds'))
    data.validation_split = ''
    with pytest.raises(ValueError, match=r"features\.json names the class 'evil\.X'"):
        prepare.open_prepared(data)
    assert 'evil' not in sys.modules


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('filepathTemplate', '../../../{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'),
        ('filepathTemplate', '/etc/{SPLIT}'),
        ('filepath_template', '../{SPLIT}'),
        ('name', '../train'),
    ],
)
def test_a_tfds_source_reads_nothing_outside_its_folder(tmp_path, key, value):
    directory = tmp_path / 'tfds' / 'byclass' / '1.0.0'
    as_tfds_set(directory, 4, disable_shuffling=False)
    info = json.loads((directory / 'dataset_info.json').read_text())
    info['splits'][0][key] = value
    (directory / 'dataset_info.json').write_text(json.dumps(info))
    data = folder_config(tmp_path, source='byclass', data_dir=str(tmp_path / 'tfds'))
    data.validation_split = ''
    with pytest.raises(ValueError, match=r'may lie outside its folder'):
        prepare.open_prepared(data)


@pytest.mark.parametrize('source', ['huggingface:cifar10', '../x', 'x/../y'])
def test_a_source_that_would_fetch_code_is_refused(tmp_path, source):
    """Also where a config comes with someone's workdir and is not validated."""
    with pytest.raises(ValueError, match=r'source=.*expected .*NAME'):
        prepare.open_prepared(folder_config(tmp_path, source=source, data_dir=''))


def test_tfds_own_metadata_pass(tmp_path):
    features = tfds.features.FeaturesDict(
        {
            'image': tfds.features.Image(shape=(None, None, 3)),
            'boxes': tfds.features.Sequence(
                {'box': tfds.features.BBoxFeature(), 'text': tfds.features.Text()}
            ),
            'label': tfds.features.ClassLabel(names=['a', 'b']),
        }
    )
    features.save_config(tmp_path)
    foreign.check(tmp_path)
