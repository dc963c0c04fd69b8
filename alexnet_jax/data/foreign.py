"""What a TFDS set on disk may say of itself, checked before TFDS opens it.

TFDS imports the module that `features.json` names for each feature, whatever it is, and
joins what `dataset_info.json` says of its files to the set's folder, `../..` included.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CLASSES = 'tensorflow_datasets.core.features.'
# In a feature, by TFDS's present form, protocol buffers' other spelling, and its older
# form; a legacy 'proto_cls' is looked up in a table of TFDS's.
_CLASS_KEYS = {'pythonClassName', 'python_class_name', 'type'}
_TEMPLATE_KEYS = {'filepathTemplate', 'filepath_template'}


def check(directory: Path) -> None:
    """Refuses metadata that would import other code or read elsewhere.

    Args:
      directory: of a set, `<data_dir>/<name>`, with its configs and versions within.

    Raises:
      ValueError: one line on what is wrong in which file.
    """
    for depth in ('', '*/', '*/*/'):
        for file in directory.glob(f'{depth}features.json'):
            for key, value in _items(_content(file)):
                if key in _CLASS_KEYS and not str(value).startswith(_CLASSES):
                    raise ValueError(
                        f'{file} names the class {str(value)[:80]!r}, which is none of '
                        'TFDS and would be imported; get the set from its origin'
                    )
        for file in directory.glob(f'{depth}dataset_info.json'):
            content = _content(file)
            named = [
                value for key, value in _items(content) if key in _TEMPLATE_KEYS
            ] + [s.get('name') for s in _dicts(content, 'splits')]
            for value in named:
                if re.search(r'[/\\]|^\.|\0', str(value)):
                    raise ValueError(
                        f'{file} names files {str(value)[:80]!r}, which may lie '
                        'outside its folder; get the set from its origin'
                    )


def _content(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise ValueError(
            f'{file} cannot be read: {" ".join(str(error).split())[:100]}; get the set '
            'again'
        ) from error


def _dicts(content: Any, key: str) -> list[dict[str, Any]]:
    found = content.get(key) if isinstance(content, dict) else None
    return [d for d in found if isinstance(d, dict)] if isinstance(found, list) else []


def _items(content: Any) -> Iterator[tuple[str, Any]]:
    """Every key of every table, with its value; JSON within strings too."""
    if isinstance(content, dict):
        for key, value in content.items():
            if not isinstance(value, (dict, list)):
                yield key, value
            yield from _items(value)
    elif isinstance(content, list):
        for value in content:
            yield from _items(value)
    elif isinstance(content, str) and content.lstrip()[:1] in ('{', '['):
        try:
            inner = json.loads(content)
        except ValueError:
            return
        yield from _items(inner)
