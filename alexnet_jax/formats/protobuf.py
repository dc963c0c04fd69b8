"""A strict reader and a small writer of protocol buffers, for the messages of a schema.

A schema names the fields that are wanted; all others are skipped without a look inside,
so that no nesting in a file leads deeper than the schema. Every length is checked
against its message before anything is made of it, and arrays are views of the file.
https://protobuf.dev/programming-guides/encoding
"""

import dataclasses
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Message = dict[str, list[Any]]  # every value of each field that is there, in order

MOST_FIELDS = 1_000_000  # of a whole file; those that are real have some hundred
_BYTES, _FIXED64, _FIXED32, _VARINT = 2, 1, 5, 0


@dataclasses.dataclass(frozen=True)
class Field:
    """A field that is wanted.

    `kind` is 'int' (any varint, signed 64 bits), 'float', 'string', 'message' of
    `schema`, or 'floats' or 'doubles', which are packed and come as one array.
    """

    name: str
    kind: str
    schema: Mapping[int, 'Field'] = dataclasses.field(default_factory=dict)


Schema = Mapping[int, Field]


def read(content: memoryview, schema: Schema) -> Message:
    """Reads a message.

    Raises:
      ValueError: it is cut off, or not such a message.
    """
    return _message(content, schema, [MOST_FIELDS])


def _message(content: memoryview, schema: Schema, left: list[int]) -> Message:
    found: Message = {}
    for number, wire, value in _fields(content, left):
        field = schema.get(number)
        # A field of no values is one that is not there.
        if field and (values := _values(field, wire, value, left)):
            found.setdefault(field.name, []).extend(values)
    return found


def _values(field: Field, wire: int, value: Any, left: list[int]) -> list[Any]:
    match field.kind, wire:
        case 'int', 0:
            return [_signed(value)]
        case 'int', 2:  # packed
            numbers, at = [], 0
            while at < len(value):
                _count(left)
                number, at = _varint(value, at)
                numbers.append(_signed(number))
            return numbers
        case 'float', 5:
            return [struct.unpack('<f', value)[0]]
        case 'float', 2 if len(value) % 4 == 0:
            if len(value) > 4 * left[0]:
                raise ValueError('too many fields')
            return np.frombuffer(value, '<f4').tolist()
        case 'string', 2:
            return [bytes(value[:1000]).decode('utf-8', 'replace')]
        case 'message', 2:
            return [_message(value, field.schema, left)]
        case 'floats', 2 if len(value) % 4 == 0:
            return [np.frombuffer(value, '<f4')]
        case 'doubles', 2 if len(value) % 8 == 0:
            return [np.frombuffer(value, '<f8')]
    raise ValueError(f'its field {field.name!r} is of another kind')


def _fields(content: memoryview, left: list[int]) -> Iterator[tuple[int, int, Any]]:
    """Number, wire type and content of every field of a message."""
    at = 0
    while at < len(content):
        _count(left)
        key, at = _varint(content, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(content, at)
        elif wire in (_BYTES, _FIXED32, _FIXED64):
            size = {_FIXED32: 4, _FIXED64: 8}.get(wire)
            if size is None:
                size, at = _varint(content, at)
            if size > len(content) - at:
                raise ValueError(
                    f'a field claims {size:,} bytes, and {len(content) - at:,} are left'
                )
            value = content[at : at + size]
            at += size
        else:
            raise ValueError(f'a field has the wire type {wire}, which none has')
        yield number, wire, value


def _count(left: list[int]) -> None:
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f'it has more than {MOST_FIELDS:,} fields')


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """A number of at most ten bytes of seven bits, the lowest first, and its end."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            raise ValueError('it is cut off')
        byte = content[at]
        number |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return number, at
    raise ValueError('a number has more than ten bytes')


def _signed(number: int) -> int:
    number &= 2**64 - 1
    return number - (number >> 63 << 64)


def write(values: list[tuple[int, Any]]) -> bytes:
    """Writes a message from (number, value) pairs.

    An int becomes a varint, a float 4 bytes, a text or bytes themselves, a list of ints
    packed varints, a float32 array packed floats, a list of pairs a message.
    """
    return b''.join(_encoded(number, value) for number, value in values)


def _encoded(number: int, value: Any) -> bytes:
    match value:
        case bool() | int():
            return _to_varint(number << 3 | _VARINT) + _to_varint(int(value))
        case float():
            return _to_varint(number << 3 | _FIXED32) + struct.pack('<f', value)
        case str():
            content = value.encode()
        case np.ndarray():
            content = np.ascontiguousarray(value, '<f4').tobytes()
        case [int(), *_]:
            content = b''.join(map(_to_varint, value))
        case list():
            content = write(value)
        case _:
            raise TypeError(f'{type(value).__name__} cannot be written')
    return _to_varint(number << 3 | _BYTES) + _to_varint(len(content)) + content


def _to_varint(number: int) -> bytes:
    encoded = bytearray()
    number &= 2**64 - 1  # a negative one has ten bytes
    while True:
        number, low = number >> 7, number & 127
        encoded.append(low | 128 * bool(number))
        if not number:
            return bytes(encoded)
