"""What lies between the layers: any step's output, by its name, of many images.

`conv1/linear` is a layer's weighted sum, `conv1/lrn` the output of one of its steps,
and `conv1` that of the whole layer (`AlexNet.activations`).
"""

import difflib
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from alexnet_jax import step as step_lib
from alexnet_jax.mesh import DATA, TOWER, Mesh, P, parameter_specs
from alexnet_jax.model import Network, Params, Shape, layer_shapes, merge

Array = jax.Array
Taps = dict[str, Array]


def shapes(network: Network) -> dict[str, Shape]:
    """Every tap in order with its shape for one image: (H, W, C) or (N,).

    The channels lie tower after tower, as in the kernels.
    """
    found = {}
    for layer, shape in zip(network.layers, layer_shapes(network), strict=True):
        x = found[f'{layer.name}/linear'] = shape.linear
        for name, step in layer.named_steps():
            x = found[f'{layer.name}/{name}'] = step.output(x)
        found[layer.name] = x
    return found


def check(network: Network, taps: Sequence[str]) -> dict[str, Shape]:
    """The shapes of the taps that are named.

    Raises:
      ValueError: there is no such tap, or one is named twice.
    """
    known = shapes(network)
    for tap in taps:
        if tap not in known:
            layer = tap.partition('/')[0]
            near = difflib.get_close_matches(tap, known, n=1, cutoff=0.0)
            inside = [name for name in known if name.split('/')[0] == layer]
            raise ValueError(
                f'the network has no {tap!r}; '
                + (
                    f'{layer} has {", ".join(inside)}'
                    if inside
                    else f'its layers are {", ".join(x.name for x in network.layers)}, '
                    f'and the nearest name is {near[0]}'
                )
            )
    if twice := [tap for tap in taps if list(taps).count(tap) > 1]:
        raise ValueError(f'{twice[0]!r} is named twice')
    return {tap: known[tap] for tap in taps}


def last_hidden(network: Network) -> str:
    """The layer whose output the classes are read from; fc7 in the paper (Figure 4)."""
    return network.layers[-2].name


def make_tap_step(
    network: Network,
    mesh: Mesh,
    taps: Sequence[str],
    views: Sequence[step_lib.View],
    scale: float = 1.0,
) -> Callable[[Params, Array, Array], Taps]:
    """Compiles the taps of one batch, all in one pass.

    Args:
      network: whose parameters will be given.
      mesh: the devices.
      taps: names, see `shapes`.
      views: the crops of each image, over which a tap's values are averaged.
      scale: multiplies the pixels less the mean, as in training.

    Returns:
      (params, images, mean) → by tap, f32[B, …]. `images` is u8[B, stored, stored, 3];
      for `mean` see `step.subtract_mean`.

    Raises:
      ValueError: a tap is not one of the network's.
    """
    specs = {
        # The last layer's sums are whole on every device, its channels no tower's.
        tap: P(DATA)
        if tap.split('/')[0] == network.layers[-1].name
        else P(DATA, *[None] * (len(shape) - 1), TOWER)
        for tap, shape in check(network, taps).items()
    }

    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(parameter_specs(network), P(DATA), P(), P()),
        out_specs=specs,
    )
    def of_view(
        params: Params, images: Array, mean: Array, view: tuple[Array, Array, Array]
    ) -> Taps:
        crops = step_lib.take_view(images, mean, view, network.image_size)
        made = merge(network, params).activations(scale * crops, tower_axis=TOWER)
        return {tap: made[tap].astype(jnp.float32) for tap in taps}

    compiled = jax.jit(of_view, compiler_options=step_lib.options_for(mesh))
    add = jax.jit(functools.partial(jax.tree.map, jnp.add), donate_argnums=0)

    def step(params: Params, images: Array, mean: Array) -> Taps:
        # One after another: ten views of the first maps would fill the memory.
        total: Taps = {}
        for row, column, mirrored in views:
            view = jnp.array(row), jnp.array(column), jnp.array(mirrored)
            made = compiled(params, images, mean, view)
            total = add(total, made) if total else made
        return {
            tap: x / len(views) if len(views) > 1 else x for tap, x in total.items()
        }

    return step
