"""Pickles as data: a few instructions and the names that a caller lists, no more.

`pickle.Unpickler` with a list of allowed names would do as little, but its C form gives
out memory as a file asks for it (an entry of its memo numbered 2³¹ takes 32 GB). Here
an instruction costs what it takes in the file.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

_MARK = object()
_CONSTANTS = {
    'NONE': lambda: None, 'NEWTRUE': lambda: True, 'NEWFALSE': lambda: False,
    'EMPTY_DICT': dict, 'EMPTY_LIST': list, 'EMPTY_TUPLE': tuple,
    'MARK': lambda: _MARK,
}  # fmt: skip
_ARGUMENTS = {
    'INT', 'LONG', 'BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT', 'UNICODE',
    'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'STRING', 'BINSTRING',
    'SHORT_BINSTRING', 'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8',
}  # fmt: skip
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}
_PUTS = {'PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'}
_GETS = {'GET', 'BINGET', 'LONG_BINGET'}
_MOST_INSTRUCTIONS = 100_000


class Readable(Protocol):
    """What is read: a BytesIO or a mmap, not a file.

    A file's `read(n)` sets memory aside for n bytes that are not there.
    """

    def read(self, size: int, /) -> bytes:
        """At most so many bytes."""
        ...

    def readline(self) -> bytes:
        """Up to the end of a line."""
        ...

    def tell(self) -> int:
        """How far it was read."""
        ...


def load(
    file: Readable,
    names: Mapping[str, Any],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Reads one pickle and leaves the file behind it.

    Args:
      file: with a pickle at the place to which it was read.
      names: what `module name` stands for, `'collections OrderedDict'`; a value that
        is called must be callable, and is given what the file says.
      persistent: makes what stands for an object outside the pickle.

    Raises:
      ValueError: it is no pickle, or asks for an instruction or a name not allowed.
    """
    try:
        return _run(file, names, persistent)
    except ValueError as error:
        raise ValueError(f'its pickle cannot be read: {error}') from error
    except (TypeError, LookupError, AttributeError) as error:
        kind = type(error).__name__
        raise ValueError(f'its pickle is damaged ({kind})') from error


def _run(
    file: Readable,
    names: Mapping[str, Any],
    persistent: Callable[[Any], Any] | None,
) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = len(stack) - 1
        while stack[start] is not _MARK:
            if start == 0:
                raise ValueError('a mark is missing')
            start -= 1
        items = stack[start + 1 :]
        del stack[start:]
        return items

    instructions: Any = pickletools.genops(file)  # pyrefly: ignore
    for count, (opcode, argument, _) in enumerate(instructions):
        name = opcode.name
        if count > _MOST_INSTRUCTIONS:
            raise ValueError(f'it has more than {_MOST_INSTRUCTIONS:,} instructions')
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _ARGUMENTS:
            stack.append(argument)
        elif name in _PUTS:
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in _GETS:
            stack.append(memo[argument])
        elif name in _TUPLES:
            items = stack[-_TUPLES[name] :]
            del stack[-_TUPLES[name] :]
            stack.append(tuple(items))
        elif name == 'TUPLE':
            stack.append(tuple(since_mark()))
        elif name in ('SETITEM', 'SETITEMS'):
            items = since_mark() if name == 'SETITEMS' else [stack.pop(-2), stack.pop()]
            for key, value in zip(items[::2], items[1::2], strict=True):
                # A tuple of tuples of tuples … takes a few bytes and ages to hash.
                if not isinstance(key, str | bytes | int):
                    raise ValueError(f'a key is a {type(key).__name__}')
                _only(dict, stack[-1])[key] = value
        elif name in ('APPEND', 'APPENDS'):
            items = since_mark() if name == 'APPENDS' else [stack.pop()]
            _only(list, stack[-1]).extend(items)
        elif name in ('GLOBAL', 'STACK_GLOBAL'):
            if name == 'STACK_GLOBAL':
                argument = f'{_only(str, stack.pop(-2))} {_only(str, stack.pop())}'
            if argument not in names:
                raise ValueError(f'it names {argument[:80]!r}, which is not allowed')
            stack.append(names[argument])
        elif name == 'REDUCE':
            arguments, function = stack.pop(), stack.pop()
            stack.append(function(*_only(tuple, arguments)))
        elif name == 'BUILD':
            state = stack.pop()
            if not isinstance(stack[-1], dict):  # whose attributes are left out
                stack[-1].set_state(state)
        elif name == 'BINPERSID' and persistent:
            stack.append(persistent(stack.pop()))
        elif name == 'STOP':
            (value,) = stack
            return value
        elif name not in ('PROTO', 'FRAME'):
            raise ValueError(f'the instruction {name} is not allowed')
    raise ValueError('it has no end')


def _only(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f'a {type(value).__name__} where a {kind.__name__} should be')
    return value
