"""A record's picture: training and validation error of each arm over time, as SVG.

Arms differ in their dashes, from the fifth on in their markers too, as well as in
colours that the colour-blind can tell apart, so that grey is enough. A band is from the
smallest to the largest of the seeds.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.runs import Run
from experiments.studies.study import Study

# Okabe and Ito's, from dark to light.
COLOURS = ('#000000', '#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00')
DASHES: tuple[Any, ...] = ('-', (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
MARKERS = ('', 'o', 's', '^', 'D')  # one for as many arms as there are dashes


def digest(study: Study, runs: Sequence[Run]) -> str:
    """Names what a picture shows, so that an old one is noticed."""
    style = (COLOURS, DASHES, MARKERS)
    shown = (study.name, study.arms, study.in_steps, runs, *_marks(study), style)
    return hashlib.sha256(repr(shown).encode()).hexdigest()


def digest_in(svg: str) -> str | None:
    """The digest that `curves` wrote into a picture."""
    found = re.search(r'runs ([0-9a-f]{64})', svg)
    return found[1] if found else None


def curves(study: Study, runs: Sequence[Run]) -> str:
    """Draws the running training error and the validation error of each arm.

    Raises:
      ValueError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.backends import backend_svg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ValueError(
            'figures need matplotlib: make install-dev, or pip install matplotlib'
        ) from None
    figure = Figure(figsize=(9, 3.6), layout='constrained')
    backend_svg.FigureCanvasSVG(figure)
    arms = [arm for arm in study.arms if any(run.arm == arm for run in runs)]
    for axes, metric, label in zip(
        figure.subplots(1, 2),
        ('train/top1_error', 'val/top1_error'),
        ('running training error (%)', 'validation error (%)'),
        strict=True,
    ):
        for place, arm in enumerate(arms):
            own = [run for run in runs if run.arm == arm]
            points = [
                run.series[metric] if study.in_steps else run.in_epochs(metric)
                for run in own
                if metric in run.series
            ]
            _draw(axes, place, arm, points)
        for marked, value in _marks(study):
            if marked == metric:
                axes.axhline(100 * value, color='#888888', linewidth=0.8)
        axes.set_title(label, loc='left', fontsize=10)
        axes.set_xlabel('step' if study.in_steps else 'epoch')
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(axis='y', color='#dddddd', linewidth=0.6)
        axes.spines[['top', 'right']].set_visible(False)
    legend = {'frameon': False, 'fontsize': 8, 'handlelength': 3.5}
    if len(arms) <= 2 * len(DASHES):
        figure.axes[0].legend(**legend)
    else:  # so many names would hide the curves
        names = figure.axes[0].get_legend_handles_labels()
        figure.legend(*names, loc='outside right center', **legend)
    text = io.StringIO()
    # Text as text: smaller, and the same whatever fonts there are.
    with matplotlib.rc_context({'svg.hashsalt': 'alexnet', 'svg.fonttype': 'none'}):
        figure.savefig(
            text,
            format='svg',
            metadata={'Date': None, 'Description': f'runs {digest(study, runs)}'},
        )
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    return '\n'.join(lines) + '\n'


def _marks(study: Study) -> list[tuple[str, float]]:
    """The thresholds that a study asks its curves for."""
    return [measure.mark for measure in study.columns if measure.mark]


def _draw(
    axes: Any, place: int, arm: str, series: Sequence[Sequence[Sequence[float]]]
) -> None:
    """Draws an arm's runs, each of (time, error)."""
    if not series:
        return
    times = np.array([time for time, _ in min(series, key=len)])
    errors = 100 * np.array([[v for _, v in one[: len(times)]] for one in series])
    colour = COLOURS[place % len(COLOURS)]
    axes.plot(
        times,
        errors.mean(axis=0),
        color=colour,
        linestyle=DASHES[place % len(DASHES)],
        marker=MARKERS[place // len(DASHES) % len(MARKERS)],
        markersize=3,
        markevery=max(1, len(times) // 8),
        linewidth=1.4,
        label=f'{arm} (n = {len(series)})',
    )
    if len(series) > 1:
        axes.fill_between(
            times, errors.min(axis=0), errors.max(axis=0), color=colour, alpha=0.15,
            linewidth=0,
        )  # fmt: skip
