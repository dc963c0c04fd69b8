"""Dicts of arrays that numpy pickled into a .npy, of which nothing runs.

The few names that numpy writes for an array become inert marks, and an array is made
once its bytes are there and are as many as it claims.
"""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.formats import pickles

_MOST_NUMBERS = 1_000_000_000
_MOST_DICTS = 100


class _Array:
    """What becomes an array, or what an array without extent holds."""

    made: Any = None

    def set_state(self, state: Any) -> None:
        match state:
            # numpy saves no dict, but an array without extent that holds it.
            case (int(), (), _Dtype(kind='O4' | 'O8'), _, [content]):
                self.made = content
            case (int(), tuple(shape), _Dtype(kind='f4' | 'f8' as kind), turned, data):
                # A str is what Python 2 wrote.
                content = data.encode('latin-1') if isinstance(data, str) else data
                self.made = _array(shape, kind, bool(turned), content)
            case _:
                raise ValueError('an array has another state')


class _Dtype:
    """A type of numbers."""

    def __init__(self, kind: Any, *_: Any):
        if kind not in ('f4', 'f8', 'O4', 'O8'):
            raise ValueError(f'an array of {str(kind)[:20]!r} is not allowed')
        self.kind = kind

    def set_state(self, state: Any) -> None:
        match state:
            case (int(), '<' | '=' | '|', None, None, None, *_):
                return
        raise ValueError('the numbers of an array are of another kind')


def _array(shape: tuple[Any, ...], kind: str, turned: bool, content: Any) -> np.ndarray:
    size = int(kind[1])
    good = all(type(n) is int and 0 <= n < _MOST_NUMBERS for n in shape)
    good = good and isinstance(content, bytes)
    if not good or math.prod(shape) * size != len(content):
        raise ValueError(
            f'an array claims {"×".join(map(str, shape))[:80]} numbers of {size} '
            'bytes, and has others'
        )
    flat = np.frombuffer(content, f'<{kind}')
    return flat.reshape(shape, order='F' if turned else 'C')


def _encode(text: Any, encoding: Any) -> bytes:
    """What Python 3 writes for bytes at protocol 2."""
    if not isinstance(text, str) or encoding != 'latin1':
        raise ValueError('it encodes a text otherwise than numpy does')
    return text.encode('latin-1')


_NAMES = {
    'numpy ndarray': None,
    'numpy dtype': _Dtype,
    'numpy.core.multiarray _reconstruct': lambda *_: _Array(),
    'numpy._core.multiarray _reconstruct': lambda *_: _Array(),
    '_codecs encode': _encode,
}


def read_npy(path: Path) -> Any:
    """The dict that `numpy.save` pickled into a .npy; texts are str, whatever Python.

    Raises:
      ValueError: it is no such file, is damaged, or names what is no part of an array.
    """
    content = path.read_bytes()
    wide = content[6:7] > b'\x01'
    first = 12 if wide else 10
    start = first + int.from_bytes(content[8:first], 'little')
    header = content[first:start]
    good = content[:6] == b'\x93NUMPY' and len(content) >= start
    if not good or b"'|O'" not in header or b"'shape': ()" not in header:
        raise ValueError(f'{path} is no .npy of one pickled object')
    try:
        return _finished(pickles.load(io.BytesIO(content[start:]), _NAMES), set())
    except ValueError as error:
        raise ValueError(f'{path} is no dict of arrays: {error}') from None


def _finished(value: Any, seen: set[int]) -> Any:
    """Dicts and lists with arrays in place of what became them."""
    match value:
        case _Array(made=np.ndarray() as array):
            return array
    # A dict of itself, many times over, takes a few bytes.
    if id(value) in seen or len(seen) > _MOST_DICTS:
        raise ValueError('it holds one thing in several places, or too many')
    seen.add(id(value))
    match value:
        case _Array(made=made):
            return _finished(made, seen)
        case dict():
            return {str(k): _finished(v, seen) for k, v in value.items()}
        case list() | tuple():
            return [_finished(v, seen) for v in value]
    raise ValueError(f'it holds a {type(value).__name__.strip("_")}')
