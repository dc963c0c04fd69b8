"""torchvision's alexnet in and out, and what a .pth file may not do."""

import dataclasses
import errno
import io
import os
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from alexnet_jax import model
from alexnet_jax.formats import registry, torch_files, torchvision
from alexnet_jax.formats.weights import UnknownNetworkError, Weights
from tests.conftest import REPOSITORY, run_here
from tests.formats import bit_equal, make_weights
from tests.reference_numpy import relative_error


@pytest.fixture(scope='module')
def weights() -> Weights:
    found = make_weights('one_tower:torchvision', classes=5)
    return Weights(found.table, found.params, (), torchvision.preprocessing(), 'here')


@pytest.fixture(scope='module')
def in_file(weights, tmp_path_factory) -> Path:
    (path,) = registry.write(weights, tmp_path_factory.mktemp('pth') / 'a.pth')
    return path


def test_the_state_dict_comes_back_bit_for_bit(weights, in_file):
    again = registry.read(in_file)
    assert bit_equal(again, weights) and again.network == weights.network
    assert again.preprocessing.scale[0] == pytest.approx(1 / (255 * 0.229))
    assert again.preprocessing.mean_image[7, 9, 2] == pytest.approx(255 * 0.406)


def test_another_network_is_not_written(tmp_path):
    with pytest.raises(ValueError, match='one_tower:torchvision alone'):
        registry.write(make_weights('caffe', width=0.125), tmp_path / 'a.pth')
    assert not list(tmp_path.iterdir())


def test_crops_of_another_size_are_not_written(weights, tmp_path):
    seen = dataclasses.replace(weights.preprocessing, crop_size=220)
    other = dataclasses.replace(weights, preprocessing=seen)
    with pytest.raises(ValueError, match='sees 224 pixels and here sees 220'):
        registry.write(other, tmp_path / 'a.pth')


def test_a_write_that_fails_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    path = tmp_path / 'a.pth'
    path.write_bytes(b'old')
    monkeypatch.setattr(zipfile.ZipFile, 'writestr', full)
    with pytest.raises(OSError, match='No space'):
        torch_files.write(path, {})
    assert path.read_bytes() == b'old' and list(tmp_path.iterdir()) == [path]


def test_another_network_is_refused_with_both_tables(in_file, tmp_path):
    arrays = torch_files.read(in_file)
    arrays['features.3.weight'] = np.zeros((256, 48, 5, 5), np.float32)  # Caffe's
    torch_files.write(tmp_path / 'a.pth', arrays)
    with pytest.raises(UnknownNetworkError) as refused:
        registry.read(tmp_path / 'a.pth')
    assert '5×5×48×256' in refused.value.table


@pytest.mark.peers
@pytest.mark.parametrize('form', ['state dict', 'legacy checkpoint of halves'])
def test_what_torch_saves_is_read(form, tmp_path):
    here = pytest.importorskip('tests.torchvision_here', reason='needs torchvision')
    torch = here.torch
    theirs = here.alexnet(num_classes=5).eval()
    path = tmp_path / 'a.pth'
    if form == 'state dict':
        torch.save(theirs.state_dict(), path)
    else:
        theirs.half().float()  # the values that a half has
        halves = {f'module.{k}': v.half() for k, v in theirs.state_dict().items()}
        state = {'epoch': 3, 'state_dict': halves}
        torch.save(state, path, _use_new_zipfile_serialization=False)
    found = registry.read(path)
    images = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype(np.float32)
    ours = jax.jit(model.merge(found.network, found.params).__call__)(images)
    with torch.no_grad():
        expected = theirs(torch.tensor(images.transpose(0, 3, 1, 2)))
    assert relative_error(ours, expected) <= 1e-5


@pytest.mark.peers
def test_torchvision_takes_what_is_written(weights, in_file, tmp_path):
    here = pytest.importorskip('tests.torchvision_here', reason='needs torchvision')
    state = here.torch.load(in_file, weights_only=True)
    theirs = here.alexnet(num_classes=5)
    assert not any(theirs.load_state_dict(state, strict=True))
    here.torch.save(theirs.state_dict(), tmp_path / 'b.pth')
    assert bit_equal(registry.read(tmp_path / 'b.pth'), weights)


@pytest.mark.peers
def test_torchvisions_modules_are_the_taps_of_the_table(weights, in_file):
    here = pytest.importorskip('tests.torchvision_here', reason='needs torchvision')
    page = (REPOSITORY / 'docs' / 'features.md').read_text()
    pairs = {
        module: tap
        for row in re.findall(r'^\| (`(?:features|classifier).*) \|$', page, re.M)
        for module, tap in zip(
            *(re.findall(r'`(.*?)`', cell) for cell in row.split(' | ')), strict=True
        )
    }
    theirs = here.alexnet(num_classes=5).eval()
    theirs.load_state_dict(here.torch.load(in_file, weights_only=True))
    seen = {}
    for name in pairs:
        theirs.get_submodule(name).register_forward_hook(
            # A copy: the next module works in place.
            lambda _, __, made, name=name: seen.update({name: made.numpy().copy()})
        )
    images = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype(np.float32)
    with here.torch.no_grad():
        theirs(here.torch.tensor(images.transpose(0, 3, 1, 2)))
    ours = jax.jit(model.merge(weights.network, weights.params).activations)(images)
    assert len(pairs) == 18
    for name, tap in pairs.items():
        made = np.asarray(ours[tap])
        made = made.transpose(0, 3, 1, 2) if made.ndim == 4 else made
        assert relative_error(made, seen[name]) <= 1e-5, (name, tap)


# What a file may not do.


class Evil:
    def __reduce__(self):
        return eval, ('open("/tmp/never", "w")',)


def archive_of(pickled: bytes, **entries: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('a/data.pkl', pickled)
        for name, content in entries.items():
            archive.writestr(f'a/data/{name[1:]}', content)
    return file.getvalue()


def tensor(count: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """The pickle of one tensor, of a storage that is said to have `count` values."""

    def number(value: int) -> bytes:
        encoded = value.to_bytes(8, 'little')
        return b'\x8a' + bytes([len(encoded)]) + encoded

    def numbers(values: tuple[int, ...]) -> bytes:
        return b'(' + b''.join(map(number, values)) + b't'

    return (
        b'\x80\x02}(X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(('
        b'X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000'
        b'X\x03\x00\x00\x00cpu' + number(count) + b'tQ' + number(0) + numbers(shape)
        + numbers(strides) + b'\x89}tRu.'
    )  # fmt: skip


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a/data.pkl', tensor(1 << 26, (1 << 26,), (1,)))
        archive.writestr('a/data/0', bytes(1 << 26))
    return file.getvalue()


LONG = struct.pack('<I', 1 << 31)
HOSTILE: dict[str, tuple[bytes, str]] = {
    'code': (archive_of(pickle.dumps({'w': Evil()}, 2)), "'__builtin__ eval'"),
    'code in a legacy file': (pickle.dumps(Evil(), 2), "'__builtin__ eval'"),
    'a number for the system in a legacy file': (
        b''.join(pickle.dumps(n, 2) for n in (torch_files.MAGIC, 1001, 7)),
        'not little-endian',
    ),
    'a memo that asks for 32 GB': (
        archive_of(b'\x80\x02Nr' + LONG + b'.'), 'no dict of tensors',
    ),
    'nested': (
        archive_of(b'\x80\x02}' + b'X\x01\0\0\0a}' * 30_000 + b's' * 30_000 + b'.'),
        'no dict of tensors',
    ),
    'a key that takes for ever to hash': (
        archive_of(b'\x80\x02}(' + b')' + b'q\x00h\x00\x86' * 60 + b'K\x01u.'),
        'a key is a tuple',
    ),
    'another instruction': (archive_of(b'\x80\x020.'), 'POP'),
    'no end': (archive_of(b'\x80\x02}'), 'STOP'),
    'text without end': (archive_of(b'\x80\x02X\xff\xff\xff\x7fabc'), 'cannot be read'),
    'a persistent id of another kind': (archive_of(b'\x80\x02)Q.'), 'cannot be read'),
    '10¹² values': (archive_of(tensor(10**12, (10**12,), (1,)), _0=b'1234'), 'larger'),
    'more values than its memory': (
        archive_of(tensor(1, (10**6, 10**6), (0, 0)), _0=b'1234'), 'reaches beyond',
    ),
    'a step out of its memory': (
        archive_of(tensor(4, (2,), (4,)), _0=bytes(16)), 'reaches beyond',
    ),
    'memory that is cut short': (
        archive_of(tensor(2, (2,), (1,)), _0=b'1234'), '4 bytes, expected 8',
    ),
    'memory elsewhere': (
        archive_of(tensor(1, (1,), (1,)), **{'_../../0': b'1234'}), 'data/0 is missing',
    ),
    'a zip bomb': (bomb(), 'compressed'),
    'another archive': (archive_of(b'')[:0] + bomb()[:10] + b'no zip', 'torch.save'),
    'empty': (b'', 'empty'),
}  # fmt: skip


@pytest.mark.parametrize('case', HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(case, tmp_path):
    content, says = HOSTILE[case]
    path = tmp_path / 'a.pth'
    path.write_bytes(content)
    error = run_here('alexnet_jax.weights', 'inspect', path).error
    assert str(path) in error and says in error, error


def test_every_cut_of_a_file_is_refused(in_file, tmp_path):
    content = in_file.read_bytes()
    path = tmp_path / 'a.pth'
    path.write_bytes(content)
    for part in (len(content) - 5, len(content) // 2, 1000, 10):
        os.truncate(path, part)
        with pytest.raises(ValueError, match=r'a\.pth'):
            registry.read(path)


def test_values_that_are_not_finite_are_refused(in_file, tmp_path):
    arrays: dict[str, Any] = dict(torch_files.read(in_file))
    arrays['classifier.6.bias'] = np.full(5, np.nan, np.float32)
    torch_files.write(tmp_path / 'a.pth', arrays)
    with pytest.raises(ValueError, match='not finite'):
        registry.read(tmp_path / 'a.pth')
