"""Features to files: npy, npz, HDF5 or parquet, in parts that fit a memory limit.

A part is written as soon as its rows are there, so that memory stays bounded however
many images there are. Each part holds for its rows the features of every tap, the
names of the images and, where they are known, their labels. In file names and tables
the tap `conv1/linear` is `conv1.linear`: HDF5 has no table `conv1` beside a table
`conv1/linear`.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from alexnet_jax.system import files

Shape = tuple[int, ...]
Rows = dict[str, np.ndarray]  # by tap, f32[n, …]; `file` and `label` besides

RECORD = 'features.json'  # written last: where it lies, the features are whole
# Of a group of rows of a parquet file, which is read as one.
_GROUP_BYTES = 64 * 2**20


def tap_name(tap: str) -> str:
    """A tap's name in file names and tables."""
    return tap.replace('/', '.')


def _write_npy(stem: Path, features: Rows, rows: Rows) -> list[Path]:
    """`<tap>.npy` for each tap, and `<stem>.csv` with the names of the rows."""
    written = []
    for tap, values in features.items():
        suffix = stem.name.removeprefix('features')  # of the part
        written.append(stem.with_name(f'{tap_name(tap)}{suffix}.npy'))
        with _whole(written[-1]) as path, path.open('wb') as file:
            np.save(file, values)
    text = io.StringIO()
    table = csv.writer(text, lineterminator='\n')
    table.writerow(rows)
    table.writerows(zip(*(column.tolist() for column in rows.values()), strict=True))
    names = stem.with_name(f'{stem.name}.csv')
    files.write_atomically(names, text.getvalue())
    return [*written, names]


def _write_npz(stem: Path, features: Rows, rows: Rows) -> list[Path]:
    path = stem.with_name(f'{stem.name}.npz')
    arrays: dict[str, Any] = {tap_name(tap): x for tap, x in features.items()} | rows
    with _whole(path) as temporary, temporary.open('wb') as file:
        np.savez(file, **arrays)
    return [path]


def _write_hdf5(stem: Path, features: Rows, rows: Rows) -> list[Path]:
    import h5py

    path = stem.with_name(f'{stem.name}.h5')
    with _whole(path) as temporary, h5py.File(temporary, 'w') as file:
        for tap, values in features.items():
            file.create_dataset(tap_name(tap), data=values)
        for name, values in rows.items():
            text = h5py.string_dtype() if values.dtype.kind in 'UO' else None
            file.create_dataset(name, data=values.tolist(), dtype=text)
    return [path]


def _write_parquet(stem: Path, features: Rows, rows: Rows) -> list[Path]:
    """A list of numbers a row; the field's metadata has the shape it is laid out in."""
    import pyarrow as pa
    from pyarrow import parquet

    path = stem.with_name(f'{stem.name}.parquet')
    columns = [pa.array(column.tolist()) for column in rows.values()]
    fields = [pa.field(name, x.type) for name, x in zip(rows, columns, strict=True)]
    row_bytes = 1
    for tap, values in features.items():
        flat = pa.array(values.reshape(-1))
        width = int(np.prod(values.shape[1:]))
        columns.append(pa.FixedSizeListArray.from_arrays(flat, width))
        shape = ','.join(map(str, values.shape[1:]))
        fields.append(
            pa.field(tap_name(tap), columns[-1].type, metadata={'shape': shape})
        )
        row_bytes += 4 * width
    table = pa.Table.from_arrays(columns, schema=pa.schema(fields))
    with _whole(path) as temporary:
        group = max(1, _GROUP_BYTES // row_bytes)
        parquet.write_table(table, temporary, row_group_size=group)
    return [path]


class _whole:  # noqa: N801 (a function's name would read the same)
    """A path beside another, which takes its place when all was written."""

    def __init__(self, path: Path):
        self.path = path
        self.temporary = path.with_name(f'.{path.name}.tmp')

    def __enter__(self) -> Path:
        return self.temporary

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.temporary.replace(self.path)
        else:
            self.temporary.unlink(missing_ok=True)


WRITERS: dict[str, Callable[[Path, Rows, Rows], list[Path]]] = {
    'npy': _write_npy,
    'npz': _write_npz,
    'hdf5': _write_hdf5,
    'parquet': _write_parquet,
}


class FeatureFiles:
    """Takes features batch by batch and writes them in parts.

    Args:
      folder: made if it is not there.
      form: a key of WRITERS.
      shapes: of each tap's values for one image.
      memory_bytes: of the rows that are held at most; a part has no more.
      expected: how many images there will be at most.
      labelled: whether their labels are known.

    Raises:
      ValueError: the folder has features already, or what the form needs is missing.
    """

    def __init__(
        self,
        folder: Path,
        form: str,
        shapes: Mapping[str, Shape],
        *,
        memory_bytes: float,
        expected: int,
        labelled: bool,
    ) -> None:
        ...
