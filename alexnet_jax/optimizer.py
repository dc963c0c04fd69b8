"""The update rule of 2012 and the schedules of its learning rate (§5).

    v ← 0.9 · v − 0.0005 · ε · w − ε · ∂L/∂w        w ← w + v

The rate ε is *inside* the velocity: lowering it leaves the speed already gained as it
is. `optax.sgd` and `torch.optim.SGD` multiply by the rate after the momentum; the two
agree while the rate is constant and part at every cut.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.typing import ArrayLike

Array = jax.Array

SCHEDULES = ('constant', 'plateau', 'steps', 'cosine', 'dexp')


@struct.dataclass
class Plateau:
    """What the plateau rule remembers; part of the training state, so checkpointed.

    Device arrays in the step, NumPy scalars where the host takes in an evaluation.
    """

    best: Any  # f32[], the lowest validation error so far
    stale: Any  # i32[], evaluations since then
    cuts: Any  # i32[], times the rate was cut


def initial_plateau() -> Plateau:
    """Before the first validation."""
    return Plateau(best=np.float32(np.inf), stale=np.int32(0), cuts=np.int32(0))


def update_plateau(
    plateau: Plateau, error: float, *, patience: int, threshold: float, max_cuts: int
) -> Plateau:
    """Takes in one validation error; cuts the rate when it has stopped improving.

    §5: "divide the learning rate by 10 when the validation error rate stopped
    improving with the current learning rate", by hand in 2012. Here: `patience`
    evaluations in a row without an error below the best by more than `threshold`.
    """
    if error < plateau.best - threshold:
        return dataclasses.replace(plateau, best=np.float32(error), stale=np.int32(0))
    stale = int(plateau.stale) + 1
    if stale >= patience and plateau.cuts < max_cuts:
        return dataclasses.replace(
            plateau, stale=np.int32(0), cuts=np.int32(plateau.cuts + 1)
        )
    return dataclasses.replace(plateau, stale=np.int32(stale))


LearningRate = Callable[[Array, Plateau], Array]


def create_learning_rate_schedule(
    config: Mapping[str, Any], *, steps_per_epoch: float, total_steps: int
) -> LearningRate:
    """Makes the function (step, plateau) → f32[] of `config.optimizer`.

    Schedules: `constant`; `plateau` (§5, automated); `steps`, × factor at each of the
    given epochs; `cosine` to 0 at the last step; `dexp`, cuda-convnet2's stepped
    exponential, down by `factor` over equal quarters of the run.

    Args:
      config: the keys of `config.optimizer`.
      steps_per_epoch: of the epochs that the config names, which are the run's own or
        stretched to its length (`run.progress.run_length`); may be fractional.
      total_steps: the length of the run.
    """
    base = config['learning_rate']
    name = config['schedule']

    def progress(step: Array) -> Array:
        return jnp.clip(step / total_steps, 0.0, 1.0)

    def constant(step: Array, plateau: Plateau) -> Array:
        return jnp.asarray(base, jnp.float32)

    def by_plateau(step: Array, plateau: Plateau) -> Array:
        return base * jnp.float32(config['plateau']['factor']) ** plateau.cuts

    def by_steps(step: Array, plateau: Plateau) -> Array:
        boundaries = [round(e * steps_per_epoch) for e in config['steps']['epochs']]
        cuts = jnp.sum(step >= jnp.asarray(boundaries))
        return base * jnp.float32(config['steps']['factor']) ** cuts

    def cosine(step: Array, plateau: Plateau) -> Array:
        return base * 0.5 * (1.0 + jnp.cos(jnp.pi * progress(step)))

    def dexp(step: Array, plateau: Plateau) -> Array:
        quarters = config['dexp']['quarters']
        quarter = jnp.minimum(jnp.floor(progress(step) * quarters), quarters - 1)
        return base * jnp.float32(config['dexp']['factor']) ** -(
            quarter / (quarters - 1)
        )

    return {
        'constant': constant,
        'plateau': by_plateau,
        'steps': by_steps,
        'cosine': cosine,
        'dexp': dexp,
    }[name]


def create_optimizer(
    config: Mapping[str, Any], *, steps_per_epoch: float
) -> optax.GradientTransformationExtraArgs:
    """Builds the 2012 update; its `update` takes `learning_rate=` and `step=`.

    Kernels decay, biases do not (as in the released source). A kernel's rate is the
    schedule's and a bias's `bias_rate` times it, both times the layer's multiplier of
    that epoch.

    Args:
      config: the keys of `config.optimizer`.
      steps_per_epoch: of the epochs that the config names, which are the run's own or
        stretched to its length (`run.progress.run_length`); may be fractional.
    """
    return optax.chain(
        _decay_kernels(config['weight_decay'], dict(config['layer_decays'])),
        # One transformation rather than a partition into groups: the momentum is then
        # one tree with the parameters' own names.
        _scale_by_rates(config, steps_per_epoch),
        optax.trace(decay=config['momentum']),
        _hold_frozen(config, steps_per_epoch),
    )


def rate_multiplier(
    config: Mapping[str, Any], layer: str, name: str, epoch: ArrayLike
) -> ArrayLike:
    """What a parameter's rate is multiplied by: the latest `layer_rates` for it, or 1.

    An entry is for a layer, `conv1`, or one of its parameters, `conv1/kernel`.
    """
    multiplier: ArrayLike = 1.0
    for target, since, value in config['layer_rates']:  # in order of time
        if target in (layer, f'{layer}/{name}'):
            multiplier = jnp.where(epoch >= since, value, multiplier)
    return multiplier


def _decay_kernels(
    decay: float, layer_decays: Mapping[str, float]
) -> optax.GradientTransformation:
    def update(
        updates: optax.Updates, state: optax.OptState, params: Any = None
    ) -> tuple[optax.Updates, optax.OptState]:
        def decayed(path: jax.tree_util.KeyPath, update: Array, param: Array) -> Array:
            layer, name = (entry.key for entry in path)  # pyrefly: ignore
            if name == 'bias':
                return update
            return update + layer_decays.get(layer, decay) * param

        return jax.tree_util.tree_map_with_path(decayed, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _scale_by_rates(
    config: Mapping[str, Any], steps_per_epoch: float
) -> optax.GradientTransformationExtraArgs:
    """Multiplies by −rate, the rate given to each update rather than counted here.

    optax's own schedules keep a step count of their own; the plateau rule needs the
    validation error besides, and one count in the training state is enough.
    """

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        learning_rate = extra['learning_rate']
        epoch = extra['step'] / steps_per_epoch
        bias_schedule = learning_rate
        if not config['bias_annealed']:
            cuts = sum((epoch >= cut) * 1.0 for cut in config['bias_cuts'])
            bias_schedule = config['learning_rate'] * 0.1**cuts

        def scaled(path: jax.tree_util.KeyPath, update: Array) -> Array:
            layer, name = (entry.key for entry in path)  # pyrefly: ignore
            rate = learning_rate
            if name == 'bias':
                rate = bias_schedule * config['bias_rate']
            return -rate * rate_multiplier(config, layer, name, epoch) * update

        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update
    )


def _hold_frozen(
    config: Mapping[str, Any], steps_per_epoch: float
) -> optax.GradientTransformationExtraArgs:
    """Stops a layer whose multiplier is 0 at once, whatever its velocity.

    The released source skips the update of weights whose rate is 0.
    """

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        epoch = extra['step'] / steps_per_epoch

        def held(path: jax.tree_util.KeyPath, update: Array) -> Array:
            layer, name = (entry.key for entry in path)  # pyrefly: ignore
            moves = rate_multiplier(config, layer, name, epoch)
            return jnp.where(jnp.asarray(moves) == 0, 0.0, update)

        return jax.tree_util.tree_map_with_path(held, updates), state

    return optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update
    )
