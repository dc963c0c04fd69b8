"""The .npy of one dict of arrays, which numpy pickles, read as data (`pickles`)."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.formats import pickles

_MOST_NUMBERS = 1_000_000_000


class _Dtype:
    """float32, float64 or objects; its byte order comes later."""

    def __init__(self, kind: Any, *_: Any):
        if kind not in ('f4', 'f8', 'O8'):
            raise ValueError(f'an array of {str(kind)[:20]!r} is refused')
        self.kind = kind

    def set_state(self, state: Any) -> None:
        """Of the tuple that numpy writes: little-endian and without fields."""
        match state:
            case (int(), '<' | '=' | '|', None, None, None, *_):
                return
        raise ValueError('a dtype is refused')


class _Array:
    """An array whose bytes come later; `made` then holds it."""

    made: Any = None  # an array, or the object of an array that has but one

    def set_state(self, state: Any) -> None:
        """Of the tuple that numpy writes: shape, dtype, order and bytes."""
        match state:
            case (int(), (), _Dtype(kind='O8'), _, [dict(content)]):
                self.made = content
                return
            case (int(), tuple(shape), _Dtype(kind='f4' | 'f8' as kind), columns, data):
                # A str is what Python 2 wrote.
                content = data.encode('latin-1') if isinstance(data, str) else data
            case _:
                raise ValueError('an array is refused')
        size = int(kind[1])
        good = all(type(n) is int and 0 <= n < _MOST_NUMBERS for n in shape)
        if (
            not good
            or not isinstance(content, bytes)
            or math.prod(shape) * size != len(content)
        ):
            raise ValueError(
                f'an array claims {"×".join(map(str, shape))[:80]} numbers of {size} '
                'bytes, and has others'
            )
        flat = np.frombuffer(content, f'<{kind}')
        self.made = flat.reshape(shape, order='F' if columns else 'C')


def _reconstruct(kind: Any, *_: Any) -> _Array:
    if kind is not _Array:
        raise ValueError('it makes what is no array')
    return _Array()


def _encode(text: Any, codec: Any) -> bytes:
    if not isinstance(text, str) or codec != 'latin1':
        raise ValueError('it encodes what is no text')
    return text.encode('latin-1')


_NAMES = {
    'numpy.core.multiarray _reconstruct': _reconstruct,
    'numpy._core.multiarray _reconstruct': _reconstruct,
    'numpy ndarray': _Array,
    'numpy dtype': _Dtype,
    '_codecs encode': _encode,
}


def read(path: Path) -> Any:
    """The dict that `numpy.save` pickled into a .npy; texts are str, whatever Python.

    Raises:
      ValueError: it is no such file, is damaged, or names what is no part of an array.
    """
    content = path.read_bytes()
    if content[:6] != b'\x93NUMPY' or len(content) < 12:
        raise ValueError(f'{path} is no .npy file')
    wide = content[6] > 1
    length = int.from_bytes(content[8 : 12 if wide else 10], 'little')
    start = (12 if wide else 10) + length
    header = content[12 if wide else 10 : start]
    if len(header) != length or b"'|O'" not in header or b"'shape': ()" not in header:
        raise ValueError(f'{path} is no .npy of one pickled object')
    try:
        return _finished(pickles.load(io.BytesIO(content[start:]), _NAMES), set())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is no dict of arrays: {error}') from None


def _finished(value: Any, seen: set[int]) -> Any:
    """Dicts, lists and tuples with arrays in place of what became them."""
    match value:
        case _Array(made=np.ndarray() as array):
            return array
        case _Array(made=dict() as content) if not seen:
            return _finished(content, seen)
        case dict() | list() | tuple() if id(value) in seen or len(seen) > 10_000:
            raise ValueError('it holds one thing in several places, or too many')
        case dict():
            seen.add(id(value))
            return {str(k): _finished(v, seen) for k, v in value.items()}
        case list() | tuple():
            seen.add(id(value))
            return [_finished(v, seen) for v in value]
    raise ValueError(f'it holds a {type(value).__name__.strip("_")}')
