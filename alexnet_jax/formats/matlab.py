"""A strict reader of MAT-files of version 5 to 7: numbers, texts, cells, structs.

Every size is checked against what the file holds before anything is made of it, and
nesting and decompression are bounded. "MAT-File Format", The MathWorks, chapter 1.
"""

import mmap
import zlib
from pathlib import Path
from typing import Any

import numpy as np

MOST_BYTES = 600_000_000  # of what is decompressed; AlexNet has 244 million
_MOST_ELEMENTS = 200_000
_DEEPEST = 8
_DTYPES = {
    1: 'i1', 2: 'u1', 3: '<i2', 4: '<u2', 5: '<i4', 6: '<u4', 7: '<f4', 9: '<f8',
    12: '<i8', 13: '<u8', 16: 'u1', 17: '<u2',
}  # fmt: skip
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4


def read(path: Path) -> dict[str, Any]:
    """The variables of a file.

    A matrix of numbers is an array, a text a str, a cell array a list, a struct a dict
    (several in one array: a list of dicts), all in the order of columns.

    Raises:
      ValueError: the file is damaged, or of version 7.3, which is HDF5.
    """
    if path.stat().st_size < 128:
        raise ValueError(f'{path} is no MAT-file: it is shorter than its header')
    with path.open('rb') as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if bytes(content[:10]) == b'MATLAB 7.3' or bytes(content[1:4]) == b'HDF':
        raise ValueError(
            f'{path} is a MAT-file of version 7.3, which is not read here; in MATLAB, '
            "load it and save it with save(…, '-v7')"
        )
    if bytes(content[124:128]) != b'\x00\x01IM':
        raise ValueError(f'{path} is no little-endian MAT-file of version 5')
    try:
        return _Reader().variables(content[128:])
    except (ValueError, zlib.error) as error:
        raise ValueError(f'{path}: {error}') from None


class _Reader:
    """What is left of the bounds of one file."""

    def __init__(self) -> None:
        self.bytes, self.elements = MOST_BYTES, _MOST_ELEMENTS

    def variables(self, content: memoryview) -> dict[str, Any]:
        found = {}
        while content:
            kind, data, content = self.element(content)
            if kind == _COMPRESSED:
                kind, data, _ = self.element(self.decompressed(data))
            if kind != _MATRIX:
                raise ValueError(f'a variable is of type {kind}')
            name, value = self.matrix(data, 0)
            found[name] = value
        return found

    def decompressed(self, data: memoryview) -> memoryview:
        content = zlib.decompressobj().decompress(data, self.bytes + 1)
        self.bytes -= len(content)
        if self.bytes < 0:
            raise ValueError(f'it has more than {MOST_BYTES:,} bytes, compressed')
        return memoryview(content)

    def element(self, content: memoryview) -> tuple[int, memoryview, memoryview]:
        """The type and data of the first element, and what comes after it."""
        self.elements -= 1
        if self.elements < 0:
            raise ValueError(f'it has more than {_MOST_ELEMENTS:,} elements')
        if len(content) < 8:
            raise ValueError('it is cut off')
        kind, size = np.frombuffer(content[:8], '<u4').tolist()
        start = 8
        if kind >> 16:  # the small form: size and type share four bytes
            kind, size, start = kind & 0xFFFF, kind >> 16, 4
            if size > 4:
                raise ValueError(f'a small element has {size} bytes')
        if size > len(content) - start:
            raise ValueError(
                f'an element claims {size:,} bytes, and {len(content) - start:,} are '
                'left'
            )
        end = 8 if start == 4 else start + size
        if kind != _COMPRESSED:
            end += -end % 8
        return kind, content[start : start + size], content[end:]

    def numbers(self, content: memoryview) -> tuple[np.ndarray, memoryview]:
        kind, data, rest = self.element(content)
        if kind not in _DTYPES or len(data) % np.dtype(_DTYPES[kind]).itemsize:
            raise ValueError(f'expected numbers, not {len(data)} bytes of type {kind}')
        return np.frombuffer(data, _DTYPES[kind]), rest

    def integers(self, content: memoryview) -> tuple[list[int], memoryview]:
        found, rest = self.numbers(content)
        if found.dtype.kind not in 'iu':
            raise ValueError('it has fractions where whole numbers stand')
        return found.tolist(), rest

    def matrix(self, content: memoryview, depth: int) -> tuple[str, Any]:
        """The name and value of a matrix."""
        if depth > _DEEPEST:
            raise ValueError(f'it is nested more than {_DEEPEST} deep')
        if not content:  # an empty one within a cell or struct
            return '', np.zeros((0, 0))
        flags, content = self.integers(content)
        shape, content = self.integers(content)
        name, content = self.numbers(content)
        if len(flags) != 2 or not 2 <= len(shape) <= 32 or min(shape) < 0:
            raise ValueError('the head of a matrix is damaged')
        kind = flags[0] & 0xFF
        count = 1
        for extent in shape:
            count *= extent
        named = name.tobytes().decode('latin-1')
        shown = repr(named[:40]) if named else 'a matrix'
        if flags[0] & 0x800:
            raise ValueError(f'{shown} holds complex numbers')
        if kind == _CELL:
            return named, self.cells(content, count, depth)
        if kind == _STRUCT:
            return named, self.structs(content, count, depth)
        if kind != _CHAR and not 6 <= kind <= 15:
            raise ValueError(f'{shown} is of class {kind}')
        if kind == _CHAR:
            codes = self.integers(content)[0] if count else []
            if len(codes) > 100_000 or max(codes, default=0) > 0x10FFFF:
                raise ValueError('a text is too long or none')
            return named, ''.join(map(chr, codes))
        values = self.numbers(content)[0] if count else np.zeros(0)
        if len(values) != count:
            raise ValueError(
                f'{shown} claims {"×".join(map(str, shape))} numbers and '
                f'has {len(values):,}'
            )
        return named, values.reshape(shape, order='F')

    def cells(self, content: memoryview, count: int, depth: int) -> list[Any]:
        found = []
        while len(found) < count:
            kind, data, content = self.element(content)
            if kind != _MATRIX:
                raise ValueError(f'a cell is of type {kind}')
            found.append(self.matrix(data, depth + 1)[1])
        return found

    def structs(self, content: memoryview, count: int, depth: int) -> Any:
        length, content = self.integers(content)
        names, content = self.numbers(content)
        if len(length) != 1 or not 0 < length[0] <= 64:
            raise ValueError('the field names of a struct are damaged')
        text, size = names.tobytes(), length[0]
        fields = [
            text[at : at + size].split(b'\0')[0].decode('latin-1')
            for at in range(0, len(text), size)
        ]
        if count * len(fields) > self.elements:
            raise ValueError('a struct claims more fields than there are')
        values = self.cells(content, count * len(fields), depth)
        made = [
            dict(zip(fields, values[at * len(fields) :], strict=False))
            for at in range(count)
        ]
        return made[0] if count == 1 else made
