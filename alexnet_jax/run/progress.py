"""How far a run is: its length, where its time goes, and the lines it prints."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class RunLength:
    """Epochs turned into steps, once; an epoch may end inside a step."""

    steps_per_epoch: float
    total_steps: int
    eval_every: float  # steps

    def epoch(self, step: int) -> float:
        return step / self.steps_per_epoch

    def is_evaluation(self, step: int) -> bool:
        """At the end of the step in which an evaluation falls due, and at the last."""
        return step == self.total_steps or self.evaluations(step) > self.evaluations(
            step - 1
        )

    def evaluations(self, step: int) -> int:
        """How many evaluations fall due by a step."""
        return int(step / self.eval_every + 1e-9)


def run_length(
    *,
    num_examples: int,
    batch_size: int,
    epochs: float,
    steps: int,
    eval_every_epochs: float,
) -> RunLength:
    """Works out a run's length; exactly one of `epochs` and `steps` is not 0."""
    per_epoch = num_examples / batch_size
    return RunLength(
        steps_per_epoch=per_epoch,
        total_steps=steps or max(1, round(epochs * per_epoch)),
        eval_every=max(1.0, eval_every_epochs * per_epoch),
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

    def line(self) -> str:
        phases = ', '.join(f'{name} {s:.2f}' for name, s in self._phases.items())
        total = sum(self._phases.values())
        return f'first step {total:.2f} s after the start: {phases}'


class Clock:
    """Splits the loop's time into waiting for data, work, and pauses (evaluation)."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._waited = self._paused = 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._paused += time.perf_counter() - start

    def lap(self) -> tuple[float, float]:
        """Seconds since the last lap without pauses, and those spent waiting."""
        now = time.perf_counter()
        result = now - self._start - self._paused, self._waited
        self._start, self._waited, self._paused = now, 0.0, 0.0
        return result


def train_line(step: int, length: RunLength, scalars: Mapping[str, float]) -> str:
    """The line of one logging interval."""
    left = (length.total_steps - step) * scalars['train/seconds_per_step']
    return (
        f'step {step:>6}/{length.total_steps}'
        f'  epoch {length.epoch(step):6.2f}'
        f'  loss {scalars["train/loss"]:.4f}'
        f'  top-1 err {scalars["train/top1_error"]:6.2%}'
        f'  top-5 err {scalars["train/top5_error"]:6.2%}'
        f'  lr {scalars["train/learning_rate"]:.2g}'
        f'  {scalars["train/images_per_second"]:,.0f} images/s'
        f'  {duration(left)} left'
    )


def evaluation_line(split: str, scalars: Mapping[str, float]) -> str:
    """The line of one evaluation; `split` is 'val' or 'test'."""
    name = {'val': 'validation', 'test': 'test'}[split]
    return (
        f'  {name}: loss {scalars[f"{split}/loss"]:.4f}'
        f'  top-1 err {scalars[f"{split}/top1_error"]:.2%}'
        f'  top-5 err {scalars[f"{split}/top5_error"]:.2%}'
        f'  (accuracy {1 - scalars[f"{split}/top1_error"]:.2%})'
    )


def duration(seconds: float) -> str:
    """Seconds as '3h12m', '4m05s' or '7s'."""
    if not np.isfinite(seconds):
        return '?'
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f'{hours}h{minutes:02d}m'
    return f'{minutes}m{seconds:02d}s' if minutes else f'{seconds}s'
