"""Features: every tap by name, one view or ten, in every kind of file."""

import csv
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import alexnet_jax
from alexnet_jax import model
from alexnet_jax.analysis import feature_files
from alexnet_jax.data import images, pipeline, prepare
from tests.conftest import Ended, run_here

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


@pytest.fixture(scope='module')
def net(whole_run) -> alexnet_jax.Net:
    return alexnet_jax.load(whole_run['workdir'])


@pytest.fixture(scope='module')
def photographs(tmp_path_factory) -> Path:
    """Three images in a folder and one below it."""
    root = tmp_path_factory.mktemp('photographs')
    rng = np.random.default_rng(0)
    (root / 'below').mkdir()
    for name in ('a.png', 'b.png', 'c.png', 'below/d.png'):
        pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(root / name)
    return root


def features(workdir: Path, *arguments: object) -> Ended:
    return run_here('alexnet_jax.features', f'--workdir={workdir}', *arguments)


def test_features_of_files_are_the_activations_of_their_squares(
    net, whole_run, photographs, tmp_path
):
    taps = ('conv1/linear', 'conv1/lrn', 'conv5/pool', 'fc7')
    done = features(
        whole_run['workdir'], photographs, '--layers=' + ','.join(taps),
        '--views=10', f'--output={tmp_path / "out"}',
    )  # fmt: skip
    assert done.status == 0 and '4 images: ' in done.out, done
    with (tmp_path / 'out/images.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    names = [photographs / name for name in ('a.png', 'b.png', 'c.png', 'below/d.png')]
    assert rows == [{'image': str(name)} for name in names]
    stored = images.stored(net.config.data)
    squares = [images.encode(name.read_bytes(), stored)[1] for name in names]
    views = [
        [square[r : r + 28, c : c + 28] for square in squares]
        for r, c in ((0, 0), (0, 4), (2, 2), (4, 0), (4, 4))
    ]
    expected = net.activations(np.stack(squares), taps, views=10)
    for tap in taps:
        got = np.load(tmp_path / 'out' / f'{tap.replace("/", ".")}.npy')
        np.testing.assert_allclose(got, expected[tap], rtol=1e-5, atol=1e-6)
    # Ten views are the mean of the taps of ten crops.
    apply = jax.jit(model.merge(net.network, net.params).activations)
    mean = net.mean_image[2:30, 2:30]
    found = []
    for view in views:
        for mirror in (1, -1):
            crops = np.stack(view)[:, :, ::mirror].astype(np.float32)
            found.append(apply((crops - mean) * net.config.data.scale)['conv1/linear'])
    np.testing.assert_allclose(
        np.load(tmp_path / 'out/conv1.linear.npy'),
        np.mean(found, axis=0),
        rtol=1e-3,
        atol=1e-4,
    )


def test_features_of_a_split_have_the_classes_and_come_in_parts(
    net, whole_run, tmp_path
):
    out = tmp_path / 'out'
    done = features(
        whole_run['workdir'], '--split=test', '--format=npz', f'--output={out}',
        '--memory_gb=2e-5',
    )  # fmt: skip
    assert done.status == 0, done
    dataset = prepare.open_prepared(net.config.data)
    batches = pipeline.eval_batches(
        dataset, net.config.data, split=net.config.data.test_split, batch_size=130
    )
    batch = next(batches)
    expected = net.activations(batch['image'], 'fc7')['fc7']
    rows = int(2e-5 * 1e9 // (4 * expected.shape[1]))
    assert len(list(out.glob('*.npz'))) == -(-130 // rows) > 1
    parts = [np.load(part) for part in sorted(out.glob('*.npz'))]
    got = np.concatenate([part['fc7'] for part in parts])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    classes = [name for part in parts for name in part['class'].tolist()]
    assert classes == [dataset.class_names[label] for label in batch['label']]
    assert parts[0]['image'][:2].tolist() == ['test[0]', 'test[1]']
    record = json.loads((out / 'features.json').read_text())
    assert record['layers'] == {'fc7': [expected.shape[1]]}


def test_a_file_that_is_no_image_is_named_and_the_others_are_done(
    whole_run, photographs, tmp_path
):
    (tmp_path / 'z.png').write_text('no image')
    done = features(
        whole_run['workdir'], photographs, tmp_path / 'z.png',
        f'--output={tmp_path / "out"}',
    )  # fmt: skip
    assert done.status == 1
    assert 'z.png: no image format' in done.err and '1 of 5 files' in done.err
    assert len(np.load(tmp_path / 'out/fc7.npy')) == 4


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ([], 'name either images'),
        (['a.jpg', '--split=test'], 'name either images'),
        (['--split=train[:'], 'train[:'),
        (['--split=test', '--layers=fc9'], "'fc9'; the nearest is 'fc"),
        (['--split=test', '--views=3'], 'expected 1 or 10'),
        (['nowhere.jpg'], 'no file or folder nowhere.jpg'),
        (['--split=test', '--format=mat'], 'mat'),
    ],
)
def test_a_mistake_is_one_line(whole_run, tmp_path, arguments, words):
    out = tmp_path / 'out'
    done = features(whole_run['workdir'], *arguments, f'--output={out}')
    assert words in done.error
    assert not out.exists() or not any(out.iterdir())
