"""What a checkpoint says of its arrays, and how that is compared.

Orbax keeps no checksum of arrays: a flipped bit restores in silence.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from alexnet_jax import mesh as mesh_lib

Json = dict[str, Any]


def describe(state: Any) -> dict[str, Json]:
    """Shape, dtype and SHA-256 of every array by its path, `params/conv1/kernel`."""
    described = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        is_array = isinstance(leaf, jax.Array)
        value = mesh_lib.to_host(leaf) if is_array else np.asarray(leaf)
        # Bytes, because hashlib knows no bfloat16.
        content = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        described[_path_name(path)] = {
            'shape': list(value.shape),
            'dtype': str(value.dtype),
            'sha256': hashlib.sha256(content.data).hexdigest(),
        }
    return described


def abstract_leaves(abstract_state: Any) -> dict[str, Json]:
    """Shape and dtype of every array by its path, as `describe` has them."""
    leaves = jax.tree_util.tree_leaves_with_path(abstract_state)
    return {
        _path_name(path): {'shape': list(leaf.shape), 'dtype': str(leaf.dtype)}
        for path, leaf in leaves
    }


def difference(wanted: Mapping[str, Json], stored: Mapping[str, Json]) -> str:
    """The first way in which the stored arrays are not the wanted ones, or ''.

    Orbax casts a dtype that differs without a word.
    """
    if missing := sorted(wanted.keys() - stored.keys()):
        return f'it has no {missing[0]}'
    if extra := sorted(stored.keys() - wanted.keys()):
        return f'it has {extra[0]}, which this model and optimizer do not have'
    for path, leaf in wanted.items():
        for key in ('shape', 'dtype'):
            if leaf[key] != stored[path][key]:
                return f'its {path} has {key} {stored[path][key]}, not {leaf[key]}'
    return ''


def _path_name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator='/')


def json_digest(content: Json) -> str:
    """SHA-256 of a content, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
