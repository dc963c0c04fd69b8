"""The steps since the last log line, and what the line says of them.

A line covers the same steps whatever happens between two of them: an evaluation, a
checkpoint or a restart. So a checkpoint carries the window (`kept`), and the run that
goes on from it starts with it.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from alexnet_jax import mesh as mesh_lib
from alexnet_jax import metrics
from alexnet_jax.run import nonfinite, progress

Scalars = dict[str, float]


class LogWindow:
    """Collects what the train step returns, on the devices until it is needed.

    Args:
      batch_size: images of a step, for the rate.
      kept: what `kept` returned in the run that this one continues.
    """

    def __init__(self, batch_size: int, kept: Sequence[dict[str, Any]] = ()):
        self._batch_size = batch_size
        self._fetched = list(kept)
        self._on_devices: list[dict[str, jax.Array]] = []
        self._timed = 0  # steps of this process, which its clock has seen

    def add(self, step_metrics: dict[str, jax.Array]) -> None:
        """Takes in what `step.make_train_step` returns beside the state."""
        self._on_devices.append(step_metrics)
        self._timed += 1

    def wait(self) -> None:
        """Waits until the latest step is done."""
        jax.block_until_ready(self._on_devices[-1:])

    def kept(self) -> list[dict[str, Any]]:
        """Each step's metrics as JSON; floats are those of the devices exactly."""
        for step_metrics in self._on_devices:
            on_host = jax.tree.map(mesh_lib.to_host, step_metrics)
            self._fetched.append(
                {
                    'sums': on_host['sums'].tolist(),
                    'learning_rate': float(on_host['learning_rate']),
                    'squared_norms': on_host['squared_norms'].sum(axis=0).tolist(),
                }
            )
        self._on_devices.clear()
        return list(self._fetched)

    def check_finite(self, now: int) -> None:
        """Finds a NaN or infinite loss, before anything is saved of it.

        Args:
          now: the latest step.

        Raises:
          NonFiniteLossError: of the first such step.
        """
        steps = self.kept()
        for number, step in enumerate(steps, now - len(steps) + 1):
            if not np.isfinite(step['sums'][0]):
                gradient, parameters, update = np.sqrt(step['squared_norms'])
                raise nonfinite.NonFiniteLossError(
                    number,
                    f'the loss of step {number} is not finite (norms there: '
                    f'gradient {gradient:.4g}, parameters {parameters:.4g}, update '
                    f'{update:.4g}; learning rate {step["learning_rate"]:.4g})',
                )

    def close(
        self, now: int, length: progress.RunLength, clock: progress.Clock
    ) -> Scalars:
        """The window's means; the next step begins another one.

        Args:
          now: the latest step.
          length: of the run.
          clock: of this process, whose lap the window ends.
        """
        steps = self.kept()
        seconds, waited = clock.lap()
        gradient, parameters, update = np.sqrt(steps[-1]['squared_norms'])
        scalars = metrics.mean([np.array(step['sums']) for step in steps], 'train') | {
            'train/epoch': length.epoch(now),
            'train/learning_rate': steps[-1]['learning_rate'],
            'train/images_per_second': self._timed * self._batch_size / seconds,
            'train/seconds_per_step': seconds / max(1, self._timed),
            'train/input_wait_fraction': waited / seconds,
            'train/gradient_norm': float(gradient),
            'train/parameter_norm': float(parameters),
            'train/update_norm': float(update),
        }
        self._fetched.clear()
        self._timed = 0
        return scalars
