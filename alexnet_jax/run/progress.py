"""How far a run is: its length, where its time goes, and the lines it prints."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping

import numpy as np

MANY_CLASSES = 10  # with fewer, a top-5 error says nothing


@dataclasses.dataclass(frozen=True)
class RunLength:
    """Epochs turned into steps, once; an epoch may end inside a step."""

    steps_per_epoch: float
    total_steps: int
    eval_every: float  # steps
    stretch: float = 1.0  # how many times as long as its schedule is written for

    @property
    def steps_per_schedule_epoch(self) -> float:
        """Of the epochs that the schedule's events name."""
        return self.steps_per_epoch * self.stretch

    def epoch(self, step: int) -> float:
        """How many times the training set has been seen at the end of a step."""
        return step / self.steps_per_epoch

    def is_evaluation(self, step: int) -> bool:
        """At the end of the step in which an evaluation falls due, and at the last."""
        return step == self.total_steps or self.evaluations(step) > self.evaluations(
            step - 1
        )

    def evaluations(self, step: int) -> int:
        """How many evaluations fall due by a step."""
        return int(step / self.eval_every + 1e-9)

    def shows_parameters(self, step: int, every_evals: int) -> bool:
        """Whether kernels and histograms are due at an evaluation: at the last, too."""
        last = step == self.total_steps
        return every_evals > 0 and (last or self.evaluations(step) % every_evals == 0)


def run_length(
    *,
    num_examples: int,
    batch_size: int,
    epochs: float,
    steps: int,
    eval_every_epochs: float,
    schedule_epochs: float = 0.0,
) -> RunLength:
    """Works out a run's length; exactly one of `epochs` and `steps` is not 0.

    Args:
      num_examples: of the training split.
      batch_size: images of a step.
      epochs: length of the run, or 0.
      steps: length of the run, or 0.
      eval_every_epochs: may be fractional.
      schedule_epochs: the length that the schedule's epochs are written for; they
        keep their fractions of the run. 0: they are epochs of the run.
    """
    per_epoch = num_examples / batch_size
    stretch = 1.0
    if schedule_epochs:
        stretch = (epochs or steps / per_epoch) / schedule_epochs
    return RunLength(
        steps_per_epoch=per_epoch,
        total_steps=steps or max(1, round(epochs * per_epoch)),
        eval_every=max(1.0, eval_every_epochs * per_epoch),
        stretch=stretch,
    )


class Startup:
    """Where the time from the program's start to the end of the first step goes.

    Args:
      started: when that was, by `time.perf_counter`; None for now.
    """

    def __init__(self, started: float | None = None) -> None:
        self._latest = time.perf_counter() if started is None else started
        self._phases: dict[str, float] = {}

    def end(self, phase: str) -> None:
        """Ends a phase, which began at the end of the one before."""
        now = time.perf_counter()
        self._phases[phase] = now - self._latest
        self._latest = now

    def lines(self) -> str:
        """Seconds from the start to the end of the first step, in all and by phase."""
        phases = ', '.join(f'{name} {s:.2f}' for name, s in self._phases.items())
        total = sum(self._phases.values())
        return f'first step after {total:.2f} s:\n  {phases}'


class Clock:
    """Splits the loop's time into waiting for data, work, and pauses (evaluation)."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._waited = self._paused = 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time within as waited for input."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time within out of the rates: it is no training."""
        start = time.perf_counter()
        yield
        self._paused += time.perf_counter() - start

    def lap(self) -> tuple[float, float]:
        """Seconds since the last lap without pauses, and those spent waiting."""
        now = time.perf_counter()
        result = now - self._start - self._paused, self._waited
        self._start, self._waited, self._paused = now, 0.0, 0.0
        return result


WIDTHS = {
    'step': 8, 'epoch': 7, 'loss': 9, 'top-1 err': 10, 'top-5 err': 10,
    'rate': 9, 'images/s': 9, 'left': 8,
}  # fmt: skip


def header(num_classes: int) -> str:
    """The names above the columns of `train_line`."""
    return _row({name: name for name in WIDTHS}, num_classes)


def train_line(
    step: int, length: RunLength, scalars: Mapping[str, float], num_classes: int
) -> str:
    """The line of one logging interval, of at most 80 columns."""
    left = (length.total_steps - step) * scalars['train/seconds_per_step']
    cells = {
        'step': f'{step:,}',
        'epoch': f'{length.epoch(step):.2f}',
        'loss': f'{scalars["train/loss"]:.4f}',
        'top-1 err': f'{scalars["train/top1_error"]:.2%}',
        'top-5 err': f'{scalars["train/top5_error"]:.2%}',
        'rate': f'{scalars["train/learning_rate"]:.2g}',
        'images/s': f'{scalars["train/images_per_second"]:,.0f}',
        'left': duration(left),
    }
    return _row(cells, num_classes)


def _row(cells: Mapping[str, str], num_classes: int) -> str:
    few = num_classes < MANY_CLASSES
    shown = {name: c for name, c in cells.items() if name != 'top-5 err' or not few}
    return ' '.join(f'{cell:>{WIDTHS[name]}}' for name, cell in shown.items())


def evaluation_line(split: str, scalars: Mapping[str, float], num_classes: int) -> str:
    """The line of one evaluation; `split` is 'val', 'test' or 'train_view'."""
    name = {'val': 'validation', 'test': 'test', 'train_view': 'training'}[split]
    line = f'  {name}: loss {scalars[f"{split}/loss"]:.4f}'
    line += f'  top-1 err {scalars[f"{split}/top1_error"]:.2%}'
    if num_classes >= MANY_CLASSES:
        line += f'  top-5 err {scalars[f"{split}/top5_error"]:.2%}'
    return line


def duration(seconds: float) -> str:
    """Seconds as '3h12m', '4m05s' or '7s'."""
    if not np.isfinite(seconds):
        return '?'
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f'{hours}h{minutes:02d}m'
    return f'{minutes}m{seconds:02d}s' if minutes else f'{seconds}s'
