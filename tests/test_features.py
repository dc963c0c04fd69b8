"""Features: every tap by name, one view or ten, in every kind of file."""

import csv
import json

import numpy as np
import pytest

from alexnet_jax.analysis import feature_files

SHAPES = {'conv1/linear': (3, 2, 4), 'conv1': (2, 2, 4), 'fc7': (5,)}
ROW_BYTES = 4 * (24 + 16 + 5)


def read(folder, form, part=''):
    """What a part's files hold: features by tap and the names of the images."""
    if form == 'npy':
        with (folder / f'images{part}.csv').open(newline='') as file:
            rows = list(csv.DictReader(file))
        return {
            **{tap: np.load(folder / f'{tap.replace("/", ".")}{part}.npy')
               for tap in SHAPES},
            'image': [row['image'] for row in rows],
            'class': [row['class'] for row in rows],
        }  # fmt: skip
    if form == 'npz':
        with np.load(folder / f'features{part}.npz') as arrays:
            found = {name: arrays[name] for name in arrays.files}
    elif form == 'hdf5':
        import h5py

        with h5py.File(folder / f'features{part}.h5') as file:
            found = {name: file[name][...] for name in file}
        for name in ('image', 'class'):
            found[name] = [value.decode() for value in found[name]]
    else:
        from pyarrow import parquet

        table = parquet.read_table(folder / f'features{part}.parquet')
        found = {}
        for field in table.schema:
            column = table[field.name]
            if field.metadata and b'shape' in field.metadata:
                shape = map(int, field.metadata[b'shape'].split(b','))
                flat = column.combine_chunks().flatten().to_numpy()
                found[field.name] = flat.reshape(len(table), *shape)
            else:
                found[field.name] = column.to_pylist()
    return {name if name in ('image', 'class') else
            next(tap for tap in SHAPES if feature_files.tap_name(tap) == name): list(x)
            for name, x in found.items()}  # fmt: skip


@pytest.mark.parametrize('form', feature_files.WRITERS)
def test_files_of_every_form_hold_what_was_given_in_parts_that_fit(form, tmp_path):
    """Ten images in batches of four; three of them fit into the limit."""
    rng = np.random.default_rng(0)
    given = {
        tap: rng.standard_normal((10, *shape), dtype=np.float32)
        for tap, shape in SHAPES.items()
    }
    names = [f'a, "{i}" é.jpg' for i in range(10)]
    classes = ['cat', 'dog'] * 5
    for limit, sizes in ((3.5 * ROW_BYTES, [3, 3, 3, 1]), (1e9, [10])):
        folder = tmp_path / f'{limit:.0f}'
        writer = feature_files.FeatureFiles(
            folder, form, SHAPES, memory_bytes=limit, expected=12
        )
        for start in range(0, 10, 4):
            rows = slice(start, start + 4)
            writer.add(
                {tap: x[rows] for tap, x in given.items()},
                {'image': names[rows], 'class': classes[rows]},
            )
        writer.close({'views': 1})
        record = json.loads((folder / 'features.json').read_text())
        assert record['images'] == 10 and record['views'] == 1
        there = {path.name for path in folder.iterdir()}
        assert there == {*record['files'], 'features.json'}
        parts = [''] if len(sizes) == 1 else [f'-{i:05d}' for i in range(len(sizes))]
        found = [read(folder, form, part) for part in parts]
        assert [len(part['image']) for part in found] == sizes
        for tap in SHAPES:
            values = np.concatenate([np.array(part[tap]) for part in found])
            np.testing.assert_array_equal(values, given[tap])
            assert values.dtype == np.float32
        assert [name for part in found for name in part['image']] == names
        assert [name for part in found for name in part['class']] == classes


def test_a_folder_with_files_and_a_limit_below_one_image_are_refused(tmp_path):
    options = {'memory_bytes': 1e6, 'expected': 3}
    writer = feature_files.FeatureFiles(tmp_path, 'npy', SHAPES, **options)
    writer.close({})
    with pytest.raises(ValueError, match=r'holds files already \(features.json\)'):
        feature_files.FeatureFiles(tmp_path, 'npy', SHAPES, **options)
    with pytest.raises(ValueError, match='--memory_gb'):
        feature_files.FeatureFiles(
            tmp_path / 'new', 'npy', SHAPES, memory_bytes=100, expected=3
        )
