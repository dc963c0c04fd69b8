"""What runs logged, as a picture: loss and errors against epochs."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.analysis import drawing

BLUE, ORANGE, GREY = '#2b6cb0', '#c05621', '#4a5568'
# Okabe and Ito's, which the colour-blind can tell apart.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000')


Metrics = Mapping[str, np.ndarray]


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


def read_runs(workdirs: Sequence[Path]) -> dict[str, Metrics]:
    """The metrics of runs by the names of their folders.

    Raises:
      ValueError: a folder has no metrics.jsonl, or no losses in it yet.
    """
    runs: dict[str, Metrics] = {}
    for workdir in workdirs:
        file = workdir / 'metrics.jsonl'
        if not file.is_file():
            raise ValueError(f'--workdir={workdir} has no metrics.jsonl')
        metrics = read_metrics(file)
        if not any(name.endswith('/loss') for name in metrics):
            raise ValueError(f'{file} has no losses yet')
        name = workdir.resolve().name
        runs[name if name not in runs else str(workdir)] = metrics
    return runs


Line = tuple[str, str, str, str, float]  # metric, label, colour, style, factor


def plot_curves(runs: Mapping[str, Metrics], path: str | Path) -> None:
    """Draws loss and errors against epochs, or steps where no epoch was logged.

    Args:
      runs: what `read_metrics` returned, by the name that the picture shows. One run
        has its training and validation in two colours, several have a colour each.
      path: of the picture; its suffix says the format.

    Raises:
      ValueError: matplotlib is not installed.
    """
    figure = drawing.figure(9, 3.8)
    title = next(iter(runs)) if len(runs) == 1 else ''
    figure.suptitle(title, x=0.01, ha='left', fontsize=11, color=GREY)
    counted = all(_epochs_per_step(metrics)[1] for metrics in runs.values())
    for axes, label, lines in zip(
        figure.subplots(1, 2),
        ('cross-entropy loss', 'error (%)'),
        _one_run() if len(runs) == 1 else _several_runs(list(runs)),
        strict=True,
    ):
        for metrics, own in zip(runs.values(), lines, strict=True):
            per_step = _epochs_per_step(metrics)[0] if counted else 1.0
            _draw(axes, metrics, own, per_step)
            if len(runs) == 1:
                _mark_rate_cuts(axes, metrics.get('train/learning_rate'), per_step)
        axes.set_xlabel('epoch' if counted else 'step')
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


def _one_run() -> tuple[list[list[Line]], list[list[Line]]]:
    """The lines of the two panels."""
    loss: list[Line] = [
        ('train/loss', 'training', BLUE, '-', 1.0),
        ('val/loss', 'validation', ORANGE, '-', 1.0),
    ]
    error: list[Line] = [
        ('train/top1_error', 'training, top-1', BLUE, '-', 100.0),
        ('val/top1_error', 'validation, top-1', ORANGE, '-', 100.0),
        ('val/top5_error', 'validation, top-5', ORANGE, '--', 100.0),
    ]
    return [loss], [error]


def _several_runs(names: Sequence[str]) -> tuple[list[list[Line]], list[list[Line]]]:
    panels: tuple[list[list[Line]], list[list[Line]]] = [], []
    for name, colour in zip(names, itertools.cycle(COLOURS), strict=False):
        for panel, metric, factor in zip(
            panels, ('loss', 'top1_error'), (1.0, 100.0), strict=True
        ):
            panel.append(
                [
                    (f'train/{metric}', f'{name}, training', colour, ':', factor),
                    (f'val/{metric}', f'{name}, validation', colour, '-', factor),
                ]
            )
    return panels


def _epochs_per_step(metrics: Metrics) -> tuple[float, bool]:
    """(epochs of a step, whether any epoch was logged)."""
    epochs = metrics.get('train/epoch', np.zeros((0, 2)))
    epochs = epochs[epochs[:, 1] > 0]
    return (epochs[-1, 1] / epochs[-1, 0], True) if len(epochs) else (1.0, False)


def _draw(axes: Any, metrics: Metrics, lines: Sequence[Line], per_step: float) -> None:
    for name, label, colour, style, factor in lines:
        if name not in metrics:
            continue
        points = metrics[name]
        is_validation = name.startswith('val/')
        axes.plot(
            points[:, 0] * per_step,
            points[:, 1] * factor,
            style,
            color=colour,
            label=label,
            linewidth=1.6 if is_validation else 1.0,
            # A few evaluations are shown as points, else the first is invisible.
            marker='o' if is_validation and len(points) <= 30 else None,
            markersize=3,
        )


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
