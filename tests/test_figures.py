"""Pictures: where each kernel lies, and curves from a run's metrics."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from alexnet_jax import figures


def write_metrics(workdir, steps=200, per_epoch=25):
    rng = np.random.default_rng(0)
    rows = []
    for step in range(5, steps + 1, 5):
        loss = 0.3 + 2 * np.exp(-step / 40) + 0.05 * rng.normal()
        rows.append(
            {
                'step': step,
                'train/epoch': step / per_epoch,
                'train/loss': loss,
                'train/top1_error': min(0.9, loss / 2.5),
                'train/learning_rate': 0.01 if step < 150 else 0.001,
            }
        )
        if step % per_epoch == 0:
            rows.append(
                {
                    'step': step,
                    'val/loss': loss + 0.1,
                    'val/top1_error': loss / 2.4,
                    'val/top5_error': loss / 9,
                }
            )
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    (workdir / 'metrics.jsonl').write_text(text)


@pytest.mark.parametrize('towers', [1, 2])
@pytest.mark.parametrize(('size', 'count'), [(11, 96), (5, 64), (3, 6)])
def test_kernel_grid_shows_each_kernel_once_tower_above_tower(towers, size, count):
    kernels = np.zeros((size, size, 3, count), np.float32)
    # Kernel i is all positive, but for as many negative weights as its number says.
    for i in range(count):
        kernels[..., i] = 1.0
        kernels[..., 0, i].flat[0] = -1.0 - i
    image = figures.kernel_grid(kernels, towers)
    assert image.dtype == np.uint8 and image.shape[2] == 3
    first_pixels = np.argwhere((image[..., 0] == 0) & (image[..., 1] > 0))
    zoom = max(1, 44 // size)
    assert len(first_pixels) == count * zoom**2
    rows = sorted({y for y, _ in first_pixels.tolist()})
    assert len(rows) == towers * -(-count // towers // 16) * zoom
    # Read in order, top to bottom and left to right, the green values fall from
    # kernel to kernel: 1 scaled by a largest weight that grows with the number.
    tops = [y for y in rows if y - 1 not in rows]
    greens = []
    for y in tops:
        xs = np.flatnonzero((image[y, :, 0] == 0) & (image[y, :, 1] > 0))
        greens += [int(image[y, x, 1]) for x in xs if x - 1 not in xs]
    assert len(greens) == count
    assert greens == sorted(greens, reverse=True)
    if towers == 2:
        gaps = np.diff(tops)
        assert gaps[len(tops) // 2 - 1] == max(gaps)


def test_kernel_grid_of_nothing_is_grey():
    kernels = np.zeros((5, 5, 3, 4), np.float32)
    kernels[0, 0, 0, 0] = np.nan
    kernels[0, 0, 0, 1] = np.inf
    assert set(np.unique(figures.kernel_grid(kernels, 2))) == {128, 255}


@pytest.mark.parametrize(('shape', 'towers'), [((5, 5, 1, 4), 2), ((5, 5, 3, 5), 2)])
def test_kernel_grid_refuses_other_shapes(shape, towers):
    with pytest.raises(ValueError, match='must be'):
        figures.kernel_grid(np.zeros(shape), towers)


def test_png_round_trip(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    figures.save_png(tmp_path / 'a.png', image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'a.png')), image)


def test_curves_are_drawn(tmp_path, capsys):
    pytest.importorskip('matplotlib')
    write_metrics(tmp_path)
    output = tmp_path / 'pictures' / 'new'
    figures.main([f'--workdir={tmp_path}', f'--output={output}'])
    assert capsys.readouterr().out.strip() == str(output / 'curves.png')
    picture = np.asarray(Image.open(output / 'curves.png').convert('RGB')).astype(int)
    for colour in (figures.BLUE, figures.ORANGE):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(picture - rgb).sum(axis=2) < 12).sum() > 100


def test_a_null_is_a_gap_and_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    path.write_text('{"step": 1, "x": 2.0}\n{"step": 2, "x": null}\n{"step": 3, "x')
    np.testing.assert_array_equal(
        figures.read_metrics(path)['x'], [[1.0, 2.0], [2.0, np.nan]]
    )
    path.write_text('{"step": 1, "x\n{"step": 2, "x": 1.0}\n')
    with pytest.raises(ValueError, match='line 1'):
        figures.read_metrics(path)


def test_mistakes_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match='has no metrics'):
        figures.main([f'--workdir={tmp_path}'])
    (tmp_path / 'metrics.jsonl').write_text('')
    with pytest.raises(SystemExit, match='has no losses yet'):
        figures.main([f'--workdir={tmp_path}'])
    write_metrics(tmp_path)
    monkeypatch.setitem(sys.modules, 'matplotlib.backends', None)
    with pytest.raises(SystemExit, match=r'alexnet_jax\[figures\]'):
        figures.main([f'--workdir={tmp_path}'])
