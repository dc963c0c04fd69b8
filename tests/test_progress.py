"""What a run prints, and its files that are whole or not there."""

import jax
import numpy as np
import pytest

from alexnet_jax import mesh as mesh_lib
from alexnet_jax.run import progress
from alexnet_jax.system import files, tables

LENGTH = progress.RunLength(10_009.12, 900_821, 10_009.12)
SCALARS = {
    'train/loss': 16.1234, 'train/top1_error': 0.99999, 'train/top5_error': 0.9999,
    'train/learning_rate': 1.2e-05, 'train/images_per_second': 12_345.6,
    'train/seconds_per_step': 1.0,
}  # fmt: skip


def test_every_line_fits_80_columns_and_its_header():
    for step in (1, 900_821):
        line = progress.train_line(step, LENGTH, SCALARS, 1000)
        header = progress.header(1000)
        assert len(line) == len(header) <= 80
        assert len(line.split()) == 8


@pytest.mark.parametrize(('num_classes', 'shown'), [(4, False), (9, False), (10, True)])
def test_top_5_is_shown_for_ten_classes_and_more(num_classes, shown):
    errors = {'val/loss': 1.0, 'val/top1_error': 0.5, 'val/top5_error': 0.1}
    lines = [
        progress.header(num_classes),
        progress.train_line(1, LENGTH, SCALARS, num_classes),
        progress.evaluation_line('val', errors, num_classes),
    ]
    assert ['top-5' in lines[0], '99.99%' in lines[1], 'top-5' in lines[2]] == (
        [shown] * 3
    )


def test_a_table_is_aligned():
    rows = [('name', 'size'), ('conv1', '1'), ('fc', '1,000')]
    assert tables.aligned(rows).splitlines() == [
        'name    size', 'conv1      1', 'fc     1,000',
    ]  # fmt: skip


def test_a_file_is_the_old_or_the_new_one(tmp_path):
    path = tmp_path / 'result.json'
    files.write_json(path, {'a': 1})
    with pytest.raises(TypeError):
        files.write_json(path, {'a': object()})
    assert files.read_json(path) == {'a': 1}
    assert list(tmp_path.iterdir()) == [path]
    path.write_text('{"a": ')
    assert files.read_json(path) is None
    assert files.read_json(tmp_path / 'none.json') is None


def test_what_comes_to_the_host_leaves_no_copy_behind():
    mesh = mesh_lib.make_mesh(data=2, tower=2, towers=2, batch_size=2)
    value = np.arange(12.0, dtype=np.float32).reshape(2, 6)
    for spec in (mesh_lib.P('data', 'tower'), mesh_lib.P(None, 'tower'), mesh_lib.P()):
        array = jax.device_put(value, jax.sharding.NamedSharding(mesh, spec))
        np.testing.assert_array_equal(mesh_lib.to_host(array), value)
        assert array._npy_value is None
