"""A folder of images in any state: read, or refused, and never without a word."""

import os
import re
import shutil
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from alexnet_jax.data import images, pipeline, prepare, report
from tests.conftest import folder_config, run_here, save_pixel


def said(data: ConfigDict) -> str:
    return '\n'.join(report.lines(prepare.open_prepared(data), data))


@pytest.mark.parametrize('suffix', ['webp', 'bmp', 'tif', 'TIFF', 'jpeg', 'png'])
def test_kinds_that_are_read(photos, tmp_path, suffix):
    path = photos / 'train' / 'cat' / f'more.{suffix}'
    Image.new('RGB', (4, 4), (255, 0, 0)).save(path, lossless=True)
    data = folder_config(tmp_path)
    assert prepare.open_prepared(data).split_sizes == {'train': 7, 'validation': 2}


def test_what_is_not_read_is_counted_and_named_at_every_start(photos, tmp_path):
    cat = photos / 'train' / 'cat'
    (cat / 'notes.txt').touch()
    (cat / 'clip.gif').touch()
    (cat / '.DS_Store').touch()
    save_pixel(cat / 'more' / '9.png')
    (photos / 'train' / 'emu').mkdir()
    save_pixel(photos / 'train' / 'stray.png')
    save_pixel(photos / 'train' / 'cow' / '0.png', 50)
    data = folder_config(tmp_path)
    for _ in range(2):
        text = said(data)
        assert '2 files are not read: train/cat/clip.gif, train/cat/notes.txt' in text
        assert '1 folders inside classes are not read: train/cat/more' in text
        assert 'train/emu has no images and no class' in text
        assert '1 images lie outside classes: train/stray.png' in text
        assert 'note: validation has no images of cow' in text
    assert prepare.open_prepared(data).class_names == ('cat', 'cow', 'dog')


def test_a_class_of_nested_images_is_refused(photos, tmp_path):
    save_pixel(photos / 'train' / 'cow' / 'sub' / '0.png')
    with pytest.raises(
        ValueError, match=r'train/cow holds no images itself but f.*sub'
    ):
        prepare.open_prepared(folder_config(tmp_path))


def test_what_no_split_of_the_config_names_is_let_be(photos, tmp_path):
    save_pixel(photos / 'archive' / '2019' / 'deep' / '0.png')
    save_pixel(photos / 'test' / 'unknown' / '0.png')
    dataset = prepare.open_prepared(folder_config(tmp_path))
    assert dataset.class_names == ('cat', 'dog') and not dataset.notes
    with pytest.raises(ValueError, match=r"only 'test' has images of unknown"):
        prepare.open_prepared(folder_config(tmp_path, test_split='test'))


def test_a_missing_test_split_names_the_flag_that_does_without(photos, tmp_path):
    with pytest.raises(
        ValueError, match=r"no split 'test'.*--config.data.test_split= "
    ):
        prepare.open_prepared(folder_config(tmp_path, test_split='test'))


def test_a_split_that_an_undivided_folder_has_not_is_named(tmp_path):
    unsplit(tmp_path / 'photos', 20)
    with pytest.raises(ValueError, match="has no split 'dev'; it has train, val"):
        prepare.open_prepared(folder_config(tmp_path, validation_split='dev'))


def test_val_is_validation(photos, tmp_path):
    (photos / 'validation').rename(photos / 'val')
    dataset = prepare.open_prepared(folder_config(tmp_path))
    assert dataset.split_sizes == {'train': 6, 'validation': 2}
    data = folder_config(tmp_path, validation_split='val')  # who calls it by its name
    assert prepare.open_prepared(data).split_sizes == {'train': 6, 'val': 2}


def unsplit(folder: Path, count: int) -> None:
    for i in range(count):
        save_pixel(folder / ('cat', 'dog')[i % 2] / f'{i}.png', i % 256)


def test_a_folder_without_splits_is_divided_by_the_names_of_its_files(tmp_path):
    folder = tmp_path / 'photos'
    unsplit(folder, 240)
    data = folder_config(tmp_path, test_split='test')

    def division() -> dict[str, set[tuple[bytes, int]]]:
        source = prepare.open_source(data)
        return {split: {*source.files[split].paths(0, size)}
                for split, size in source.split_sizes.items()}  # fmt: skip

    before = division()
    sizes = {split: len(names) for split, names in before.items()}
    assert sum(sizes.values()) == 240
    assert 170 < sizes['train'] < 214 and 8 < sizes['validation'] < 42
    text = said(data)
    assert (
        'has no splits; each image goes to one by the hash' in text
        and f'train {sizes["train"]}, validation {sizes["validation"]}' in text
    )
    dataset = prepare.open_prepared(data)
    assert dataset.split_sizes == sizes and dataset.class_names == ('cat', 'dog')
    # The order within a split is another hash: a slice in percents is what it says.
    half = pipeline.num_examples(dataset, 'train[:50%]')
    assert 0.3 < half / sizes['train'] < 0.7
    unsplit(folder, 300)  # 60 more move none of the others
    assert all(before[split] < names for split, names in division().items())


def test_the_same_content_in_training_and_validation_is_reported(photos, tmp_path):
    shutil.copy(photos / 'train/cat/0.png', photos / 'validation/dog/copy.png')
    text = said(folder_config(tmp_path))
    assert "1 of the 3 images of data.validation_split='validation' are in" in text
    data = folder_config(tmp_path, validation_split='train[:50%]')
    assert re.search(r'(\d) of the \1 images of data.validation_split', said(data))
    data = folder_config(tmp_path, train_split='train[:50%]')
    data.validation_split = 'train[50%:]'
    assert 'byte for byte' not in said(data)


REFUSED = {
    'a FIFO': (os.mkfifo, r'z\.jpg.* is a FIFO and not an image file; remove it'),
    'a socket': (
        lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
        'is a socket',
    ),
    'a device': (lambda path: path.symlink_to('/dev/zero'), 'is a device'),
    'a loop': (lambda path: path.symlink_to(path.name), 'cannot read .*z.jpg.*links'),
    'a broken link': (lambda path: path.symlink_to('nothing'), 'cannot read .*z.jpg'),
    'too large': (
        lambda path: path.touch() or os.truncate(path, 2**31),
        r'2,147,483,648 bytes, more than',
    ),
}


@pytest.mark.parametrize('what', REFUSED)
def test_what_is_no_file_is_refused_before_it_is_opened(
    photos, tmp_path, what, monkeypatch
):
    make, message = REFUSED[what]
    monkeypatch.chdir(photos / 'train' / 'cat')  # a socket's path must be short
    make(Path('z.jpg'))
    with pytest.raises(ValueError, match=message) as error:
        prepare.open_prepared(folder_config(tmp_path))
    assert '\n' not in str(error.value)


def test_a_file_that_becomes_a_fifo_is_not_waited_for(photos, tmp_path):
    data = folder_config(tmp_path)
    source = prepare.open_source(data)
    path = photos / 'train' / 'cat' / '0.png'
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match='it is no longer a file'):
        prepare.prepare(data, source)


@pytest.mark.parametrize('link', ['train', 'train/loop', 'photos'])
def test_loops_of_folders_are_one_line(photos, tmp_path, link):
    if link == 'photos':
        (tmp_path / 'round').symlink_to('round')
        data = folder_config(tmp_path, data_dir=str(tmp_path / 'round'))
    else:
        data = folder_config(tmp_path)
        path = photos / link if '/' in link else photos / 'loop'
        path.symlink_to(path.name)
    with pytest.raises(ValueError, match=r'cannot read|no folder of images') as error:
        prepare.open_prepared(data)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        (b'cl\nass', r"'cl\\nass'.* line break"),
        (b'\xff\xfe', r'\\xff\\xfe.* is not UTF-8; rename'),
        (b'cat ', 'a space at its ends'),
        ('a\u2028b'.encode(), 'line break'),
    ],
)
def test_a_class_that_cannot_be_written_as_a_line_is_refused(
    photos, tmp_path, name, message
):
    directory = os.fsencode(photos / 'train') + b'/' + name
    os.mkdir(directory)
    shutil.copy(photos / 'train/cat/0.png', directory + b'/0.png')
    with pytest.raises(ValueError, match=message) as error:
        prepare.open_prepared(folder_config(tmp_path))
    assert str(error.value).isprintable()


def large_header(kind: str) -> bytes:
    """An image that says it has 60,000 × 60,000 pixels, and has none."""
    if kind == 'bmp':
        return (
            b'BM'
            + struct.pack('<IHHI', 54, 0, 0, 54)
            + struct.pack('<IiiHHIIiiII', 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
        )
    header = struct.pack('>IIBBBBB', 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b'IHDR' + header
    length, checksum = struct.pack('>I', 13), struct.pack('>I', zlib.crc32(chunk))
    pixels = struct.pack('>I', 100) + b'IDAT'
    return b'\x89PNG\r\n\x1a\n' + length + chunk + checksum + pixels


@pytest.mark.parametrize('kind', ['png', 'bmp'])
def test_a_header_of_60000_by_60000_is_refused_before_it_is_decoded(
    photos, tmp_path, kind
):
    (photos / 'train' / 'cat' / f'bomb.{kind}').write_bytes(large_header(kind))
    data = folder_config(tmp_path)
    with pytest.raises(ValueError, match=r'bomb\.\w+: .*3600000000 pixels.*--skip_bad'):
        prepare.open_prepared(data)
    with pytest.raises(Image.DecompressionBombError):
        images.square(large_header(kind), 1)


def test_a_start_with_a_wrong_record_of_the_source_lists_it_again(photos, tmp_path):
    data = folder_config(tmp_path)
    directory = prepare.open_prepared(data).directory
    for text in ('[1]', '{"path": 3}', 'garbage', '{"directories": {}, "path": "x"}'):
        (directory / 'source.json').write_text(text)
        assert prepare.open_prepared(data).directory == directory
        assert 'garbage' not in (directory / 'source.json').read_text()


def test_the_source_is_named_where_it_is_prepared(photos, tmp_path):
    done = run_here(
        'alexnet_jax.prepare',
        '--source=folder',
        f'--config.data.data_dir={photos}',
        f'--config.data.prepared_dir={tmp_path / "prepared"}',
        '--config.data.stored_size=4',
    )
    dataset = prepare.open_prepared(
        folder_config(tmp_path, stored_size=4, encoding='jpeg')
    )
    line = f'data: folder in {photos}, fingerprint {dataset.fingerprint[:16]}'
    assert line in done.out.splitlines()
    assert len(dataset.fingerprint) == 64 and np.isfinite(dataset.mean_image).all()
