"""What a run shows of its parameters: histograms, and conv1's kernels as a picture."""

import jax
import numpy as np

from alexnet_jax import figures
from alexnet_jax import mesh as mesh_lib
from alexnet_jax.model import Network, Params
from alexnet_jax.run import writers


def show_parameters(
    params: Params, network: Network, now: int, writer: writers.MetricWriter
) -> None:
    """Writes the histograms of every parameter and the picture of the first kernels."""
    on_host = jax.tree.map(mesh_lib.to_host, params)
    values = {
        f'{layer}/{name}': value
        for layer, weights in on_host.items()
        for name, value in weights.items()
    }
    writer.histograms(now, values)
    writer.images(now, {'conv1_kernels': first_kernels(params, network)[None]})


def first_kernels(params: Params, network: Network) -> np.ndarray:
    """The picture of the first layer's kernels, u8[H, W, 3]; all processes call it."""
    kernels = mesh_lib.to_host(params[network.layers[0].name]['kernel'])
    return figures.kernel_grid(kernels, network.towers)
