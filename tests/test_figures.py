"""Pictures: where each kernel lies, and curves from a run's metrics."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.analysis import curves
from alexnet_jax.run import pictures


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
    image = pictures.kernel_grid(kernels, towers)
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
    assert set(np.unique(pictures.kernel_grid(kernels, 2))) == {128, 255}


@pytest.mark.parametrize(('shape', 'towers'), [((5, 5, 1, 4), 2), ((5, 5, 3, 5), 2)])
def test_kernel_grid_refuses_other_shapes(shape, towers):
    with pytest.raises(ValueError, match='must be'):
        pictures.kernel_grid(np.zeros(shape), towers)


def test_png_round_trip(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    pictures.save_png(tmp_path / 'a.png', image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'a.png')), image)


def pixels_of(path, colour):
    picture = np.asarray(Image.open(path).convert('RGB')).astype(int)
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (np.abs(picture - rgb).sum(axis=2) < 12).sum()


def test_curves_of_one_run_and_of_several_are_drawn(tmp_path):
    pytest.importorskip('matplotlib')
    workdirs = [tmp_path / 'one', tmp_path / 'other']
    for workdir in workdirs:
        workdir.mkdir()
        write_metrics(workdir)
    path = tmp_path / 'curves.png'
    curves.plot_curves(curves.read_runs(workdirs[:1]), path)
    assert all(pixels_of(path, c) > 100 for c in (curves.BLUE, curves.ORANGE))
    runs = curves.read_runs(workdirs)
    assert list(runs) == ['one', 'other']
    runs['other'] = {
        name: points * [1, 0.5] if name.endswith('loss') else points
        for name, points in runs['other'].items()
    }
    curves.plot_curves(runs, path)
    assert all(pixels_of(path, c) > 100 for c in curves.COLOURS[:2])
    assert not pixels_of(path, curves.BLUE)


def test_the_command_draws_and_a_mistake_is_one_line(tmp_path):
    pytest.importorskip('matplotlib')
    for name in ('one', 'other', 'empty'):
        (tmp_path / name).mkdir()
        write_metrics(tmp_path / name)
    (tmp_path / 'empty' / 'metrics.jsonl').write_text('')

    def call(*names, output=None):
        flags = [f'--workdir={tmp_path / name}' for name in names]
        flags += [f'--output={output}'] if output else []
        done = subprocess.run(
            [sys.executable, '-m', 'alexnet_jax.figures', *flags],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, (done.stdout + done.stderr).strip()

    assert call('one', 'other') == (0, str(tmp_path / 'curves.png'))
    assert (tmp_path / 'curves.png').is_file()
    status, said = call('one', output=tmp_path / 'curves.xyz')
    assert status == 1 and 'curves.xyz: a picture ends with .png, .svg, .pdf' in said
    for names, words in (
        (['none'], 'has no metrics.jsonl'),
        (['empty'], 'has no losses yet'),
        ([], '--workdir=DIR is needed'),
    ):
        status, said = call(*names)
        assert status != 0
        assert said.startswith('error: ') and words in said and '\n' not in said


def test_without_matplotlib_it_says_how_to_install_it(tmp_path, monkeypatch):
    write_metrics(tmp_path)
    monkeypatch.setitem(sys.modules, 'matplotlib.backends', None)
    with pytest.raises(ValueError, match=r'pip install .*figures'):
        curves.plot_curves(curves.read_runs([tmp_path]), tmp_path / 'curves.png')


def test_a_labelled_grid_has_every_image_above_its_label():
    colours = np.random.default_rng(0).integers(30, 220, (5, 3))
    images = np.broadcast_to(colours[:, None, None], (5, 28, 28, 3)).astype(np.uint8)
    grid = pictures.labelled_grid(images, ['a', 'b', 'x' * 99, '', 'e'], columns=4)
    for i, colour in enumerate(colours):
        places = np.argwhere((grid == colour).all(-1))
        assert len(places) == (28 * 4) ** 2
        assert places[:, 0].min() == 4 + (i // 4) * (28 * 4 + 16 + 4)
    # A label too long for its image does not reach into the next one's column.
    label = grid[4 + 28 * 4 : 4 + 28 * 4 + 16]
    dark = (label < 100).all(-1).any(0)
    assert dark[4 + 2 * 116 : 4 + 3 * 116 - 4].any()
    assert not dark[4 + 3 * 116 - 4 :].any()


def test_a_null_is_a_gap_and_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    path.write_text('{"step": 1, "x": 2.0}\n{"step": 2, "x": null}\n{"step": 3, "x')
    np.testing.assert_array_equal(
        curves.read_metrics(path)['x'], [[1.0, 2.0], [2.0, np.nan]]
    )
    path.write_text('{"step": 1, "x\n{"step": 2, "x": 1.0}\n')
    with pytest.raises(ValueError, match='line 1'):
        curves.read_metrics(path)
