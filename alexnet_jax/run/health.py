"""Signs that a run learns nothing, each said once.

Looked for at log steps, in what is there anyway: the means of the log line, the
velocities of the biases, the first batch. The compiled step knows nothing of it.
"""

import math
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from alexnet_jax import optimizer
from alexnet_jax.model import Network
from alexnet_jax.system import processes

FLAT = 0.005  # of ln(classes), on either side
# A velocity without gradients shrinks by the momentum at each step, from some 1e-8 to
# here in 260 steps.
STILL = 1e-20

_SEE = 'docs/fidelity.md, "Why does the loss stay at 6.9?"'


class Watch:
    """Warns once of each sign that `config.train.warn` names.

    Args:
      config: of the run.
      network: that is trained.
      num_classes: of the data set.
      steps_per_schedule_epoch: see `progress.RunLength`; `optimizer.layer_rates` count
        in these epochs.
    """

    def __init__(
        self,
        config: ConfigDict,
        network: Network,
        num_classes: int,
        steps_per_schedule_epoch: float,
    ):
        self._config = config
        self._steps_per_epoch = steps_per_schedule_epoch
        self._layers = [layer.name for layer in network.layers[:-1]]
        self._flat_loss = math.log(num_classes)
        self._flat_since: int | None = None
        self._said: set[str] = set()

    def check_inputs(self, batch: Mapping[str, np.ndarray]) -> None:
        """Warns of a batch whose images are all the same, or all of one grey."""
        if not self._config.train.warn.flat_inputs:
            return
        images = batch['image']
        flat = images.min() == images.max()
        if flat or (len(images) > 1 and (images == images[:1]).all()):
            self._warn(
                'flat_inputs',
                'the images of the first batch are '
                + ('all of one grey' if flat else 'all the same')
                + ': the net can learn nothing of them; look at the source, and at '
                'visual/augmented_batch in TensorBoard',
            )

    def check(self, now: int, scalars: Mapping[str, float], opt_state: Any) -> None:
        """Warns at a log step of a flat loss and of layers that learn nothing."""
        warn = self._config.train.warn
        limit = warn.flat_loss_steps
        flat = abs(scalars['train/loss'] / self._flat_loss - 1.0) < FLAT
        if not flat:
            self._flat_since = None
        elif self._flat_since is None:
            self._flat_since = now
        elif 0 < limit <= now - self._flat_since:
            self._warn(
                'flat_loss_steps',
                f'the loss has been at ln(classes) = {self._flat_loss:.3f} for '
                f'{now - self._flat_since:,} steps: the net knows nothing of the '
                'image. The usual reason is too small a signal at the start, from '
                'inputs of unit variance under the paper’s 0.01, or from its 0.01 in '
                f'conv3 to conv5; configs/released_2012.py has 0.03 there. See {_SEE}',
            )
        if warn.dead_layers and 'dead_layers' not in self._said:
            # That of the update just made: a layer that moves from here on has had no
            # gradient yet.
            epoch = (now - 1) / self._steps_per_epoch
            if dead := self._dead(opt_state, epoch):
                self._warn(
                    'dead_layers',
                    f'every unit of {dead[-1]} is dead: it gives the same for every '
                    'image, so that no gradient reaches '
                    + ', '.join(dead)
                    + '. A rate that was too high at some step, or a large negative '
                    'bias, can do that; start again with a smaller '
                    f'optimizer.learning_rate or another start. See {_SEE}',
                )

    def _dead(self, opt_state: Any, epoch: float) -> list[str]:
        """The layers that learn and whose biases have had no gradient for long."""
        settings = self._config.optimizer
        moving = [
            name
            for name in self._layers
            if settings.bias_rate
            and optimizer.rate_multiplier(settings, name, 'bias', epoch) > 0  # pyrefly: ignore
        ]
        velocity = optax.tree_utils.tree_get(opt_state, 'trace')
        largest = _largest([velocity[name]['bias'] for name in moving])
        return [n for n, v in zip(moving, largest, strict=True) if float(v) < STILL]

    def _warn(self, key: str, text: str) -> None:
        if key not in self._said and processes.is_first():
            off = 0 if key == 'flat_loss_steps' else False
            print(
                f'warning: {text} (--config.train.warn.{key}={off} turns this off)',
                file=sys.stderr,
                flush=True,
            )
        self._said.add(key)


@jax.jit
def _largest(arrays: list[jax.Array]) -> list[jax.Array]:
    return [jnp.abs(array).max() for array in arrays]
