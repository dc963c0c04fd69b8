"""The compiled steps, the whole network under one shard_map.

Randomness is drawn outside the shard_map as a function of (seed, step, global
position), never of a device, and the loss that is differentiated is already the mean
over the global batch: so every mesh computes the same numbers.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alexnet_jax import metrics, randomness
from alexnet_jax.cpu import compiler_options
from alexnet_jax.layers import sum_of_squares
from alexnet_jax.mesh import (
    DATA,
    TOWER,
    P,
    batch_sharding,
    parameter_specs,
    replicated,
)
from alexnet_jax.model import (
    Network,
    Params,
    dropout_rate,
    dropout_shapes,
    merge,
)
from alexnet_jax.optimizer import LearningRate
from alexnet_jax.train_state import TrainState

Array = jax.Array
Batch = Mapping[str, Array]

# (state, batch, mean) → (state, metrics)
TrainStep = Callable[[TrainState, Batch, Array], tuple[TrainState, dict[str, Array]]]

# What multiplies the pixels less the mean: one number, or three of R, G and B.
Scale = float | Sequence[float]

# One view of an evaluated image: the crop's row and column, and whether mirrored.
View = tuple[int, int, bool]


def draw_masks(
    network: Network, key: Array, batch_size: int, mesh: Mesh
) -> dict[str, Array]:
    """Draws the dropout masks of one step, bool[B, N] by layer, split over the mesh.

    The generator is partitionable: each device makes its own part of one global mask,
    the same on any mesh.
    """
    masks = {}
    for name, shape in dropout_shapes(network).items():
        layer = next(layer for layer in network.layers if layer.name == name)
        mask = jax.random.bernoulli(
            randomness.named(key, name),
            1.0 - dropout_rate(layer),
            (batch_size, *shape),
        )
        masks[name] = jax.lax.with_sharding_constraint(
            mask, NamedSharding(mesh, _mask_spec(shape))
        )
    return masks


def _mask_spec(shape: tuple[int, ...]) -> PartitionSpec:
    return P(DATA, *[None] * (len(shape) - 1), TOWER)


def batch_shapes(batch_size: int, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """What a training batch holds; `make_train_step` says what each part is for."""
    return {
        'image': jax.ShapeDtypeStruct((batch_size, size, size, 3), jnp.uint8),
        'label': jax.ShapeDtypeStruct((batch_size,), jnp.int32),
        'colour_shift': jax.ShapeDtypeStruct((batch_size, 3), jnp.float32),
        'gain': jax.ShapeDtypeStruct((batch_size,), jnp.float32),
        'corner': jax.ShapeDtypeStruct((batch_size, 2), jnp.int32),
        'mirrored': jax.ShapeDtypeStruct((batch_size,), jnp.bool_),
    }


def make_train_step(
    network: Network,
    tx: optax.GradientTransformationExtraArgs,
    learning_rate: LearningRate,
    mesh: Mesh,
    seed: int,
    scale: Scale = 1.0,
) -> TrainStep:
    """Compiles one update.

    Args:
      network: whose parameters the state has.
      tx: see `optimizer.create_optimizer`.
      learning_rate: see `optimizer.create_learning_rate_schedule`.
      mesh: the devices.
      seed: of the dropout masks.
      scale: multiplies the pixels less the mean; one number, or three of R, G and B.

    Returns:
      (state, batch, mean) → (state, metrics). `batch` has `image: u8[B, S, S, 3]`
      (crops), `label: i32[B]`, `colour_shift: f32[B, 3]` in grey levels, `gain: f32[B]`
      that multiplies image and shift, and `corner: i32[B, 2]` and `mirrored: bool[B]`
      of the crops; for `mean` see `subtract_mean`. The state is donated: its buffers
      are gone after the call. The metrics are `sums` (f32[4], of
      `metrics.example_sums`), `learning_rate` and `squared_norms` (f32[tower, 3]: each
      tower's share of the squared norms of gradient, parameters and update).
    """
    specs = parameter_specs(network)
    shapes = dropout_shapes(network)
    dropout_key = randomness.key(seed, 'dropout')
    factor = scale_factor(scale)

    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(
            specs,
            P(DATA),
            P(),
            {name: _mask_spec(shape) for name, shape in shapes.items()},
        ),
        out_specs=(specs, P()),
    )
    def gradients(
        params: Params, batch: Batch, mean: Array, masks: dict[str, Array]
    ) -> tuple[Params, Array]:
        def loss_of(params: Params) -> tuple[Array, Array]:
            # This says that each device along `data` has a gradient of its own. The
            # gradients are then reduced as they are kept: once each, and without the
            # zeros that conv1 pads its kernel with.
            params = jax.lax.pcast(params, DATA, to='varying')
            images = subtract_mean(
                batch['image'], mean, batch['corner'], batch['mirrored']
            )
            images += batch['colour_shift'][:, None, None, :]
            images *= factor * batch['gain'][:, None, None, None]
            logits = merge(network, params)(images, masks, TOWER)
            log_probs = jax.nn.log_softmax(logits)
            ones = jnp.ones(batch['label'].shape, jnp.float32)
            sums = jax.lax.psum(
                metrics.example_sums(log_probs, batch['label'], ones), DATA
            )
            # Already the global mean: under shard_map's check_vma the gradient of a
            # repeated parameter is summed over the devices by itself, and averaging
            # gradients again would scale them by the number of devices.
            return sums[0] / sums[-1], sums

        return jax.grad(loss_of, has_aux=True)(params)

    @functools.partial(
        jax.shard_map, mesh=mesh, in_specs=(specs, specs, specs), out_specs=P(TOWER)
    )
    def squared_norms(*trees: Params) -> Array:
        # Left per tower and added on the host, so that no device waits for a sum that
        # only the log wants. What every tower device holds counts once in all.
        def share(leaf: Array, spec: PartitionSpec) -> Array:
            copies = 1 if TOWER in spec else mesh.shape[TOWER]
            return sum_of_squares(leaf) / copies

        return jnp.stack(
            [sum(jax.tree.leaves(jax.tree.map(share, tree, specs))) for tree in trees]
        )[None]

    @functools.partial(jax.jit, donate_argnums=0, compiler_options=options_for(mesh))
    def train_step(
        state: TrainState, batch: Batch, mean: Array
    ) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(dropout_key, state.step)
        masks = draw_masks(network, key, len(batch['label']), mesh)
        grads, sums = gradients(state.params, batch, mean, masks)
        rate = learning_rate(state.step, state.plateau)
        updates, opt_state = tx.update(
            grads,
            state.opt_state,
            state.params,
            learning_rate=rate,
            step=state.step,
        )
        new_state = dataclasses.replace(
            state,
            step=state.step + 1,
            params=jax.tree.map(jnp.add, state.params, updates),
            opt_state=opt_state,
        )
        return new_state, {
            'sums': sums,
            'learning_rate': rate,
            'squared_norms': squared_norms(grads, state.params, updates),
        }

    return train_step


def lower_train_step(
    train_step: TrainStep,
    abstract_state: TrainState,
    batch_size: int,
    size: int,
    mesh: Mesh,
    mean: Array | jax.ShapeDtypeStruct,
) -> jax.stages.Lowered:
    """Traces a train step for the shapes and shardings of a run, before it has any.

    Args:
      train_step: of `make_train_step`.
      abstract_state: of `abstract_train_state`.
      batch_size: of all devices.
      size: side of the crops, pixels.
      mesh: the devices.
      mean: as the run will give it.
    """
    sharding = batch_sharding(mesh)
    batch = {
        name: jax.ShapeDtypeStruct(part.shape, part.dtype, sharding=sharding)
        for name, part in batch_shapes(batch_size, size).items()
    }
    return train_step.lower(abstract_state, batch, mean)  # pyrefly: ignore


def options_for(mesh: Mesh) -> dict[str, str]:
    """The compiler's options on the platform of a mesh."""
    return compiler_options(mesh.devices.flat[0].platform)


def scale_factor(scale: Scale) -> float | Array:
    """What crops less their mean, [..., 3], are multiplied by."""
    if isinstance(scale, Sequence):
        return jnp.asarray(scale, jnp.float32)
    return scale


def subtract_mean(images: Array, mean: Array, corner: Array, mirrored: Array) -> Array:
    """Takes the mean image away from crops, as 2012 did or as Caffe does.

    Args:
      images: u8[B, S, S, 3].
      mean: f32[S, S, 3], taken from every crop wherever it lies (2012: the centre of
        the mean image); or the whole, f32[1, stored, stored, 3], whose part under the
        crop is taken, mirrored with it (Caffe).
      corner: i32[B, 2], row and column of each crop.
      mirrored: bool[B].
    """
    if mean.ndim == 3:
        return images.astype(jnp.float32) - mean
    size, whole = images.shape[1], mean[0]

    def part(corner: Array, mirrored: Array) -> Array:
        crop = jax.lax.dynamic_slice(whole, (*corner, 0), (size, size, 3))
        return jnp.where(mirrored, crop[:, ::-1], crop)

    return images.astype(jnp.float32) - jax.vmap(part)(corner, mirrored)


def make_predict_step(
    network: Network, mesh: Mesh, views: Sequence[View], scale: Scale = 1.0
) -> Callable[[Params, Array, Array], Array]:
    """Compiles the prediction of one batch.

    The probabilities of the views are averaged (§4.1, and the released source).

    Args:
      network: whose parameters will be given.
      mesh: the devices.
      views: the crops of each image; one for the centre, ten for the paper's numbers.
      scale: multiplies the pixels less the mean, as in training.

    Returns:
      (params, images, mean) → f32[B, classes], the logarithms of the averaged
      probabilities. `images` is u8[B, stored, stored, 3]; for `mean` see
      `subtract_mean`.
    """
    factor = scale_factor(scale)

    @functools.partial(jax.jit, compiler_options=options_for(mesh))
    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(parameter_specs(network), P(DATA), P()),
        out_specs=P(DATA),
    )
    def predict(params: Params, images: Array, mean: Array) -> Array:
        def of_view(view: tuple[Array, Array, Array]) -> Array:
            crops = factor * crops_of(images, mean, view, network.image_size)
            return jax.nn.log_softmax(merge(network, params)(crops, tower_axis=TOWER))

        # One after another: unrolled, XLA overlaps them and needs the memory of seven.
        of_views = jax.lax.map(of_view, stacked(views))
        return jax.nn.logsumexp(of_views, axis=0) - jnp.log(len(views))

    return predict


def stacked(views: Sequence[View]) -> tuple[Array, Array, Array]:
    """Rows, columns and mirrors of all views, one array each."""
    rows, columns, mirrored = map(jnp.array, zip(*views, strict=True))
    return rows, columns, mirrored


def crops_of(
    images: Array, mean: Array, view: tuple[Array, Array, Array], size: int
) -> Array:
    """One view of each image less the mean, f32[B, size, size, 3]."""
    row, column, mirrored = view
    count, *_, channels = images.shape
    corners = jnp.tile(jnp.stack([row, column]), (count, 1))
    crops = jax.lax.dynamic_slice(
        images, (0, row, column, 0), (count, size, size, channels)
    )
    crops = jnp.where(mirrored, crops[:, :, ::-1], crops)
    return subtract_mean(crops, mean, corners, jnp.repeat(mirrored, count))


def make_eval_step(
    network: Network, mesh: Mesh, views: Sequence[View], scale: Scale = 1.0
) -> Callable[[Params, Batch, Array], Array]:
    """Compiles the evaluation of one batch; arguments as for `make_predict_step`.

    Returns:
      (params, batch, mean) → f32[4, B], `metrics.example_rows`. `batch` has
      `image: u8[B, stored, stored, 3]`, `label: i32[B]` and `mask: f32[B]`.
    """
    # Not one program: compiled together, the probabilities could be rounded otherwise
    # than those of the prediction, and a run's errors otherwise than its evaluation's.
    predict = make_predict_step(network, mesh, views, scale)
    rows = jax.jit(metrics.example_rows, out_shardings=replicated(mesh))

    def eval_step(params: Params, batch: Batch, mean: Array) -> Array:
        log_probs = predict(params, batch['image'], mean)
        return rows(log_probs, batch['label'], batch['mask'])

    return eval_step
