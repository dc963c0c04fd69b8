"""The files of `torch.save` and `torch.load`, without torch: named arrays in and out.

What `torch.load(weights_only=True)` reads of them: a dict of tensors, as
`module.state_dict()` gives it. Since PyTorch 1.6 such a file is a zip archive, not
compressed, of a pickle and a file for each tensor's memory; before, it was several
pickles and the memory behind one another. Nothing of a file is executed
(`pickles.load`), and every size is compared with the file before memory is taken.
"""

import io
import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from alexnet_jax.formats import pickles
from alexnet_jax.system import files

Arrays = dict[str, np.ndarray]

_STORAGES = {
    'torch FloatStorage': np.dtype('<f4'),
    'torch HalfStorage': np.dtype('<f2'),
    'torch BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
    'torch LongStorage': np.dtype('<i8'),  # counters, such as num_batches_tracked
}
_MOST_PICKLE = 16 << 20  # bytes of the pickle in an archive; torchvision's has 2 kB
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the files before 1.6


def read(path: Path) -> Arrays:
    """Reads the state dict of a .pth file.

    It may lie under `state_dict` or `model`, as checkpoints have it, and its names may
    begin with `module.`, as `DataParallel` has them.

    Returns:
      Views by name, of the memory that the file has for them.

    Raises:
      ValueError: it is none, is damaged, or holds more than a dict of tensors.
    """
    try:
        read = _read_archive if zipfile.is_zipfile(path) else _read_legacy
        found = read(path)
    except (
        ValueError, OverflowError, NotImplementedError, zipfile.BadZipFile, EOFError,
        OSError, struct.error, zlib.error,
    ) as error:  # fmt: skip
        raise ValueError(f'{path}: {error}') from error
    for key in ('state_dict', 'model'):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(value, np.ndarray)
        for name, value in found.items()
    ):
        raise ValueError(
            f'{path} holds no dict of tensors; save one with '
            'torch.save(module.state_dict(), FILE)'
        )
    return {name.removeprefix('module.'): value for name, value in found.items()}


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict of float32 tensors that `torch.load` reads."""
    with (
        files.whole(path) as temporary,
        zipfile.ZipFile(temporary, 'w', zipfile.ZIP_STORED) as archive,
    ):
        archive.writestr('archive/data.pkl', pickle_of(arrays))
        archive.writestr('archive/byteorder', 'little')
        for number, array in enumerate(arrays.values()):
            little = np.ascontiguousarray(array, '<f4')
            archive.writestr(f'archive/data/{number}', little.data)
        archive.writestr('archive/version', '3\n')


class _Storage:
    """The memory of one or more tensors, which is there when `data` is."""

    def __init__(self, dtype: np.dtype, count: int):
        self.dtype, self.count = dtype, count
        self.data: np.ndarray | None = None


class _Tensor:
    """A view of a storage, made once all storages are read."""

    def __init__(
        self, storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any
    ):
        numbers = (offset, *shape, *strides)
        if not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise ValueError('a tensor has a shape that is none')
        if len(shape) != len(strides) or len(shape) > 8:
            raise ValueError(
                f'a tensor has {len(shape)} sides and {len(strides)} steps'
            )
        # As many elements as the memory has, so that a step of 0 makes none of nothing.
        count = math.prod(shape)
        last = offset + sum(
            (n - 1) * step for n, step in zip(shape, strides, strict=True)
        )
        if count and (count > storage.count or last >= storage.count):
            raise ValueError(
                f'a tensor of shape {shape} reaches beyond its {storage.count} values'
            )
        self.storage, self.offset, self.shape, self.strides = (
            storage, offset, shape, strides,
        )  # fmt: skip

    def array(self) -> np.ndarray:
        data = self.storage.data
        assert data is not None
        size = data.itemsize
        return np.lib.stride_tricks.as_strided(
            data[self.offset :], self.shape, [step * size for step in self.strides]
        )

    def set_state(self, state: Any) -> None:
        """A tensor's attributes are left out."""


def _parameter(tensor: _Tensor, *_: Any) -> _Tensor:
    return tensor


def _empty_dict(*arguments: Any) -> dict[str, Any]:
    if arguments:
        raise ValueError('an OrderedDict with arguments')
    return {}


_NAMES: dict[str, Any] = _STORAGES | {
    'collections OrderedDict': _empty_dict,
    'torch._utils _rebuild_tensor_v2': _Tensor,
    'torch._utils _rebuild_parameter': _parameter,
}


def _loader(storages: dict[str, _Storage]) -> Callable[[Any], _Storage]:
    """Makes what stands for a storage in the pickle: each is one object."""

    def storage(identity: Any) -> _Storage:
        kind, dtype, key, _, count, *view = identity
        if kind != 'storage' or not isinstance(dtype, np.dtype) or any(view):
            raise ValueError('a storage of an unknown kind')
        if not isinstance(count, int) or count < 0:
            raise ValueError('a storage of no size')
        found = storages.setdefault(str(key), _Storage(dtype, count))
        if (found.dtype, found.count) != (dtype, count):
            raise ValueError(f'two storages are named {str(key)[:40]!r}')
        return found

    return storage


def _arrays(found: Any, depth: int = 0) -> Any:
    """The tensors in dicts, as arrays; what else a checkpoint has stays as it is."""
    if isinstance(found, _Tensor):
        return found.array()
    if isinstance(found, dict) and depth < 2:
        return {key: _arrays(value, depth + 1) for key, value in found.items()}
    return found


def _read_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickled = [name for name in entries if name.count('/') == 1
                   and name.endswith('/data.pkl')]  # fmt: skip
        if len(pickled) != 1:
            raise ValueError('a zip archive that torch.save did not write')
        folder = pickled[0].removesuffix('data.pkl')
        size = path.stat().st_size

        def contents(name: str) -> bytes:
            entry = entries.get(folder + name)
            if entry is None:
                raise ValueError(f'{name} is missing in it')
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise ValueError(f'{name} in it is compressed or encrypted')
            if entry.file_size > size:
                raise ValueError(f'{name} in it is larger than the file')
            return archive.read(entry)

        if folder + 'byteorder' in entries and contents('byteorder') != b'little':
            raise ValueError('its numbers are not little-endian')
        if entries[pickled[0]].file_size > _MOST_PICKLE:
            raise ValueError('its pickle is too large for a dict of tensors')
        storages: dict[str, _Storage] = {}
        pickled_bytes = io.BytesIO(contents('data.pkl'))
        found = pickles.load(pickled_bytes, _NAMES, _loader(storages))
        wanted = {key: s.count * s.dtype.itemsize for key, s in storages.items()}
        if sum(wanted.values()) > size:
            raise ValueError('its tensors are larger than the file')
        for key, storage in storages.items():
            data = contents(f'data/{key}')
            if len(data) != wanted[key]:
                raise ValueError(
                    f'data/{key} in it has {len(data)} bytes, expected {wanted[key]}'
                )
            storage.data = np.frombuffer(data, storage.dtype)
    return _arrays(found)


def _read_legacy(path: Path) -> Any:
    """Pickles of a magic number, the protocol, sizes, the object and the storages."""
    size = path.stat().st_size
    if not size:
        raise ValueError('it is empty')
    with path.open('rb') as opened, mmap.mmap(
        opened.fileno(), 0, access=mmap.ACCESS_READ
    ) as file:  # fmt: skip
        if file[:2] != b'\x80\x02' or pickles.load(file, {}) != MAGIC:
            raise ValueError('torch.save did not write it')
        if pickles.load(file, {}) != PROTOCOL:
            raise ValueError('it is of an unknown version of torch.save')
        system = pickles.load(file, {})
        if not isinstance(system, dict) or system.get('little_endian') is not True:
            raise ValueError('its numbers are not little-endian')
        storages: dict[str, _Storage] = {}
        found = pickles.load(file, _NAMES, _loader(storages))
        keys = pickles.load(file, {})
        if not isinstance(keys, list) or set(map(str, keys)) != set(storages):
            raise ValueError('it does not list its storages')
        for key in keys:
            storage = storages[str(key)]
            (count,) = struct.unpack('<q', file.read(8))
            wanted = storage.count * storage.dtype.itemsize
            if count != storage.count or wanted > size - file.tell():
                raise ValueError(f'its storage {key} is cut short')
            storage.data = np.frombuffer(file.read(wanted), storage.dtype)
    return _arrays(found)


def pickle_of(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The pickle of an OrderedDict of tensors whose storages are numbered in order."""

    def text(value: str) -> bytes:
        encoded = value.encode()
        return b'X' + struct.pack('<I', len(encoded)) + encoded

    def number(value: int) -> bytes:
        if value < 1 << 31:
            return b'J' + struct.pack('<i', value)
        encoded = value.to_bytes(9, 'little', signed=True)
        return b'\x8a' + bytes([len(encoded)]) + encoded

    def numbers(values: tuple[int, ...]) -> bytes:
        return b'(' + b''.join(map(number, values)) + b't'

    empty_dict = b'ccollections\nOrderedDict\n)R'
    parts = [b'\x80\x02', empty_dict, b'(']
    for index, (name, array) in enumerate(arrays.items()):
        strides = tuple(math.prod(array.shape[i + 1 :]) for i in range(array.ndim))
        parts += [
            text(name),
            b'ctorch._utils\n_rebuild_tensor_v2\n((',
            text('storage'), b'ctorch\nFloatStorage\n', text(str(index)), text('cpu'),
            number(array.size), b'tQ',
            number(0), numbers(array.shape), numbers(strides),
            b'\x89', empty_dict, b'tR',
        ]  # fmt: skip
    return b''.join([*parts, b'u.'])
