"""Pictures of a run: its first kernels and its curves.

    python -m alexnet_jax.figures --workdir=runs/cifar10

writes `curves.png` from the workdir's metrics.jsonl (needs the extra `figures`). The
picture of the kernels is written by the main job.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

BLUE, ORANGE, GREY = '#2b6cb0', '#c05621', '#4a5568'


def kernel_grid(kernels: np.ndarray, towers: int) -> np.ndarray:
    """Lays kernels out as Figure 3 of the paper does: tower by tower.

    Each kernel is scaled by its own largest weight, so that middle grey is 0 and every
    kernel uses the full range; sizes cannot be compared between kernels.

    Args:
      kernels: [h, w, 3, F], tower 0's first.
      towers: rows of tower 0 come on top, a wider gap, then tower 1's.

    Returns:
      uint8 [H, W, 3], enlarged by whole pixels.
    """
    height, width, channels, count = kernels.shape
    if channels != 3 or count % towers:
        raise ValueError(
            f'kernels are {kernels.shape} for {towers} towers; they must be '
            f'[h, w, 3, F] with F a multiple of the towers'
        )
    kernels = np.nan_to_num(np.asarray(kernels, np.float32), posinf=0.0, neginf=0.0)
    largest = np.abs(kernels).max(axis=(0, 1, 2))
    scaled = 0.5 + 0.5 * kernels / np.where(largest > 0, largest, 1.0)
    pixels = np.round(255 * scaled).astype(np.uint8).transpose(3, 0, 1, 2)
    zoom = max(1, 44 // height)
    pixels = pixels.repeat(zoom, axis=1).repeat(zoom, axis=2)

    gap = 4
    per_tower = count // towers
    columns = min(16, per_tower)  # the paper's
    rows = -(-per_tower // columns)
    row_height, column_width = height * zoom + gap, width * zoom + gap
    tower_height = rows * row_height + 4 * gap
    image = np.full(
        (towers * tower_height - 3 * gap, columns * column_width + gap, 3),
        255,
        np.uint8,
    )
    for i, kernel in enumerate(pixels):
        tower, place = divmod(i, per_tower)
        row, column = divmod(place, columns)
        y = gap + tower * tower_height + row * row_height
        x = gap + column * column_width
        image[y : y + height * zoom, x : x + width * zoom] = kernel
    return image


def save_png(path: str | Path, image: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] as a PNG file."""
    from PIL import Image

    Image.fromarray(image).save(path, format='PNG', optimize=True)


def read_metrics(path: str | Path) -> dict[str, np.ndarray]:
    """Every metric of a metrics.jsonl as [n, 2]: step, value. A null is a NaN."""
    series: dict[str, list[tuple[float, float]]] = {}
    text = Path(path).read_text(encoding='utf-8')
    for number, line in enumerate(text.splitlines(), 1):
        try:
            values: dict[str, Any] = json.loads(line)
            step = values.pop('step')
        except (ValueError, KeyError, AttributeError):
            if number == text.count('\n') + 1:
                break  # the run is writing it just now
            raise ValueError(f'{path}, line {number} is not a metrics line') from None
        for name, value in values.items():
            point = (step, float('nan') if value is None else value)
            series.setdefault(name, []).append(point)
    return {name: np.array(points, float) for name, points in series.items()}


def plot_curves(metrics: dict[str, np.ndarray], path: str | Path, title: str) -> None:
    """Draws loss and errors against epochs, or steps where no epoch was logged."""
    try:
        from matplotlib.backends import backend_agg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise SystemExit(
            'error: curves need matplotlib: pip install "alexnet_jax[figures]"'
        ) from None

    epochs = metrics.get('train/epoch', np.zeros((0, 2)))
    epochs = epochs[epochs[:, 1] > 0]
    per_step = epochs[-1, 1] / epochs[-1, 0] if len(epochs) else 1.0

    figure = Figure(figsize=(9, 3.8), dpi=160, layout='constrained')
    backend_agg.FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha='left', fontsize=11, color=GREY)
    loss_axes, error_axes = figure.subplots(1, 2)
    panels = (
        (
            loss_axes,
            'cross-entropy loss',
            (
                ('train/loss', 'training', BLUE, '-', 1.0),
                ('val/loss', 'validation', ORANGE, '-', 1.0),
            ),
        ),
        (
            error_axes,
            'error (%)',
            (
                ('train/top1_error', 'training, top-1', BLUE, '-', 100.0),
                ('val/top1_error', 'validation, top-1', ORANGE, '-', 100.0),
                ('val/top5_error', 'validation, top-5', ORANGE, '--', 100.0),
            ),
        ),
    )
    for axes, label, lines in panels:
        for name, text, colour, style, scale in lines:
            if name not in metrics:
                continue
            points = metrics[name]
            is_validation = name.startswith('val/')
            axes.plot(
                points[:, 0] * per_step,
                points[:, 1] * scale,
                style,
                color=colour,
                label=text,
                linewidth=1.6 if is_validation else 1.0,
                # A few evaluations are shown as points, else the first is invisible.
                marker='o' if is_validation and len(points) <= 30 else None,
                markersize=3,
            )
        _mark_rate_cuts(axes, metrics.get('train/learning_rate'), per_step)
        axes.set_xlabel('epoch' if len(epochs) else 'step')
        axes.set_title(label, loc='left', fontsize=10, color=GREY)
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.grid(axis='y', color='#e2e8f0', linewidth=0.8)
        axes.spines[['top', 'right', 'left']].set_visible(False)
        axes.spines['bottom'].set_color('#a0aec0')
        axes.tick_params(colors=GREY, length=0, labelsize=9)
        axes.xaxis.label.set_color(GREY)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9, labelcolor=GREY)
    figure.savefig(path)


def _mark_rate_cuts(axes: Any, rates: np.ndarray | None, per_step: float) -> None:
    """A thin line where the learning rate falls by a factor of 2 or more at once."""
    if rates is None or len(rates) < 2:
        return
    values = rates[:, 1]
    cuts = np.flatnonzero((values[1:] > 0) & (values[1:] <= values[:-1] / 2)) + 1
    if len(np.unique(values)) > len(cuts) + 1:  # a continuous schedule
        return
    for i, cut in enumerate(cuts):
        axes.axvline(
            rates[cut, 0] * per_step,
            color='#a0aec0',
            linewidth=0.8,
            linestyle=':',
            label='learning rate cut' if i == 0 else None,
        )


def main(argv: Sequence[str] | None = None) -> None:
    # argparse: absl's flags are global, and the main job imports this module.
    parser = argparse.ArgumentParser(
        prog='python -m alexnet_jax.figures', description='Writes curves.png.'
    )
    parser.add_argument(
        '--workdir', type=Path, required=True, help='the run, with metrics.jsonl'
    )
    parser.add_argument(
        '--output', type=Path, help='directory to write to; by default the workdir'
    )
    args = parser.parse_args(argv)
    metrics_file = args.workdir / 'metrics.jsonl'
    if not metrics_file.is_file():
        raise SystemExit(f'error: --workdir={args.workdir} has no metrics.jsonl')
    try:
        metrics = read_metrics(metrics_file)
    except ValueError as error:
        raise SystemExit(f'error: {error}') from None
    if not any(name.endswith('/loss') for name in metrics):
        raise SystemExit(f'error: {metrics_file} has no losses yet')
    output = args.output or args.workdir
    output.mkdir(parents=True, exist_ok=True)
    plot_curves(metrics, output / 'curves.png', args.workdir.resolve().name)
    print(output / 'curves.png')


if __name__ == '__main__':
    main()
