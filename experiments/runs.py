"""What the cells of a study measured: read from their workdirs, kept as a record.

A record has a line of JSON per run, `runs.jsonl`: what the run was, what it cost, and
every metric at every evaluation and log line, as [step, value].
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from alexnet_jax.analysis import curves
from alexnet_jax.system import files
from experiments import cells as cells_lib
from experiments import measured, workers

METRICS = tuple(
    f'{split}/{name}'
    for split in ('train', 'train_view', 'val', 'test')
    for name in ('loss', 'top1_error', 'top5_error')
)


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished cell."""

    arm: str
    seed: int
    commit: str
    steps: int
    epochs: float
    checkpoint: str  # in its workdir
    wall_seconds: float
    cpu_seconds: float
    series: dict[str, list[list[float]]]  # metric → [[step, value], …]
    # What inspections of the net found, and at which commits. Not in the repr, by which
    # a picture of the series knows that it is the same.
    measured: dict[str, float] = dataclasses.field(default_factory=dict, repr=False)
    measured_by: str = dataclasses.field(default='', repr=False)
    # Of its config but for the seed; '' in records from before 2026-12.
    digest: str = dataclasses.field(default='', repr=False)

    def inspected(self, key: str, factor: float = 1.0) -> float | None:
        """What an inspection found × the factor."""
        value = self.measured.get(key)
        return None if value is None else value * factor

    def last(self, metric: str, factor: float = 1.0) -> float | None:
        """The metric's last value × the factor."""
        points = self.series.get(metric)
        return points[-1][1] * factor if points else None

    def in_epochs(self, metric: str) -> list[tuple[float, float]]:
        """A metric against epochs."""
        per_step = self.epochs / self.steps
        return [(step * per_step, value) for step, value in self.series.get(metric, ())]

    def epochs_to(self, metric: str, threshold: float) -> float | None:
        """When it first was at or below a threshold; None: never."""
        before = None
        for epoch, value in self.in_epochs(metric):
            if value <= threshold:
                if before is None or before[1] <= value:
                    return epoch
                share = (before[1] - threshold) / (before[1] - value)
                return before[0] + share * (epoch - before[0])
            before = epoch, value
        return None


def read(cell: cells_lib.Cell) -> Run | None:
    """What a cell left; None while it is not finished."""
    result = cells_lib.read_result(cell)
    if result is None:
        return None
    views = cells_lib.read_ten_views(cell) if cell.evaluate else {}
    if views is None:
        return None
    metrics = curves.read_metrics(cell.workdir / 'metrics.jsonl')
    epochs = metrics['train/epoch']
    series = {
        name: [[int(step), _short(value)] for step, value in metrics[name]]
        for name in METRICS
        if name in metrics
    }
    steps = int(epochs[-1, 0])
    series |= {name: [[steps, _short(value)]] for name, value in views.items()}
    cost = files.read_json(cell.workdir / workers.COST) or {}
    starts = json.loads((cell.workdir / 'provenance.json').read_text())['starts']
    commits = dict.fromkeys(commit_of(start) for start in starts)
    numbers, measured_by = measured.of_run(cell.workdir)
    return Run(
        arm=cell.arm,
        seed=cell.seed,
        commit=', '.join(commits),
        steps=steps,
        epochs=round(float(epochs[-1, 1]), 4),
        checkpoint=f'{cell.name}/checkpoints/{steps}',
        wall_seconds=cost.get('wall_seconds', 0.0),
        cpu_seconds=cost.get('cpu_seconds', 0.0),
        series=series,
        measured=numbers,
        measured_by=measured_by,
        digest=cell.digest,
    )


def _short(value: float) -> float:
    """Six digits, more than an error over 10,000 images has."""
    return float(f'{value:.6g}')


def commit_of(start: dict[str, Any]) -> str:
    """The commit that `provenance.collect` found, with + where files were changed."""
    git = start.get('git') or {}
    return git.get('commit', 'unknown')[:12] + ('+' if git.get('dirty') else '')


def load(path: Path) -> list[Run]:
    """The runs of a record; none where there is no file."""
    if not path.is_file():
        return []
    return [Run(**json.loads(line)) for line in path.read_text().splitlines()]


def save(path: Path, runs: Iterable[Run]) -> None:
    """Writes a record's runs, arm by arm as they come and by seed."""
    lines = [json.dumps(dataclasses.asdict(run), separators=(',', ':')) for run in runs]
    files.write_atomically(path, ''.join(f'{line}\n' for line in lines))


def merged(kept: Sequence[Run], new: Sequence[Run], arms: Sequence[str]) -> list[Run]:
    """A record with new runs, each instead of the one of its arm and seed.

    What was measured on the net of the one before goes on to it if it is the same run.

    Raises:
      ValueError: an arm would have runs of two configs.
    """
    by_cell = {(run.arm, run.seed): run for run in kept}
    for run in new:
        before = by_cell.get((run.arm, run.seed))
        if before and before.measured and before.series == run.series:
            run = dataclasses.replace(
                run,
                measured=before.measured | run.measured,
                measured_by=_both(before.measured_by, run.measured_by),
            )
        by_cell[run.arm, run.seed] = run
    order = {arm: place for place, arm in enumerate(arms)}
    found = [by_cell[cell] for cell in by_cell if cell[0] in order]
    for arm in order:
        own = {run.digest: run.seed for run in found if run.arm == arm and run.digest}
        if len(own) > 1:
            one, other, *_ = own.values()
            raise ValueError(
                f'{arm}: seeds {one} and {other} were trained with different configs; '
                'train all seeds with one, or take the old runs out of the record'
            )
    return sorted(found, key=lambda run: (order[run.arm], run.seed))


def _both(before: str, now: str) -> str:
    """Two lists of commits as one."""
    return ', '.join(dict.fromkeys([*now.split(', '), *before.split(', ')])).strip(', ')
