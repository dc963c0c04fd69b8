"""Copies of a workdir as it stands at an instant of a run: what a kill would leave.

A killed process leaves on the disk what it had written by then, no more; so a copy that
is made between two instructions of a run is the folder of a run that was killed there,
and one run gives as many of them as are wanted.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alexnet_jax.run import checkpoint, log_window, writers


@contextlib.contextmanager
def taken(workdir: Path, target: Path, wanted: set[str]) -> Iterator[None]:
    """Copies the workdir of the run within at these instants, to `<target>/<name>`.

    `step 3` (made, nothing of it written), `line 5` (of metrics), `evaluation 6` (its
    first batch), `scalars 6`, `best 6` (saved), `save 6` (begun).
    """
    steps = [0]

    def take(name: str) -> None:
        copy = target / name.replace(' ', '_')
        if name in wanted and not copy.exists():
            # What is renamed meanwhile is missed, as by a kill a little earlier.
            with contextlib.suppress(shutil.Error):
                shutil.copytree(workdir, copy)

    def after(owner: Any, method: str, name: Callable[..., str]) -> None:
        plain = getattr(owner, method)

        def changed(self: Any, *args: Any) -> Any:
            result = plain(self, *args)
            take(name(*args))
            return result

        patch.setattr(owner, method, changed)

    def count_step(_: object) -> str:
        steps[0] += 1
        return f'step {steps[0]}'

    def name_scalars(step: int, values: dict[str, float]) -> str:
        return f'line {step}' if 'train/loss' in values else f'scalars {step}'

    def eval_batches(*args: Any, **options: Any) -> Iterator[Any]:
        for batch in plain_batches(*args, **options):
            yield batch
            take(f'evaluation {steps[0]}')

    from alexnet_jax.data import pipeline

    plain_batches = pipeline.eval_batches
    with pytest.MonkeyPatch.context() as patch:
        after(log_window.LogWindow, 'add', count_step)
        after(writers.MetricWriter, 'scalars', name_scalars)
        after(checkpoint.Checkpoints, 'save', lambda step, *_: f'save {step}')
        after(checkpoint.Checkpoints, 'save_best', lambda step, *_: f'best {step}')
        patch.setattr(pipeline, 'eval_batches', eval_batches)
        yield
