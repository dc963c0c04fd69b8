"""The compiled activations: what the network makes of images, at any of its taps."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from alexnet_jax.mesh import DATA, TOWER, P, parameter_specs
from alexnet_jax.model import Network, Params, layer_shapes, merge
from alexnet_jax.step import (
    Scale,
    View,
    crops_of,
    options_for,
    scale_factor,
    stacked,
)

Array = jax.Array


def make_activations_step(
    network: Network,
    mesh: Mesh,
    views: Sequence[View],
    taps: Sequence[str],
    scale: Scale = 1.0,
) -> Callable[[Params, Array, Array], dict[str, Array]]:
    """Compiles the activations of one batch, each the mean over the views.

    Args:
      network: whose parameters will be given.
      mesh: the devices.
      views: see `make_predict_step`.
      taps: some of `network.taps`.
      scale: multiplies the pixels less the mean, as in training.

    Returns:
      (params, images, mean) → f32[B, …] by tap, the channels of all towers last;
      arguments as of `make_predict_step`.
    """
    factor = scale_factor(scale)
    last = network.layers[-1].name

    def lies(tap: str) -> tuple[str, ...]:
        return (DATA,) if tap.split('/')[0] == last else (DATA, TOWER)

    ranks = {
        f'{shape.name}/{made}': len(shape.linear)
        for layer, shape in zip(network.layers, layer_shapes(network), strict=True)
        for made in layer.makes
    } | {shape.name: len(shape.output) for shape in layer_shapes(network)}
    specs = {tap: P(DATA, *[None] * (ranks[tap] - 1), *lies(tap)[1:]) for tap in taps}

    @functools.partial(jax.jit, compiler_options=options_for(mesh))
    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(parameter_specs(network), P(DATA), P()),
        out_specs=specs,
    )
    def activations(params: Params, images: Array, mean: Array) -> dict[str, Array]:
        def of_view(view: tuple[Array, Array, Array]) -> dict[str, Array]:
            crops = factor * crops_of(images, mean, view, network.image_size)
            made = merge(network, params).activations(crops, tower_axis=TOWER)
            return {tap: made[tap].astype(jnp.float32) for tap in taps}

        def add(
            total: dict[str, Array], view: tuple[Array, Array, Array]
        ) -> tuple[dict[str, Array], None]:
            return jax.tree.map(jnp.add, total, of_view(view)), None

        of_all = stacked(views)
        shapes = jax.eval_shape(of_view, jax.tree.map(lambda v: v[0], of_all))
        zeros = {
            tap: jax.lax.pcast(jnp.zeros(shape.shape), lies(tap), to='varying')
            for tap, shape in shapes.items()
        }
        # Added up, not stacked: conv1's output of ten views is 1.5 GB at batch 128.
        total, _ = jax.lax.scan(add, zeros, of_all)
        return {tap: value / len(views) for tap, value in total.items()}

    return activations
