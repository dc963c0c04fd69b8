"""Any source becomes the same square records, once, whatever kills the preparation."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import struct
import tarfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from ml_collections import ConfigDict
from PIL import Image
from tensorflow_datasets.core import dataset_info

from alexnet_jax import config as config_lib
from alexnet_jax.configs import paper
from alexnet_jax.data import (
    disk,
    folders,
    images,
    listing,
    metadata,
    names,
    pipeline,
    prepare,
    prepared,
    shards,
)
from tests.conftest import run, run_here, start

CLOTHING = '--config=configs/clothing.py'


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


def by_hash(folder: Path, split: str) -> list[Path]:
    """A split's images in the order of the MD5 of `<class>/<file>`."""
    files = [p for p in (folder / split).glob('*/*') if p.suffix != '.txt']
    return sorted(
        files,
        key=lambda p: hashlib.md5(f'{p.parent.name}/{p.name}'.encode()).digest(),
    )


def stored(dataset: prepared.PreparedDataset, split: str) -> list[dict]:
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
    np.testing.assert_array_equal(np.asarray(images.square(encoded, 32)), pixels)


@pytest.mark.parametrize('size', [(43, 32), (32, 77)])
def test_short_side_that_fits_is_cropped_and_not_resampled(size):
    image = photograph(*size)
    left, top = (size[0] - 32) // 2, (size[1] - 32) // 2
    expected = np.asarray(image)[top : top + 32, left : left + 32]
    result = np.asarray(images.square(encode(image, 'PNG'), 32))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ('mode', 'kind', 'tolerance'),
    [('L', 'PNG', 0), ('P', 'PNG', 0), ('CMYK', 'JPEG', 8), ('RGBA', 'PNG', 0)],
)
def test_colour_modes_become_rgb(mode, kind, tolerance):
    image = photograph(32, 32)
    expected = image.convert(mode).convert('RGB') if mode in 'LP' else image
    options = {'quality': 95} if kind == 'JPEG' else {}
    result = images.square(encode(image.convert(mode), kind, **options), 32)
    difference = np.abs(np.asarray(result, int) - np.asarray(expected, int))
    assert difference.mean() <= tolerance


def test_sixteen_bits_are_scaled_and_not_clipped():
    values = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    result = np.asarray(images.square(encode(Image.fromarray(values), 'PNG'), 32))
    np.testing.assert_array_equal(result, np.repeat((values >> 8)[..., None], 3, 2))


RGB = (200, 120, 40)
CMYK = (50, 170, 90, 30)  # of ink: (205, 85, 165) × 225 / 255
CMYK_AS_RGB = (181, 75, 146)


def flat(mode: str, colour: int | tuple[int, ...]) -> Image.Image:
    return Image.new(mode, (16, 16), colour)


def palette() -> Image.Image:
    image = flat('P', 1)
    image.putpalette([0, 0, 0, *RGB, 9, 9, 9])
    return image


def sixteen_bit_png(colour_type: int, *pixel: int) -> bytes:
    """A flat 16×16 PNG of a kind that Pillow cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        length, checksum = len(content), zlib.crc32(kind + content)
        return struct.pack('>I', length) + kind + content + struct.pack('>I', checksum)

    row = b'\0' + struct.pack(f'>{len(pixel)}H', *pixel) * 16
    header = struct.pack('>IIBBBBB', 16, 16, 16, colour_type, 0, 0, 0)
    chunks = (b'IHDR', header), (b'IDAT', zlib.compress(row * 16)), (b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*c) for c in chunks)


COLOURS = {
    'Adobe CMYK': (encode(flat('CMYK', CMYK), 'JPEG', quality=100), CMYK_AS_RGB),
    # libjpeg-turbo's own encoder writes YCCK, with the inks inverted by us.
    'Adobe YCCK': (
        simplejpeg.encode_jpeg(
            np.full((16, 16, 4), 255 - np.array(CMYK), np.uint8), 100, 'CMYK', '444'
        ),
        CMYK_AS_RGB,
    ),
    'grey JPEG': (encode(flat('L', 77), 'JPEG', quality=100), (77,) * 3),
    'grey PNG': (encode(flat('L', 77), 'PNG'), (77,) * 3),
    'black and white': (encode(flat('1', 1), 'PNG'), (255,) * 3),
    'palette': (encode(palette(), 'PNG'), RGB),
    'palette GIF': (encode(palette(), 'GIF'), RGB),
    # What is transparent keeps the colour that it has in the file.
    'transparent palette entry': (encode(palette(), 'PNG', transparency=1), RGB),
    'translucent palette': (encode(palette(), 'PNG', transparency=b'\0\x50'), RGB),
    'transparent grey': (encode(flat('LA', (77, 0)), 'PNG'), (77,) * 3),
    'transparent RGB': (encode(flat('RGBA', (*RGB, 0)), 'PNG'), RGB),
    '16-bit grey': (sixteen_bit_png(0, 0xABCD), (0xAB,) * 3),
    '16-bit RGB': (sixteen_bit_png(2, *(256 * c + 99 for c in RGB)), RGB),
    '16-bit grey, alpha': (sixteen_bit_png(4, 0xABCD, 0), (0xAB,) * 3),
    '16-bit RGB, alpha': (sixteen_bit_png(6, *(256 * c for c in RGB), 0), RGB),
}


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize(('encoded', 'expected'), COLOURS.values(), ids=COLOURS)
def test_known_colour_comes_out_of_every_kind_of_file(encoded, expected):
    pixels = np.asarray(images.square(encoded, 16), int)
    assert np.abs(pixels - expected).max() <= 1


def test_adobe_cmyk_is_stored_inverted():
    encoded = encode(flat('CMYK', CMYK), 'JPEG', quality=100)
    assert b'Adobe' in encoded
    samples = simplejpeg.decode_jpeg(encoded, 'CMYK')  # which leaves them as they are
    assert np.abs(samples - (255 - np.array(CMYK))).max() <= 1


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
@pytest.mark.parametrize(
    ('orientation', 'as_stored'),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.swapaxes(0, 1)),
        (6, lambda a: np.rot90(a)),  # the reader turns it clockwise
        (7, lambda a: np.rot90(a, 2).swapaxes(0, 1)),
        (8, lambda a: np.rot90(a, -1)),
    ],
)
def test_rotation_tag_of_a_camera_is_followed(kind, orientation, as_stored):
    upright = np.asarray(photograph(40, 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(as_stored(upright)))
    options = {'quality': 95, 'subsampling': 0} if kind == 'JPEG' else {}
    result = images.square(encode(image, kind, exif=exif, **options), 32)
    difference = np.abs(np.asarray(result, int) - upright[:, 4:36])
    assert difference.mean() <= (2 if kind == 'JPEG' else 0)


def test_warp_keeps_the_whole_image():
    image = photograph(40, 20)
    expected = image.resize((16, 16), Image.Resampling.BICUBIC)
    result = images.square(encode(image, 'PNG'), 16, 'warp')
    np.testing.assert_array_equal(np.asarray(result), np.asarray(expected))


def jpeg_of(blocks: np.ndarray) -> bytes:
    """A grey baseline JPEG of given DCT coefficients, int[rows,columns,8,8], q = 1.

    Its Huffman codes all have one length, so that a code is its symbol's number.
    """
    rows, columns = blocks.shape[:2]
    order = sorted(
        ((u, v) for u in range(8) for v in range(8)),
        key=lambda p: (sum(p), p[0] if sum(p) % 2 else p[1]),
    )
    ac_symbols = [0] + [16 * run + size for run in range(16) for size in range(1, 11)]
    ac_symbols.append(0xF0)  # 16 zeros
    bits = []

    def put(value: int) -> str:
        size = int(abs(value)).bit_length()
        return f'{value if value > 0 else value + 2**size - 1:0{size}b}' * (size > 0)

    previous = 0
    for block in blocks.reshape(-1, 8, 8).astype(int):
        values = [int(block[p]) for p in order]
        step, previous = values[0] - previous, values[0]
        bits.append(f'{abs(step).bit_length():04b}' + put(step))
        run = 0
        for value in values[1:]:
            if not value:
                run += 1
                continue
            while run > 15:
                bits.append(f'{ac_symbols.index(0xF0):08b}')
                run -= 16
            symbol = 16 * run + abs(value).bit_length()
            bits.append(f'{ac_symbols.index(symbol):08b}' + put(value))
            run = 0
        if run:
            bits.append(f'{0:08b}')
    stream = ''.join(bits)
    stream += '1' * (-len(stream) % 8)
    scan = int(stream, 2).to_bytes(len(stream) // 8, 'big').replace(b'\xff', b'\xff\0')

    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack('>BBH', 0xFF, marker, len(content) + 2) + content

    def lengths(of: int, count: int) -> bytes:
        return bytes(count if n == of else 0 for n in range(1, 17))

    return b''.join(
        (
            b'\xff\xd8',
            segment(0xDB, b'\0' + b'\1' * 64),
            segment(
                0xC0, struct.pack('>BHHB3B', 8, 8 * rows, 8 * columns, 1, 1, 17, 0)
            ),
            segment(0xC4, b'\0' + lengths(4, 12) + bytes(range(12))),
            segment(0xC4, b'\x10' + lengths(8, len(ac_symbols)) + bytes(ac_symbols)),
            segment(0xDA, bytes((1, 1, 0, 0, 63, 0))),
            scan,
            b'\xff\xd9',
        )
    )


def test_both_decoders_use_the_accurate_dct():
    frequency = np.add.outer(np.arange(8), np.arange(8))
    rng = np.random.default_rng(0)
    blocks = rng.normal(0, 120 / (1 + frequency), (8, 8, 8, 8)).round().astype(int)
    basis = np.cos(np.outer(np.arange(8), 2 * np.arange(8) + 1) * np.pi / 16) / 2
    basis[0] /= np.sqrt(2)
    exact = (basis.T @ blocks @ basis).swapaxes(1, 2).reshape(64, 64) + 128
    exact = exact.clip(0, 255)[..., None]
    encoded = jpeg_of(blocks)
    preparation = np.asarray(images.square(encoded, 64))
    reading = simplejpeg.decode_jpeg(encoded, 'RGB')  # as the pipeline calls it
    fast = simplejpeg.decode_jpeg(encoded, 'RGB', fastdct=True)
    assert np.abs(preparation - exact).max() < 1
    assert np.abs(reading - exact).max() < 1
    assert np.abs(fast - exact).max() > 2  # the fast one would be noticed


def test_pixels_in_training_are_those_of_the_statistics(tmp_path):
    for name in ('cat', 'dog'):
        (tmp_path / 'photos' / 'train' / name).mkdir(parents=True)
        for i in range(3):  # noise, at 4:2:0: the hardest for a decoder
            pixels = np.random.default_rng(i).integers(0, 256, (70, 64, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f'photos/train/{name}/{i}.png')
    data = data_config(tmp_path, data_dir=str(tmp_path / 'photos'), stored_size=64)
    data.update(encoding='jpeg', jpeg_quality=90, crop_size=64, validation_split='')
    dataset = prepare.open_prepared(data)
    batch = next(pipeline.eval_batches(dataset, data, split='train', batch_size=6))
    builder = tfds.builder_from_directory(dataset.directory)
    raw = builder.as_data_source(
        'train', decoders={'image': tfds.decode.SkipDecoding()}
    )
    for example, pixels in zip(raw, batch['image'], strict=True):
        expected = np.asarray(Image.open(io.BytesIO(example['image'])), int)
        assert np.abs(pixels - expected).max() <= 1
    np.testing.assert_allclose(dataset.mean_image, batch['image'].mean(0), atol=0.5)


@pytest.mark.parametrize('size', [(1, 1), (2000, 1), (3, 500)])
def test_extreme_sizes_become_square(size):
    assert images.square(encode(photograph(*size), 'PNG'), 8).size == (8, 8)


def test_reduction_does_not_alias():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255  # one pixel wide: grey from afar
    result = np.asarray(images.square(encode(Image.fromarray(stripes), 'PNG'), 32))
    assert np.abs(result[4:-4, 4:-4].astype(int) - 127).max() <= 4


# Whole preparations.


def test_folder_holds_every_image_with_its_class(folder, tmp_path):
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    dataset = prepare.open_prepared(data)
    assert dataset.class_names == ('cat', 'dog')
    assert dataset.num_classes == 2
    assert dataset.split_sizes == {'train': 12, 'validation': 6}
    examples = stored(dataset, 'train')
    for example, file in zip(examples, by_hash(folder, 'train'), strict=True):
        assert dataset.class_names[example['label']] == file.parent.name
        expected = images.square(file.read_bytes(), 16)
        np.testing.assert_array_equal(example['image'], np.asarray(expected))


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
    index = by_hash(folder, 'train').index(source)
    np.testing.assert_array_equal(
        stored(dataset, 'train')[index]['image'], np.asarray(Image.open(source))
    )


def test_changed_folder_is_prepared_again_and_an_unchanged_one_is_not(folder, tmp_path):
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    first = prepare.open_prepared(data)

    def written() -> dict[str, int]:
        # But for the times of the folder's directories, which a later start may add.
        names = {p.name for p in first.directory.iterdir()} - {'source.json'}
        return {name: (first.directory / name).stat().st_mtime_ns for name in names}

    before = written()
    assert prepare.open_prepared(data).directory == first.directory
    assert written() == before
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
    monkeypatch.setattr(shards, 'SHARD_EXAMPLES', 3)
    whole = prepare.open_prepared(data)
    data.prepared_dir = str(tmp_path / 'killed')
    encode_image = images.encode
    calls = []

    def killed_at_the_eighth(*args):
        if len(calls) == 7:
            raise KeyboardInterrupt
        calls.append(args)
        return encode_image(*args)

    monkeypatch.setattr(images, 'encode', killed_at_the_eighth)
    with pytest.raises(KeyboardInterrupt):
        prepare.open_prepared(data)
    with pytest.raises(ValueError, match='not prepared'):
        prepare.open_prepared(data, prepare_missing=False)
    done = []
    monkeypatch.setattr(
        images, 'encode', lambda *args: done.append(args) or encode_image(*args)
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


def test_killed_with_its_workers_it_goes_on_from_the_finished_shard(tmp_path):
    for name in ('cat', 'dog'):
        directory = tmp_path / 'photos' / 'train' / name
        directory.mkdir(parents=True)
        for i in range(128):
            (directory / f'{i:03}.png').write_bytes(
                encode(photograph(16, 16, i), 'PNG')
            )
    *slow, bad = by_hash(tmp_path / 'photos', 'train')[
        -6:
    ]  # of the second of two shards
    large = encode(Image.new('RGB', (5000, 5000)), 'PNG')  # a second or so to decode
    for file in slow:
        file.write_bytes(large)
    bad.write_bytes(b'')
    flags = ['--source=folder', '--skip_bad', '--workers=2']
    flags += [
        f'--config.data.{key}={value}'
        for key, value in {
            'data_dir': tmp_path / 'photos',
            'prepared_dir': tmp_path / 'prepared',
            'validation_split': '',
            'stored_size': 16,
        }.items()
    ]
    command = ('-m', 'alexnet_jax.prepare', *flags)
    killed = start(*command)
    try:
        deadline = time.monotonic() + 300
        while not (done := list(tmp_path.glob('prepared/*/*/.*00002.npz'))):
            assert killed.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        children = Path(f'/proc/{killed.pid}/task/{killed.pid}/children')
        workers = [Path('/proc') / pid for pid in children.read_text().split()]
    finally:
        killed.kill()
        killed.communicate()
    deadline = time.monotonic() + 60
    while any(w.exists() and 'State:\tZ' not in state(w) for w in workers):
        assert time.monotonic() < deadline  # none is left behind
        time.sleep(0.05)
    shard = done[0].with_name(done[0].name[1 : -len('.npz')])
    written = shard.stat().st_mtime_ns
    done = run(*command)
    assert 'train: 255 images, 1 left out, listed in ' in done.out
    assert shard.stat().st_mtime_ns == written
    assert not list(shard.parent.glob('.*.tmp'))  # what the killed one was writing


def state(process: Path) -> str:
    try:
        return (process / 'status').read_text()
    except OSError:  # gone between the two looks
        return 'State:\tZ'


def add_undecodable(folder: Path) -> None:
    whole = (folder / 'train' / 'cat' / '0.jpg').read_bytes()
    (folder / 'train' / 'cat' / 'bad.jpg').write_bytes(whole[:200])
    (folder / 'train' / 'cat' / 'empty.png').touch()


def test_undecodable_images_stop_the_preparation_and_are_listed(folder, tmp_path):
    add_undecodable(folder)
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    with pytest.raises(ValueError, match=r'2 images .*bad\.jpg.* --skip_bad') as error:
        prepare.open_prepared(data)
    assert '\n' not in str(error.value)
    (report,) = tmp_path.glob('prepared/*/1.0.0/undecodable-train.txt')
    assert str(report) in str(error.value)
    truncated, empty = sorted(report.read_text().splitlines())
    assert re.match(r'train/cat/bad\.jpg: .*[tT]runcated', truncated)
    assert empty == 'train/cat/empty.png: no image format that Pillow knows'
    with pytest.raises(ValueError, match='not prepared'):
        prepare.open_prepared(data, prepare_missing=False)


@pytest.mark.parametrize('shard_examples', [1, 3, 100])  # 1: shards with no record
def test_skipped_images_stay_out_of_every_count(
    folder, tmp_path, monkeypatch, shard_examples
):
    monkeypatch.setattr(shards, 'SHARD_EXAMPLES', shard_examples)
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    clean = prepare.open_prepared(data)
    add_undecodable(folder)
    prepare.prepare(data, prepare.open_source(data), skip_bad=True)
    for _ in range(2):  # and when it is opened again
        dataset = prepare.open_prepared(data)
        assert dataset.split_sizes == {'train': 12, 'validation': 6}
        assert dataset.left_out == {'train': 2, 'validation': 0}
    np.testing.assert_array_equal(dataset.mean_image, clean.mean_image)
    for split in ('train', 'train[5:]', 'validation'):
        got, expected = stored(dataset, split), stored(clean, split)
        assert len(got) == len(expected) == pipeline.num_examples(dataset, split)
        for example, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(example['image'], other['image'])
    lines = (dataset.directory / 'undecodable-train.txt').read_text().splitlines()
    assert len(lines) == 2


def test_what_a_killed_run_skipped_stops_one_that_must_not_skip(
    folder, tmp_path, monkeypatch
):
    add_undecodable(folder)
    monkeypatch.setattr(shards, 'SHARD_EXAMPLES', 3)
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    source = prepare.open_source(data)

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(metadata, 'write', killed)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(data, source, skip_bad=True)
    with pytest.raises(ValueError, match=r'2 images .* cannot be decoded'):
        prepare.prepare(data, source)
    prepare.prepare(data, source, skip_bad=True)
    assert prepare.open_prepared(data).left_out['train'] == 2


def test_a_split_without_any_good_image_is_refused(folder, tmp_path):
    for file in (folder / 'validation').glob('*/*'):
        file.write_bytes(b'')
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    with pytest.raises(ValueError, match="no image of the split 'validation'"):
        prepare.prepare(data, prepare.open_source(data), skip_bad=True)


def test_missing_examples_and_damaged_shards_are_errors(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, 'SHARD_EXAMPLES', 3)
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    read = folders.FolderRows.read
    with monkeypatch.context() as patch:
        patch.setattr(folders.FolderRows, 'read', lambda rows: list(read(rows))[:-1])
        with pytest.raises(ValueError, match=r'gave 2 examples for train\[0:3\]'):
            prepare.open_prepared(data)

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(metadata, 'write', killed)
        with pytest.raises(KeyboardInterrupt):
            prepare.open_prepared(data)
    shard, *_ = sorted(tmp_path.glob('prepared/*/1.0.0/photos-train*'))
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(ValueError, match=r'instead of 3; remove it and run'):
        prepare.open_prepared(data)
    shard.unlink()
    (shard.parent / f'.{shard.name}.npz').write_bytes(b'')  # as a power cut may
    assert prepare.open_prepared(data).split_sizes['train'] == 12


def test_photograph_that_vanishes_is_named(folder, tmp_path):
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    source = prepare.open_source(data)
    (folder / 'train' / 'dog' / '0.jpg').unlink()
    with pytest.raises(ValueError, match=r"cannot read .*train/dog/0\.jpg': No such"):
        prepare.prepare(data, source)


def test_full_disk_is_foreseen_from_what_is_still_missing(
    folder, tmp_path, monkeypatch
):
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    free = 18 * 16 * 16 * 3  # the records of both splits
    monkeypatch.setattr(
        disk.shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(1, 1, free)
    )
    free -= 1
    with pytest.raises(ValueError, match=r'about 1\.38e-05 GB .* free; make room') as e:
        prepare.open_prepared(data)
    assert '\n' not in str(e.value) and 'prepared_dir' in str(e.value)
    assert not (tmp_path / 'prepared').exists()
    data.validation_split = ''
    prepare.open_prepared(data)  # only the training split: there is room
    data.validation_split = 'validation'
    free = 6 * 16 * 16 * 3
    assert prepare.open_prepared(data).split_sizes['validation'] == 6


def test_warped_set_is_another_than_the_cropped_one(folder, tmp_path):
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    cropped = prepare.open_prepared(data)
    assert re.fullmatch(r'photos-16-raw-[0-9a-f]{8}', cropped.directory.parent.name)
    data.fit = 'warp'
    warped = prepare.open_prepared(data)
    assert re.fullmatch(r'photos-16warp-raw-\w{8}', warped.directory.parent.name)
    widest = Image.open(folder / 'train' / 'cat' / '5.JPEG')
    expected = widest.resize((16, 16), Image.Resampling.BICUBIC)
    index = by_hash(folder, 'train').index(folder / 'train' / 'cat' / '5.JPEG')
    np.testing.assert_array_equal(stored(warped, 'train')[index]['image'], expected)
    folder.rename(tmp_path / 'elsewhere')
    assert prepare.open_prepared(data).directory == warped.directory
    data.fit = 'crop'
    assert prepare.open_prepared(data).directory == cropped.directory


def test_mean_image_and_colour_pca_are_plain_files_too(folder, tmp_path):
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    dataset = prepare.open_prepared(data)
    mean = np.load(dataset.directory / 'mean_image-train.npy')
    np.testing.assert_array_equal(mean, dataset.mean_image)
    picture = Image.open(dataset.directory / 'mean_image-train.png')
    assert np.abs(np.asarray(picture) - mean).max() <= 0.5
    pca = json.loads((dataset.directory / 'colour_pca-train.json').read_text())
    assert pca['images'] == 12 and pca['splits'] == ['train']
    np.testing.assert_allclose(pca['mean_colour'], mean.mean((0, 1)), rtol=1e-5)
    pixels = np.stack([e['image'] for e in stored(dataset, 'train')]).reshape(-1, 3)
    along = (pixels - pixels.mean(0)) @ np.array(pca['components'])[0]
    assert along.std() == pytest.approx(pca['standard_deviations'][0], rel=1e-4)
    assert along.var() == pytest.approx(pca['variances'][0], rel=1e-4)


# The order of a source, and slices of it.


def tiny_folder(root: Path, files: Iterable[int], classes: int = 4) -> None:
    """Images 1×1 `train/<i mod classes>/<i>.png`, each of a colour of its own."""
    for i in files:
        directory = root / 'train' / f'class{i % classes}'
        directory.mkdir(parents=True, exist_ok=True)
        colour = (i % classes, i // 256, i % 256)
        Image.new('RGB', (1, 1), colour).save(directory / f'{i}.png')


def tiny_config(tmp_path: Path, **values) -> ConfigDict:
    data = data_config(tmp_path, stored_size=1, crop_size=1, validation_split='')
    data.update(values)
    return data


def read(data: ConfigDict, split: str) -> tuple[list[int], np.ndarray]:
    """The images (`tiny_folder`) and labels of a split as the pipeline reads them."""
    dataset = prepare.open_prepared(data)
    count = pipeline.num_examples(dataset, split)
    (batch,) = pipeline.eval_batches(dataset, data, split=split, batch_size=count)
    pixels = batch['image'][:, 0, 0].astype(int)
    return (256 * pixels[:, 1] + pixels[:, 2]).tolist(), batch['label']


def assert_in_proportion(labels: np.ndarray, classes: int, share: float) -> None:
    """Each class has its share of `labels`, within four standard deviations."""
    expected = len(labels) / classes
    counts = np.bincount(labels, minlength=classes)
    deviation = np.sqrt(expected * (1 - share))
    assert np.abs(counts - expected).max() < 4 * deviation, counts


@pytest.mark.parametrize('unit', ['%', ''])
def test_slices_of_a_folder_hold_every_class_in_proportion(tmp_path, unit):
    tiny_folder(tmp_path / 'photos', range(400))
    data = tiny_config(tmp_path, data_dir=str(tmp_path / 'photos'))
    half = '50%' if unit else '200'
    (first, labels), (second, other_labels) = (
        read(data, f'train[:{half}]'),
        read(data, f'train[{half}:]'),
    )
    assert sorted(first + second) == list(range(400))
    assert 150 < len(first) < 250
    assert_in_proportion(labels, 4, 0.5)
    assert_in_proportion(other_labels, 4, 0.5)


def test_files_that_are_added_move_none_of_the_others(tmp_path):
    folder = tmp_path / 'photos'
    data = tiny_config(tmp_path, data_dir=str(folder))
    tiny_folder(folder, range(300))
    order, _ = read(data, 'train')
    training, _ = read(data, 'train[:90%]')
    validation, _ = read(data, 'train[-10%:]')
    assert validation == read(data, 'train[90%:]')[0]
    assert order == training + validation
    tiny_folder(folder, range(300, 420))
    tiny_folder(folder, range(420, 600), classes=1)  # all of one class
    new_order, _ = read(data, 'train')
    assert len(new_order) == 600
    assert [i for i in new_order if i < 300] == order
    assert set(training) < set(read(data, 'train[:90%]')[0])
    assert set(validation) < set(read(data, 'train[90%:]')[0])


def test_a_percentage_counts_without_the_images_left_out(tmp_path):
    folder = tmp_path / 'photos'
    tiny_folder(folder, range(100))
    data = tiny_config(tmp_path, data_dir=str(folder))
    good, _ = read(data, 'train[:50%]')
    for name in range(40):
        (folder / 'train' / 'class0' / f'bad{name}.png').write_bytes(b'')
    prepare.prepare(data, prepare.open_source(data), skip_bad=True)
    assert read(data, 'train[:50%]')[0] == good


def as_tfds_set(directory: Path, count: int, *, disable_shuffling: bool) -> None:
    """A TFDS set in array_record files, as generated: class by class."""
    info = tfds.core.DatasetInfo(
        builder=dataset_info.DatasetIdentity(
            name='byclass',
            version=tfds.core.Version('1.0.0'),
            data_dir=str(directory),
            module_name='',
        ),
        features=tfds.features.FeaturesDict(
            {
                'image': tfds.features.Image(shape=(1, 1, 3), encoding_format='png'),
                'label': tfds.features.ClassLabel(num_classes=4),
            }
        ),
        disable_shuffling=disable_shuffling,
    )
    directory.mkdir(parents=True)
    template = tfds.core.ShardedFileTemplate(
        data_dir=tfds.core.Path(directory),
        dataset_name='byclass',
        split='train',
        filetype_suffix='array_record',
    )
    path = str(template.sharded_filepath(shard_index=0, num_shards=1))
    writer = array_record_module.ArrayRecordWriter(path, 'group_size:1')
    for i in range(count):
        pixels = np.array([[[0, i // 256, i % 256]]], np.uint8)
        example = {'image': pixels, 'label': 4 * i // count}
        writer.write(
            info.features.serialize_example(info.features.encode_example(example))
        )
    writer.close()
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    info.set_splits(
        tfds.core.splits.SplitDict(
            [
                tfds.core.SplitInfo(
                    name='train',
                    shard_lengths=[count],
                    num_bytes=1,
                    filename_template=template,
                )
            ]
        )
    )
    info.write_to_directory(directory)


def test_slices_of_an_unshuffled_tfds_set_hold_every_class_in_proportion(tmp_path):
    as_tfds_set(tmp_path / 'tfds/byclass/1.0.0', 400, disable_shuffling=True)
    data = tiny_config(tmp_path, source='byclass', data_dir=str(tmp_path / 'tfds'))
    dataset = prepare.open_prepared(data)
    assert dataset.class_names == ('0', '1', '2', '3')
    (first, labels), (second, other_labels) = (
        read(data, 'train[:50%]'),
        read(data, 'train[50%:]'),
    )
    assert len(first) == 200  # TFDS's meaning: half of the examples
    assert sorted(first + second) == list(range(400))
    assert labels.tolist() == [i // 100 for i in first]
    assert_in_proportion(labels, 4, 0.5)
    assert_in_proportion(other_labels, 4, 0.5)
    stream = pipeline.train_batches(dataset, data, batch_size=400, seed=0, first_step=0)
    pixels = next(stream)['image'][:, 0, 0].astype(int)
    assert sorted(256 * pixels[:, 1] + pixels[:, 2]) == list(range(400))


def test_a_shuffled_tfds_set_is_read_as_it_lies(tmp_path):
    as_tfds_set(tmp_path / 'tfds/byclass/1.0.0', 40, disable_shuffling=False)
    data = tiny_config(tmp_path, source='byclass', data_dir=str(tmp_path / 'tfds'))
    assert read(data, 'train[:10]')[0] == list(range(10))


# Starts on a prepared folder.


def age(folder: Path) -> None:
    """Let a folder's directories be as old as those of a set collected long ago."""
    for directory in (folder, *folder.glob('*'), *folder.glob('*/*')):
        if directory.is_dir():
            os.utime(directory, (1e9, 1e9))


@contextlib.contextmanager
def looks(folder: Path) -> Iterator[dict[str, set[str]]]:
    """Within a folder, the paths that os.stat, os.scandir and os.listdir are given."""
    seen = {name: set() for name in ('stat', 'scandir', 'listdir')}

    def noting(name: str, call: Callable) -> Callable:
        def noted(path='.', *args, **kwargs):
            if isinstance(path, (str, os.PathLike)):
                path = Path(path)
                if path.is_relative_to(folder):
                    seen[name].add(str(path.relative_to(folder)))
            return call(path, *args, **kwargs)

        return noted

    with pytest.MonkeyPatch.context() as patch:
        for name in seen:
            patch.setattr(os, name, noting(name, getattr(os, name)))
        yield seen


def test_a_start_on_a_prepared_folder_looks_at_its_directories_alone(tmp_path):
    folder = tmp_path / 'photos'
    tiny_folder(folder, range(60))
    age(folder)
    directories = {'.', 'train', *(f'train/class{i}' for i in range(4))}
    start = {'stat': directories, 'scandir': set(), 'listdir': set()}
    data = tiny_config(tmp_path, data_dir=str(folder))
    with looks(folder) as seen:
        first = prepare.open_prepared(data)
    assert seen['scandir'] == directories
    with looks(folder) as seen:
        assert prepare.open_prepared(data).directory == first.directory
    assert seen == start
    # A directory changes, but not what is in it: it is listed once more.
    os.utime(folder / 'train' / 'class1', (1.1e9, 1.1e9))
    with looks(folder) as seen:
        assert prepare.open_prepared(data).directory == first.directory
    assert seen['scandir'] == directories
    with looks(folder) as seen:
        assert prepare.open_prepared(data).directory == first.directory
    assert seen == start


@pytest.mark.parametrize('change', ['add', 'remove', 'rename', 'add a class'])
def test_a_change_of_a_prepared_folder_is_seen(tmp_path, change):
    folder = tmp_path / 'photos'
    tiny_folder(folder, range(20))
    age(folder)
    data = tiny_config(tmp_path, data_dir=str(folder))
    first = prepare.open_prepared(data)
    file = folder / 'train' / 'class1' / '1.png'
    if change == 'add':
        shutil.copy(file, file.with_name('new.png'))
    elif change == 'remove':
        file.unlink()
    elif change == 'rename':
        file.rename(file.with_name('renamed.png'))
    else:
        shutil.copytree(file.parent, folder / 'train' / 'class9')
    second = prepare.open_prepared(data)
    assert second.directory != first.directory
    assert second.split_sizes != first.split_sizes or change == 'rename'


def test_a_directory_changed_just_now_is_listed_again(tmp_path, monkeypatch):
    """A second change within a tick of the clock leaves the same time."""
    monkeypatch.setattr(listing, 'SETTLED_NS', 3600 * 10**9)  # of a slow machine too
    folder = tmp_path / 'photos'
    tiny_folder(folder, range(20))
    data = tiny_config(tmp_path, data_dir=str(folder))
    first = prepare.open_prepared(data)
    directory = folder / 'train' / 'class1'
    changed = directory.stat().st_mtime_ns
    shutil.copy(directory / '1.png', directory / 'new.png')
    os.utime(directory, ns=(changed, changed))
    assert prepare.open_prepared(data).directory != first.directory


def test_a_task_carries_its_own_rows_alone(tmp_path):
    """The bytes that go to a worker grow with its shard, not with the folder."""

    def task_bytes(count: int) -> int:
        names = [(b'%08d.jpg' % i, 1) for i in range(count)]
        files, _ = folders.order([('cat', names[::2]), ('dog', names[1::2])])
        source = folders.FolderSource(
            'photos',
            tmp_path,
            files.classes,
            {'train': files},
            {'train': 'train'},
            (),
            '',
            {},
        )
        return len(pickle.dumps(source.rows('train', 100, 200)))

    assert task_bytes(20_000) == pytest.approx(task_bytes(1000), rel=0.05)
    assert task_bytes(1000) < 100 * 40


def test_file_names_that_are_not_utf8_are_read(tmp_path):
    for name in ('cat', 'dog'):
        directory = tmp_path / 'photos' / 'train' / name
        directory.mkdir(parents=True)
        with open(os.fsencode(directory) + b'/\xff.png', 'wb') as file:
            file.write(encode(photograph(4, 4), 'PNG'))
    data = tiny_config(tmp_path, data_dir=str(tmp_path / 'photos'))
    dataset = prepare.open_prepared(data)
    assert dataset.split_sizes == {'train': 2}
    named = ['train/cat/\ufffd.png', 'train/dog/\ufffd.png']
    assert sorted(names.of_split(dataset, data, 'train')) == named


def test_damaged_files_whose_names_are_not_utf8_are_listed(tmp_path):
    for name in ('cat', 'dog'):
        directory = tmp_path / 'photos' / 'train' / name
        directory.mkdir(parents=True)
        (directory / 'a.png').write_bytes(encode(photograph(4, 4), 'PNG'))
        with open(os.fsencode(directory) + b'/\xff.png', 'wb') as file:
            file.write(b'junk')
    data = tiny_config(tmp_path, data_dir=str(tmp_path / 'photos'))
    with pytest.raises(ValueError, match=r'2 images .* cannot be decoded'):
        prepare.prepare(data, prepare.open_source(data))


def test_an_image_that_is_left_out_takes_no_other_with_it(tmp_path):
    for name in ('cat', 'dog'):
        directory = tmp_path / 'photos' / 'train' / name
        directory.mkdir(parents=True)
        (directory / 'a.png').write_bytes(encode(photograph(4, 4), 'PNG'))
        (directory / 'a.png copy.png').write_bytes(b'junk')
    data = tiny_config(tmp_path, data_dir=str(tmp_path / 'photos'))
    prepare.prepare(data, prepare.open_source(data), skip_bad=True)
    dataset = prepare.open_prepared(data)
    found = sorted(names.of_split(dataset, data, 'train'))
    assert found == ['train/cat/a.png', 'train/dog/a.png']


# TFDS sets.


def test_shared_cifar10_in_tfrecord_format(shared_data, tmp_path):
    data = data_config(tmp_path, data_dir=str(shared_data / 'tensorflow_datasets'))
    data.update(source='cifar10', stored_size=32, crop_size=24)
    data.train_split = data.validation_split = 'test'  # the small one
    source = prepare.open_source(data)
    assert source.split_sizes == {'train': 50_000, 'test': 10_000}
    assert source.class_names[:2] == ('airplane', 'automobile')
    rows = source.rows('test', 100, 130)
    keys, encoded, labels = zip(*rows.read(), strict=True)
    assert keys[0] == 'test[100]'
    again = list(source.rows('test', 110, 112).read())
    assert [e[1:] for e in again] == [
        (encoded[i], labels[i]) for i in (10, 11)
    ]  # ranges are exact
    dataset = prepare.open_prepared(data)
    assert dataset.split_sizes == {'test': 10_000}
    example = stored(dataset, 'test[100:101]')[0]
    np.testing.assert_array_equal(
        example['image'], np.asarray(Image.open(io.BytesIO(encoded[0])))
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


def test_real_imagenet_builder_on_stand_in_tars(tmp_path, capsys, monkeypatch):
    data = data_config(tmp_path, data_dir=str(tmp_path / 'tfds'))
    data.update(source='imagenet2012', stored_size=32, crop_size=28, encoding='jpeg')
    with pytest.raises(
        ValueError, match=r'_img_train\.tar and ILSVRC2012_img_val\.tar'
    ) as e:
        prepare.open_prepared(data)
    assert str(tmp_path / 'tfds' / 'downloads' / 'manual') in str(e.value)
    imagenet_tars(tmp_path / 'tfds' / 'downloads' / 'manual')
    with monkeypatch.context() as patch:
        full = shutil._ntuple_diskusage(1, 1, 0)
        patch.setattr(disk.shutil, 'disk_usage', lambda path: full)
        with pytest.raises(
            ValueError, match=r'0 GB are free; .* config\.data\.data_dir'
        ):
            prepare.open_prepared(data)
    dataset = prepare.open_prepared(data)
    printed = capsys.readouterr()
    assert printed.out == f'TFDS prepares imagenet2012 in {tmp_path / "tfds"}\n'
    warnings = [x for x in printed.err.splitlines() if 'published' in x]
    assert len(warnings) == 2
    assert re.search('1,281,167 images in train, 12 were prepared', warnings[0])
    assert re.search('50,000 images in validation, 5 were prepared', warnings[1])
    rows = prepare.open_source(data).rows('validation', 0, 1)
    keys = [key for key, *_ in rows.read()]
    assert re.fullmatch(r'validation\[0\] ILSVRC2012_val_0+\d\.JPEG', keys[0])
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
    assert command.startswith('python -m alexnet_jax.prepare --source=folder ')
    done = run(*command.split()[1:], '--workers=2')
    assert 'train: 12 images' in done.out
    dataset = prepare.open_prepared(data)
    assert f'prepared: {dataset.directory}' in done.out


# Bad input.


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'data_dir': '/nowhere/photos'}, 'no folder of images at .*/nowhere/photos'),
        ({'train_split': 'training'}, "no split 'training'; it has train, validation"),
        (
            {'train_split': 'train[:'},
            "train_split='train\\[:': expected splits such",
        ),
        ({'train_split': ''}, "train_split='': expected"),
        ({'fit': 'stretch'}, "fit='stretch': expected one of 'crop', 'warp'"),
        ({'encoding': 'webp'}, "encoding='webp': expected one of 'raw', 'jpeg'"),
        ({'source': 'cifer10'}, 'did you mean cifar10'),
        (
            {'source': 'mnist'},
            r'add --config\.data\.download=True to the same command[^-]*GB$',
        ),
        (
            {'data_dir': 'gs://photos'},
            r"data_dir='gs://photos': expected a folder",
        ),
        ({'prepared_dir': 's3://mine/x'}, "prepared_dir='s3://mine/x': expected a"),
    ],
)
def test_bad_values_are_one_line(folder, tmp_path, values, message):
    values = {'data_dir': str(folder), 'stored_size': 16, 'crop_size': 16} | values
    data = data_config(tmp_path)
    data.update(values)

    def open_data() -> None:
        config_lib.validate_data(data)  # as every command does first
        prepare.open_prepared(data)

    with pytest.raises(ValueError, match=message) as error:
        open_data()
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
    photograph(16, 16).save(tmp_path / 'f' / 'train' / 'cow' / '0.png')
    with pytest.raises(ValueError, match=r"different classes; only 'val.* of dog"):
        prepare.open_prepared(data)


def test_unwritable_prepared_dir_is_one_line(folder, tmp_path):
    (tmp_path / 'prepared').write_text('a file')
    data = data_config(tmp_path, data_dir=str(folder), stored_size=16, crop_size=16)
    with pytest.raises(ValueError, match=r'cannot write .*prepared_dir'):
        prepare.open_prepared(data)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([CLOTHING, 'extra'], 'extra'),
        ([CLOTHING, '--config.data.stored_sizes=3'], 'stored_size'),
        ([CLOTHING, '--workers=0'], '--workers=0'),
        ([CLOTHING, '--config.data.data_dir=/nowhere'], '/nowhere'),
        ([], '--source=NAME or --config=NAME is needed'),
        (['--source=cifer10'], 'did you mean cifar10'),
        (['--source=mnist', '--config.data.source=mnist'], 'give one'),
    ],
)
def test_command_line_ends_in_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
    assert message in run_here('alexnet_jax.prepare', *arguments).error
