"""The training state: what a run carries from step to step, and where it lies."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct
from jax.sharding import Mesh, NamedSharding

from alexnet_jax import randomness
from alexnet_jax.cpu import quick_compiler_options
from alexnet_jax.mesh import parameter_specs, replicated
from alexnet_jax.model import AlexNet, Network, Params, layer_shapes
from alexnet_jax.optimizer import Plateau, initial_plateau, update_plateau

Array = jax.Array


@struct.dataclass
class TrainState:
    """All that a run carries from one step to the next."""

    step: Array  # i32[], updates done
    params: Params
    opt_state: optax.OptState
    plateau: Plateau


def take_validation_error(
    state: TrainState, error: float, rule: Mapping[str, Any]
) -> TrainState:
    """Takes one validation error into the plateau rule; other schedules ignore it.

    Args:
      state: whose `plateau` the next steps read.
      error: a fraction.
      rule: `config.optimizer.plateau`.
    """
    plateau = update_plateau(
        jax.device_get(state.plateau),
        error,
        patience=rule['patience'],
        threshold=rule['threshold'],
        max_cuts=rule['max_cuts'],
    )
    placed = jax.tree.map(
        lambda new, old: jax.device_put(new, old.sharding), plateau, state.plateau
    )
    return dataclasses.replace(state, plateau=placed)


def create_train_state(
    network: Network,
    tx: optax.GradientTransformationExtraArgs,
    mesh: Mesh,
    seed: int,
) -> TrainState:
    """Draws the initial parameters, each device making only its own part."""
    make = functools.partial(_new_state, network, tx)
    shardings = _state_shardings(network, tx, mesh)
    key = randomness.key(seed, 'parameters')
    options = quick_compiler_options(mesh.devices.flat[0].platform)
    return jax.jit(make, out_shardings=shardings, compiler_options=options)(key)


def abstract_train_state(
    network: Network, tx: optax.GradientTransformationExtraArgs, mesh: Mesh
) -> TrainState:
    """The state's shapes, dtypes and shardings, to restore a checkpoint into."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding
        ),
        _state_shapes(network, tx),
        _state_shardings(network, tx, mesh),
    )


def initial_params(network: Network, seed: int) -> Params:
    """The parameters with which a run of this seed begins, on one device."""
    make = jax.jit(functools.partial(_new_params, network))
    return make(randomness.key(seed, 'parameters'))


def abstract_params(network: Network, mesh: Mesh) -> Params:
    """The parameters' shapes, dtypes and shardings, without the rest of a state."""
    specs = parameter_specs(network)
    return {
        layer.name: {
            name: jax.ShapeDtypeStruct(
                shape,
                jnp.float32,
                sharding=NamedSharding(mesh, specs[layer.name][name]),
            )
            for name, shape in (('kernel', layer.kernel), ('bias', layer.bias))
        }
        for layer in layer_shapes(network)
    }


def _new_params(network: Network, key: Array) -> Params:
    _, weights = nnx.split(AlexNet(network, rngs=nnx.Rngs(key)))
    return nnx.to_pure_dict(weights)


def _new_state(
    network: Network, tx: optax.GradientTransformationExtraArgs, key: Array
) -> TrainState:
    params = _new_params(network, key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=tx.init(params),
        plateau=jax.tree.map(jnp.asarray, initial_plateau()),
    )


def _state_shapes(
    network: Network, tx: optax.GradientTransformationExtraArgs
) -> TrainState:
    return jax.eval_shape(
        functools.partial(_new_state, network, tx), jax.eval_shape(jax.random.key, 0)
    )


def _state_shardings(
    network: Network, tx: optax.GradientTransformationExtraArgs, mesh: Mesh
) -> TrainState:
    """A parameter's momentum lies where it does; the rest is on every device."""
    specs = parameter_specs(network)

    def sharding(path: jax.tree_util.KeyPath, _: Any) -> NamedSharding:
        match [getattr(entry, 'key', None) for entry in path[-2:]]:
            case [layer, name] if layer in specs and name in specs[layer]:
                return NamedSharding(mesh, specs[layer][name])
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(sharding, _state_shapes(network, tx))
