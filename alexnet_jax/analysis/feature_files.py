"""Features to files: npy, npz, HDF5 or parquet, in parts that fit a memory limit.

A part is written as soon as its rows are there, so that memory stays bounded however
many images there are. Each part holds for its rows the features of every tap, the
names of the images and, where they are known, their classes. In file names and tables
the tap `conv1/linear` is `conv1.linear`: HDF5 has no table `conv1` beside a table
`conv1/linear`.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.system import files

Shape = tuple[int, ...]
Arrays = dict[str, np.ndarray]

RECORD = 'features.json'  # written last: where it lies, the features are whole
_GROUP_BYTES = 64 * 2**20  # of a parquet file's group of rows, which is read as one


def tap_name(tap: str) -> str:
    """A tap's name in file names and tables."""
    return tap.replace('/', '.')


def _write_npy(folder: Path, part: str, features: Arrays, rows: Arrays) -> list[Path]:
    """`<tap>.npy` for each tap, and `images.csv` with the names of the rows."""
    written = []
    for tap, values in features.items():
        written.append(folder / f'{tap}{part}.npy')
        with files.whole(written[-1]) as path, path.open('wb') as file:
            np.save(file, values)
    text = io.StringIO()
    table = csv.writer(text, lineterminator='\n')
    table.writerow(rows)
    table.writerows(zip(*(column.tolist() for column in rows.values()), strict=True))
    names = folder / f'images{part}.csv'
    files.write_atomically(names, text.getvalue())
    return [*written, names]


def _write_npz(folder: Path, part: str, features: Arrays, rows: Arrays) -> list[Path]:
    path = folder / f'features{part}.npz'
    arrays: dict[str, Any] = features | rows
    with files.whole(path) as temporary, temporary.open('wb') as file:
        np.savez(file, **arrays)
    return [path]


def _write_hdf5(folder: Path, part: str, features: Arrays, rows: Arrays) -> list[Path]:
    import h5py

    path = folder / f'features{part}.h5'
    with files.whole(path) as temporary, h5py.File(temporary, 'w') as file:
        for tap, values in features.items():
            file.create_dataset(tap, data=values)
        for name, values in rows.items():
            file.create_dataset(name, data=values.tolist(), dtype=h5py.string_dtype())
    return [path]


def _write_parquet(
    folder: Path, part: str, features: Arrays, rows: Arrays
) -> list[Path]:
    """A list of numbers a row, whose shape is in the metadata of the field."""
    import pyarrow as pa
    from pyarrow import parquet

    path = folder / f'features{part}.parquet'
    columns = [pa.array(column.tolist()) for column in rows.values()]
    fields = [pa.field(name, x.type) for name, x in zip(rows, columns, strict=True)]
    row_bytes = 1
    for tap, values in features.items():
        width = math.prod(values.shape[1:])
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width)
        shape = ','.join(map(str, values.shape[1:]))
        columns.append(column)
        fields.append(pa.field(tap, column.type, metadata={'shape': shape}))
        row_bytes += 4 * width
    table = pa.Table.from_arrays(columns, schema=pa.schema(fields))
    with files.whole(path) as temporary:
        group = max(1, _GROUP_BYTES // row_bytes)
        parquet.write_table(table, temporary, row_group_size=group)
    return [path]


WRITERS: dict[str, Callable[[Path, str, Arrays, Arrays], list[Path]]] = {
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
      memory_bytes: of the rows that are held; a part has no more.
      expected: how many images there will be at most.

    Raises:
      ValueError: the folder has features already, or cannot be made; one image is
        larger than the limit.
    """

    def __init__(
        self,
        folder: Path,
        form: str,
        shapes: Mapping[str, Shape],
        *,
        memory_bytes: float,
        expected: int,
    ) -> None:
        row_bytes = 4 * sum(map(math.prod, shapes.values()))
        capacity = int(min(memory_bytes // row_bytes, expected))
        if memory_bytes < row_bytes:
            raise ValueError(
                f'the layers of one image take {row_bytes / 2**20:,.1f} MiB, more than '
                f'the limit of {memory_bytes / 2**20:,.1f} MiB; raise --memory_gb or '
                'name fewer layers'
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            there = sorted(path.name for path in folder.iterdir())
        except OSError as error:
            raise ValueError(f'{folder} cannot be made: {error.strerror}') from None
        if there:
            raise ValueError(
                f'{folder} holds files already ({there[0]}); take another folder, so '
                'that no part of other features lies among these'
            )
        self.folder = folder
        self.count = 0  # images taken
        self.written: list[Path] = []
        self._write = WRITERS[form]
        self._parts = 0
        # Left uninitialised: the system gives pages as they are filled.
        self._features = {
            tap_name(tap): np.empty((max(capacity, 1), *shape), np.float32)
            for tap, shape in shapes.items()
        }
        self._rows: dict[str, list[str]] = {}
        self._filled = 0

    def add(
        self, features: Mapping[str, Any], rows: Mapping[str, Sequence[str]]
    ) -> None:
        """Takes a batch.

        Args:
          features: by tap, f32[n, …].
          rows: `image`, and `class` where it is known, of the n images.
        """
        total = len(next(iter(rows.values())))
        capacity = len(next(iter(self._features.values())))
        start = 0
        while start < total:
            if self._filled == capacity:
                self._flush(last=False)
            stop = min(total, start + capacity - self._filled)
            here = slice(self._filled, self._filled + stop - start)
            for tap, values in features.items():
                self._features[tap_name(tap)][here] = values[start:stop]
            for name, values in rows.items():
                self._rows.setdefault(name, []).extend(values[start:stop])
            self._filled += stop - start
            start = stop
        self.count += total

    def close(self, record: Mapping[str, Any]) -> None:
        """Writes what is left, and `features.json` with the record and the parts."""
        if self._filled:
            self._flush(last=True)
        written = [path.name for path in self.written]
        content = {**record, 'images': self.count, 'files': written}
        files.write_json(self.folder / RECORD, content)

    def _flush(self, *, last: bool) -> None:
        part = '' if last and not self._parts else f'-{self._parts:05d}'
        features = {tap: x[: self._filled] for tap, x in self._features.items()}
        rows = {name: np.array(values) for name, values in self._rows.items()}
        self.written += self._write(self.folder, part, features, rows)
        self._parts += 1
        self._filled = 0
        self._rows = {}
