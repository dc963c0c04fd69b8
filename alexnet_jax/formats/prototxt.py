"""Caffe's network definitions: the text form of protocol buffers."""

import re
from typing import Any

MOST_BYTES = 1_000_000
_DEEPEST = 16
_TOKEN = re.compile(
    r'(?P<space>(?:\s|\#[^\n]*|[,;])+)'
    r'|(?P<mark>[{}<>:\[\]])'
    r'|(?P<text>"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\')'
    r'|(?P<word>[A-Za-z_][\w./]*)'
    r'|(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)f?'
)
_END = {'{': '}', '<': '>'}

Message = dict[str, list[Any]]


def read(text: str) -> Message:
    """Every value of each field, in order: numbers, texts, enums as texts, messages.

    Raises:
      ValueError: it is not such a text; the message names the line.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f'it has more than {MOST_BYTES:,} characters')
    tokens = [*_tokens(text), ('end', '', text.count('\n') + 1)]
    return _message(tokens, 0, '', 0)[0]


def _tokens(text: str) -> list[tuple[str, str, int]]:
    """(kind, token, line) without spaces and comments."""
    found, at, line = [], 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise ValueError(f'line {line}: {text[at : at + 20]!r} is not understood')
        if match.lastgroup != 'space':
            found.append((match.lastgroup or '', match[0], line))
        line += match[0].count('\n')
        at = match.end()
    return found


def _message(
    tokens: list[tuple[str, str, int]], at: int, end: str, depth: int
) -> tuple[Message, int]:
    if depth > _DEEPEST:
        raise ValueError(f'line {tokens[at][2]}: nested more than {_DEEPEST} deep')
    found: Message = {}
    while True:
        kind, name, line = tokens[at]
        if (kind == 'end' and not end) or (kind == 'mark' and name == end):
            return found, at + 1
        if kind != 'word':
            raise ValueError(f'line {line}: expected a name, not {name or "the end"!r}')
        at += 1
        if tokens[at][1] == ':' and tokens[at][0] == 'mark':
            at += 1
        kind, token, line = tokens[at]
        if kind == 'mark' and token in _END:
            value, at = _message(tokens, at + 1, _END[token], depth + 1)
            found.setdefault(name, []).append(value)
            continue
        if kind == 'mark' and token == '[':
            at += 1
            while tokens[at][1] != ']':
                found.setdefault(name, []).append(_scalar(*tokens[at]))
                at += 1
        else:
            found.setdefault(name, []).append(_scalar(kind, token, line))
        at += 1


def _scalar(kind: str, token: str, line: int) -> Any:
    match kind:
        case 'text':
            return re.sub(r'\\(.)', r'\1', token[1:-1])
        case 'word':
            return {'true': 1, 'false': 0}.get(token, token)
        case 'number':
            return (
                int(token)
                if re.fullmatch(r'[+-]?\d{1,20}', token)
                else float(token.rstrip('fF'))
            )
    raise ValueError(f'line {line}: expected a value, not {token or "the end"!r}')
