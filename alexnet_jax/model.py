"""AlexNet: a table of layers, built and applied in the paper's order (§3).

The network is data. `network_from_config` reads the table of `config.model` into a
`Network`; `AlexNet` holds the parameters of one and applies it. Every variant in
`configs/` is another table of this one module.

A layer says whose output it reads. `'own'`: its own tower's. `'all'`: every tower's,
which is where the two GPUs of 2012 talked (conv3, fc6, fc7, fc8). `'image'`: the
input, which every device has. On a mesh with a device per tower an `'all'` layer
gathers the channels first, except the last, which is split over its *input* and adds
up the logits instead, so that any number of classes works. No other layer communicates,
but for Caffe's merged net, whose response norm reaches across the seam.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from alexnet_jax import layers, randomness

Array = jax.Array
Shape = tuple[int, ...]
Params = dict[str, dict[str, Any]]  # by layer, then `kernel` and `bias`

# What a layer may do after its own weights are applied, in the order its table says.
STEPS = ('activation', 'lrn', 'spatial_norm', 'pool', 'avg_pool', 'dropout')


@dataclasses.dataclass(frozen=True)
class Layer:
    """One row of the table; the last layer's `features` is the number of classes."""

    name: str
    kind: str  # 'conv', 'local' (a kernel for every position) or 'dense'
    features: int
    reads: str  # 'image', 'own' or 'all'
    init_std: float
    init_bias: float
    steps: tuple[str, ...]
    kernel: int = 0  # pixels
    stride: int = 1
    padding: layers.Padding = ((0, 0), (0, 0))
    lrn: bool = False
    spatial_norm: bool = False
    dropout: float = 0.0


@dataclasses.dataclass(frozen=True)
class Network:
    """The whole table: what `AlexNet` needs to be built for one image size."""

    layers: tuple[Layer, ...]
    towers: int
    activation: str
    image_size: int
    dropout_scaling: str
    lrn: Mapping[str, Any]  # size, k, alpha, beta; empty if no layer has it
    lrn_across_towers: bool
    spatial_norm: Mapping[str, Any]  # likewise
    pool: Mapping[str, Any]  # size, stride
    compute_dtype: str

    def __hash__(self) -> int:
        return hash(repr(self))


@dataclasses.dataclass(frozen=True)
class LayerShape:
    """What one layer holds and makes, in the whole (merged) view."""

    name: str
    kernel: Shape
    bias: Shape
    linear: Shape  # the weighted sum's output, without the batch: (H, W, C) or (N,)
    output: Shape  # after all steps
    mask: Shape | None  # of its dropout, if it has any

    @property
    def parameters(self) -> int:
        return math.prod(self.kernel) + math.prod(self.bias)

    @property
    def multiply_adds(self) -> int:
        """Per image: each position of the output uses the whole kernel once.

        A locally connected kernel has the positions among its own axes.
        """
        positions = 1 if len(self.kernel) == 6 else math.prod(self.linear[:-1])
        return math.prod(self.kernel) * positions


def network_from_config(
    table: Mapping[str, Any], image_size: int, num_classes: int
) -> Network:
    """Reads a network from `config.model` (a ConfigDict or plain nested dicts).

    Args:
      table: the keys of `configs/paper.py`'s `config.model`.
      image_size: side of the (square) crop that the network sees, pixels.
      num_classes: outputs of the last layer.

    Raises:
      ValueError: the table does not make a network: towers that do not divide the
        widths, a layer larger than its input, and the like.
    """
    rows = []
    for name in table['layers']:
        row = dict(table[name])
        last = name == table['layers'][-1]
        if last:
            row['features'] = num_classes
        else:
            row['features'] = scaled_width(
                row['features'], table['width'], table['towers']
            )
        if row['kind'] != 'dense':
            row['padding'] = tuple(tuple(pair) for pair in row['padding'])
        row['steps'] = tuple(row['steps'])
        rows.append(Layer(name=name, **row))
    # Only a net with such layers has these tables.
    lrn = dict(table['lrn']) if 'lrn' in table else {'across_towers': False}
    across_towers = lrn.pop('across_towers')
    spatial_norm = dict(table['spatial_norm']) if 'spatial_norm' in table else {}
    network = Network(
        layers=tuple(rows),
        towers=table['towers'],
        activation=table['activation'],
        image_size=image_size,
        dropout_scaling=table['dropout_scaling'],
        lrn_across_towers=across_towers,
        lrn=lrn,
        spatial_norm=spatial_norm,
        pool=dict(table['pool']),
        compute_dtype=table['compute_dtype'],
    )
    layer_shapes(network)
    return network


def scaled_width(features: int, width: float, towers: int) -> int:
    """Multiplies a layer's features by `width`, to a whole number per tower."""
    if width == 1.0:
        return features
    return max(1, round(features * width / towers)) * towers


def layer_shapes(network: Network) -> tuple[LayerShape, ...]:
    """Kernels and outputs of every layer in order.

    Raises:
      ValueError: the network cannot be built; the message names the layer.
    """
    shapes = []
    x: Shape = (network.image_size, network.image_size, 3)
    for layer in network.layers:
        last = layer is network.layers[-1]
        if (layer is network.layers[0]) != (layer.reads == 'image'):
            raise ValueError(
                f'model.{layer.name}.reads={layer.reads!r}: the first layer reads '
                "'image' and no other does"
            )
        if not last and layer.features % network.towers:
            raise ValueError(
                f'model.{layer.name}.features={layer.features} is not divisible by '
                f'model.towers={network.towers}'
            )
        groups = network.towers if layer.reads == 'own' else 1
        if layer.kind == 'dense':
            inputs = math.prod(x)
            kernel: Shape = (inputs // (1 if last else groups), layer.features)
            bias: Shape = (layer.features,)
            linear: Shape = (layer.features,)
        else:
            if last or len(x) == 1:
                raise ValueError(
                    f'model.{layer.name}: a convolution needs maps to read and a '
                    'dense layer somewhere after it'
                )
            rows, columns = (
                (extent + sum(pad) - layer.kernel) // layer.stride + 1
                for extent, pad in zip(x, layer.padding, strict=False)
            )
            kernel = (layer.kernel, layer.kernel, x[-1] // groups, layer.features)
            bias = (layer.features,)
            linear = (rows, columns, layer.features)
            if layer.kind == 'local':
                kernel, bias = (rows, columns, *kernel), linear
        x, mask = linear, None
        for step in layer.steps:
            if step in ('pool', 'avg_pool'):
                x = _pooled(network, layer, x)
            elif step == 'dropout' and layer.dropout > 0:
                mask = x
        if min(x) < 1:
            raise ValueError(
                f'model.{layer.name}: its input is too small for its kernel or pool '
                f'(images are {network.image_size} × {network.image_size})'
            )
        shapes.append(LayerShape(layer.name, kernel, bias, linear, x, mask))
    return tuple(shapes)


def _pooled(network: Network, layer: Layer, x: Shape) -> Shape:
    if len(x) == 1:
        raise ValueError(f'model.{layer.name}: a dense layer has no maps to pool')
    size, stride = network.pool['size'], network.pool['stride']
    if min(x[:2]) < size:
        return 0, 0, x[2]
    rows, columns = (layers.pooled_extent(extent, size, stride) for extent in x[:2])
    return rows, columns, x[2]


def dropout_shapes(network: Network) -> dict[str, Shape]:
    """The mask (without its batch) of each layer that drops units."""
    return {shape.name: shape.mask for shape in layer_shapes(network) if shape.mask}


class Weights(nnx.Module):
    """The kernel and the bias of one layer, float32."""

    def __init__(self, layer: Layer, shape: LayerShape, key: Array):
        self.kernel = nnx.Param(layers.gaussian(key, shape.kernel, layer.init_std))
        self.bias = nnx.Param(jnp.full(shape.bias, layer.init_bias, jnp.float32))


class AlexNet(nnx.Module):
    """The network of one table, its parameters under the names of the layers.

    The parameter tree is the same on every mesh: convolution kernels are HWIO of the
    grouped network (conv2 is [5, 5, 48, 256], its first 128 maps tower 0's).
    """

    def __init__(self, network: Network, *, rngs: nnx.Rngs):
        self.network = network
        key = rngs.params()
        for layer, shape in zip(network.layers, layer_shapes(network), strict=True):
            # Keyed by name, so that an ablation that drops a layer leaves the initial
            # weights of the others as they were.
            layer_key = randomness.named(key, layer.name)
            setattr(self, layer.name, Weights(layer, shape, layer_key))

    def __call__(
        self,
        images: Array,
        masks: Mapping[str, Array] | None = None,
        tower_axis: str | None = None,
    ) -> Array:
        """Computes the logits.

        Args:
          images: f32[B, S, S, 3], RGB at the 0–255 scale less the mean.
          masks: for training, bool[B, ...] per layer of `dropout_shapes`, True for
            the units kept; this device's part of them. None evaluates.
          tower_axis: the mesh axis over which the towers are spread, inside
            `jax.shard_map`; None when this device holds the whole network.

        Returns:
          f32[B, classes].
        """
        return self.activations(images, masks, tower_axis)[self.network.layers[-1].name]

    def activations(
        self,
        images: Array,
        masks: Mapping[str, Array] | None = None,
        tower_axis: str | None = None,
    ) -> dict[str, Array]:
        """Every layer's output by name, in order; arguments as for a call."""
        outputs = {}
        x = images.astype(self.network.compute_dtype)
        for layer in self.network.layers:
            x = outputs[layer.name] = self.apply_layer(layer, x, masks, tower_axis)
        return outputs

    def apply_layer(
        self,
        layer: Layer,
        x: Array,
        masks: Mapping[str, Array] | None = None,
        tower_axis: str | None = None,
    ) -> Array:
        """One layer's output from its input; other arguments as for a call."""
        x = self._linear(layer, x, tower_axis)
        return self._steps(layer, x, masks, tower_axis)

    def _towers_here(self, tower_axis: str | None) -> int:
        devices = lax.axis_size(tower_axis) if tower_axis else 1
        return self.network.towers // devices

    def _linear(self, layer: Layer, x: Array, tower_axis: str | None) -> Array:
        weights: Weights = getattr(self, layer.name)
        kernel = weights.kernel[...].astype(x.dtype)
        bias = weights.bias[...]
        towers = self._towers_here(tower_axis)
        if layer.kind == 'dense':
            x = layers.flatten(x, towers=towers)
        if layer is self.network.layers[-1]:
            # Each device has the rows of the kernel that its own tower's features meet.
            logits = layers.dense(x, kernel).astype(jnp.float32)
            logits = lax.psum(logits, tower_axis) if tower_axis else logits
            return layers.add_bias(logits, bias)
        if layer.reads == 'all' and tower_axis and lax.axis_size(tower_axis) > 1:
            x = lax.all_gather(x, tower_axis, axis=x.ndim - 1, tiled=True)
        groups = towers if layer.reads == 'own' else 1
        if layer.kind == 'dense':
            y = layers.dense(x, kernel, towers=groups)
        else:
            convolve = layers.conv2d if layer.kind == 'conv' else layers.local2d
            y = convolve(
                x, kernel, stride=layer.stride, padding=layer.padding, towers=groups
            )
        return layers.add_bias(y, bias)

    def _steps(
        self,
        layer: Layer,
        x: Array,
        masks: Mapping[str, Array] | None,
        tower_axis: str | None,
    ) -> Array:
        network = self.network
        for step in layer.steps:
            if step == 'activation':
                x = layers.ACTIVATIONS[network.activation](x)
            elif step == 'lrn' and layer.lrn:
                x = self._local_response_norm(x, tower_axis)
            elif step == 'spatial_norm' and layer.spatial_norm:
                x = layers.spatial_response_norm(x, **network.spatial_norm)
            elif step == 'pool':
                x = layers.max_pool(x, network.pool['size'], network.pool['stride'])
            elif step == 'avg_pool':
                x = layers.avg_pool(x, network.pool['size'], network.pool['stride'])
            elif step == 'dropout' and layer.dropout > 0:
                x = layers.dropout(
                    x,
                    None if masks is None else masks[layer.name],
                    rate=layer.dropout,
                    scaling=network.dropout_scaling,
                )
        return x

    def _local_response_norm(self, x: Array, tower_axis: str | None) -> Array:
        network = self.network
        if not network.lrn_across_towers:
            towers = self._towers_here(tower_axis)
            return layers.local_response_norm(x, towers=towers, **network.lrn)
        devices = lax.axis_size(tower_axis) if tower_axis else 1
        reach = network.lrn['size'] // 2
        if devices == 1 or not reach:
            return layers.local_response_norm(x, **network.lrn)
        if reach > x.shape[-1]:
            raise ValueError(
                f'model.lrn.size={network.lrn["size"]} reaches beyond the next device, '
                f'which holds {x.shape[-1]} channels; take mesh.tower=1'
            )
        # Caffe's merged net: a window at the seam needs the other tower's edge. What
        # has no neighbour receives zeros, which add nothing to a window's energy.
        before = lax.ppermute(
            x[..., -reach:], tower_axis, [(i, i + 1) for i in range(devices - 1)]
        )
        after = lax.ppermute(
            x[..., :reach], tower_axis, [(i + 1, i) for i in range(devices - 1)]
        )
        wide = jnp.concatenate([before, x, after], axis=-1)
        return layers.local_response_norm(wide, **network.lrn)[..., reach:-reach]
