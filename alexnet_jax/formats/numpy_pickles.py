"""numpy's pickled dicts of arrays, read without running anything of them.

A pickle is a program. Here a dozen of its instructions build dicts, lists, texts and
numbers; the few names that numpy writes for an array become inert marks, of which an
array is made once its bytes are there. Every other instruction and name is refused.
"""

import math
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_MOST_OPERATIONS = 100_000
_MOST_NUMBERS = 1_000_000_000
_PUSHED = {
    'BININT', 'BININT1', 'BININT2', 'LONG1', 'INT', 'LONG', 'BINSTRING',
    'SHORT_BINSTRING', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'BINBYTES',
    'SHORT_BINBYTES', 'BINBYTES8', 'UNICODE', 'STRING',
}  # fmt: skip
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_ARRAY = {
    f'{module}.multiarray _reconstruct' for module in ('numpy.core', 'numpy._core')
}
_DTYPE, _NDARRAY, _ENCODE = 'numpy dtype', 'numpy ndarray', '_codecs encode'


class _Mark:
    """Where a list, tuple or dict begins."""


class _Name:
    """A name that numpy writes; nothing is imported."""

    def __init__(self, text: str):
        if text not in {*_ARRAY, _DTYPE, _NDARRAY, _ENCODE}:
            raise ValueError(
                f'it names {text.replace(" ", ".")[:80]}, which is refused'
            )
        self.text = text


class _Dtype:
    def __init__(self, kind: Any):
        self.kind, self.order = kind, '<'


class _Array:
    """An array whose bytes come later; `made` then holds it."""

    made: Any = None


def read_npy(path: Path) -> Any:
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
        return _finished(_run(content[start:]))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise ValueError(f'{path} is no dict of arrays: {reason}') from None


def _run(content: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def to_mark() -> list[Any]:
        at = len(stack) - 1
        while not isinstance(stack[at], _Mark):
            at -= 1
            if at < 0:
                raise ValueError('a mark is missing')
        found = stack[at + 1 :]
        del stack[at:]
        return found

    def set_items(pairs: list[Any]) -> None:
        stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))

    def reduce() -> None:
        arguments, function = stack.pop(), stack.pop()
        stack.append(_call(function, arguments))

    def build() -> None:
        state = stack.pop()
        _set_state(stack[-1], state)

    operations: dict[str, Callable[[Any], Any]] = {
        'PROTO': lambda _: None,
        'FRAME': lambda _: None,
        'STOP': lambda _: None,
        'MARK': lambda _: stack.append(_Mark()),
        'EMPTY_DICT': lambda _: stack.append({}),
        'EMPTY_LIST': lambda _: stack.append([]),
        'EMPTY_TUPLE': lambda _: stack.append(()),
        'TUPLE': lambda _: stack.append(tuple(to_mark())),
        'TUPLE1': lambda _: stack.append((stack.pop(),)),
        'TUPLE2': lambda _: stack.append((*[stack.pop(), stack.pop()][::-1],)),
        'TUPLE3': lambda _: stack.append(
            (*[stack.pop(), stack.pop(), stack.pop()][::-1],)
        ),
        'APPEND': lambda _: stack[-2].append(stack.pop()),
        'APPENDS': lambda _: (lambda items: stack[-1].extend(items))(to_mark()),
        'SETITEM': lambda _: set_items([*[stack.pop(), stack.pop()][::-1]]),
        'SETITEMS': lambda _: set_items(to_mark()),
        'GLOBAL': lambda name: stack.append(_Name(name)),
        'STACK_GLOBAL': lambda _: stack.append(
            _Name(' '.join([stack.pop(), stack.pop()][::-1]))
        ),
        'REDUCE': lambda _: reduce(),
        'BUILD': lambda _: build(),
        'MEMOIZE': lambda _: memo.__setitem__(len(memo), stack[-1]),
        **dict.fromkeys(
            ('BINPUT', 'LONG_BINPUT', 'PUT'),
            lambda index: memo.__setitem__(index, stack[-1]),
        ),
        **dict.fromkeys(
            ('BINGET', 'LONG_BINGET', 'GET'), lambda index: stack.append(memo[index])
        ),
        **dict.fromkeys(_PUSHED, stack.append),
    }
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if count > _MOST_OPERATIONS:
            raise ValueError(f'it has more than {_MOST_OPERATIONS:,} instructions')
        if opcode.name in _CONSTANTS:
            stack.append(_CONSTANTS[opcode.name])
        elif opcode.name in operations:
            operations[opcode.name](argument)
        else:
            raise ValueError(f'its instruction {opcode.name} is refused')
    return stack.pop()


def _call(function: Any, arguments: Any) -> Any:
    """What numpy's three functions would make of their arguments, as inert values."""
    match function, arguments:
        case _Name(text=text), (_Name(), tuple(), _) if text in _ARRAY:
            return _Array()
        case _Name(text=name), (str() as kind, *_) if name == _DTYPE:
            if kind not in ('f4', 'f8', 'O4', 'O8'):
                raise ValueError(f'an array of {kind[:20]!r} is refused')
            return _Dtype(kind)
        case _Name(text=name), (str() as text, 'latin1') if name == _ENCODE:
            return text.encode('latin-1')
    raise ValueError('it calls what is refused')


def _set_state(made: Any, state: Any) -> None:
    match made, state:
        case _Dtype(), (int(), '<' | '=' | '|' as order, None, None, None, *_):
            made.order = order
        # numpy saves no dict, but an array without extent that holds it.
        case _Array(), (int(), (), _Dtype(kind='O4' | 'O8'), _, [content]):
            made.made = content
        case (
            _Array(),
            (int(), tuple(shape), _Dtype(kind='f4' | 'f8' as kind), in_columns, data),
        ):
            # A str is what Python 2 wrote.
            content = data.encode('latin-1') if isinstance(data, str) else data
            size = int(kind[1])
            good = all(type(n) is int and 0 <= n < _MOST_NUMBERS for n in shape)
            if (
                not good
                or not isinstance(content, bytes)
                or math.prod(shape) * size != len(content)
            ):
                raise ValueError(
                    f'an array claims {"×".join(map(str, shape))} numbers of {size} '
                    'bytes, and has others'
                )
            flat = np.frombuffer(content, f'<{kind}')
            made.made = flat.reshape(shape, order='F' if in_columns else 'C')
        case _:
            raise ValueError('it sets what is refused')


def _finished(value: Any, depth: int = 0) -> Any:
    """Dicts, lists and tuples with arrays in place of what became them."""
    if depth > 5:
        raise ValueError('it is nested more than 5 deep')
    match value:
        case dict():
            return {str(k): _finished(v, depth + 1) for k, v in value.items()}
        case list() | tuple():
            return [_finished(v, depth + 1) for v in value]
        case _Array(made=np.ndarray() as array):
            return array
        case _Array(made=made):
            return _finished(made, depth + 1)
    raise ValueError(f'it holds a {type(value).__name__.strip("_")}')
