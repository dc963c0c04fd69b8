"""AlexNet: a table of layers, built and applied in the paper's order (§3).

The network is data. `network_from_config` reads the table of `config.model` into a
`Network`, and `AlexNet` is a module per row of it: a weighted sum (`Conv`, `Local`,
`Dense`, the last one `Logits`), then the row's steps. Every variant in `configs/` is
another table of this one module.

A layer says whose output it reads. `'own'`: its own tower's. `'all'`: every tower's,
which is where the two GPUs of 2012 talked (conv3, fc6, fc7, fc8). `'image'`: the
input, which every device has. On a mesh with a device per tower an `'all'` layer
gathers the channels first, except the last, which is split over its *input* and adds
up the logits instead, so that any number of classes works. No other layer communicates,
but for Caffe's merged net, whose response norm reaches across the seam.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from alexnet_jax import layer_steps, layers, randomness
from alexnet_jax.layer_steps import Step, Towers

Array = jax.Array
Shape = tuple[int, ...]
Params = dict[str, dict[str, Any]]  # by layer, then `kernel` and `bias`


@dataclasses.dataclass(frozen=True)
class Layer:
    """One row of the table; the last layer's `features` is the number of classes."""

    name: str
    kind: str  # a key of KINDS
    features: int
    reads: str  # 'image', 'own' or 'all'
    init_std: float
    init_bias: float
    steps: tuple[Step, ...]
    kernel: int = 0  # pixels
    stride: int = 1
    padding: layers.Padding = ((0, 0), (0, 0))  # below 0 it cuts off

    def groups(self, towers: int) -> int:
        """How many towers' inputs the weighted sum keeps apart."""
        return towers if self.reads == 'own' else 1

    @property
    def makes(self) -> tuple[str, ...]:
        """`linear`, its weighted sum, and its steps by name; a second is `pool_2`."""
        return 'linear', *layer_steps.names(self.steps)


@dataclasses.dataclass(frozen=True)
class Network:
    """The whole table: what `AlexNet` needs to be built for one image size."""

    layers: tuple[Layer, ...]
    towers: int
    image_size: int
    compute_dtype: str

    @property
    def num_classes(self) -> int:
        return self.layers[-1].features

    @property
    def taps(self) -> tuple[str, ...]:
        """The names of what `AlexNet.activations` returns, in order."""
        names = []
        for layer in self.layers:
            names += [*(f'{layer.name}/{made}' for made in layer.makes), layer.name]
        return tuple(names)


@dataclasses.dataclass(frozen=True)
class LayerShape:
    """What one layer holds and makes, in the whole (merged) view."""

    name: str
    kernel: Shape
    bias: Shape
    linear: Shape  # the weighted sum's output, without the batch: (H, W, C) or (N,)
    multiply_adds: int  # of one image
    output: Shape = ()  # after all steps
    mask: Shape | None = None  # of its dropout, if it has any

    @property
    def parameters(self) -> int:
        return math.prod(self.kernel) + math.prod(self.bias)


class Weighted(nnx.Module):
    """A weighted sum and the steps after it: kernel and bias of one layer, float32."""

    def __init__(self, layer: Layer, shape: LayerShape, key: Array):
        self.layer = layer
        gaussian = jax.random.normal(key, shape.kernel, jnp.float32)  # §5
        self.kernel = nnx.Param(layer.init_std * gaussian)
        self.bias = nnx.Param(jnp.full(shape.bias, layer.init_bias, jnp.float32))

    @staticmethod
    def shape(layer: Layer, x: Shape, towers: int) -> LayerShape:
        """The shapes of a row of the table, from its input's shape."""
        raise NotImplementedError

    def weighted_sum(self, x: Array, towers: Towers) -> Array:
        """What the kernel and the bias make of x, before any step."""
        raise NotImplementedError

    def __call__(
        self, x: Array, towers: Towers, mask: Array | None = None
    ) -> dict[str, Array]:
        """Everything that the layer makes of x, in order, its output last.

        Args:
          x: f32[B, H, W, C] or f32[B, N], this device's part of the layer before.
          towers: of this device.
          mask: bool[B, ...], of its dropout in training.

        Returns:
          The weighted sum and the output of each step, by the names of `Layer.makes`.
        """
        made = [self.weighted_sum(x, towers)]
        for step in self.layer.steps:
            made.append(step(made[-1], towers, mask))
        return dict(zip(self.layer.makes, made, strict=True))

    def read(self, x: Array, towers: Towers) -> Array:
        """The channels that the layer reads: this device's own or all towers'."""
        return towers.gather(x) if self.layer.reads == 'all' else x


class Conv(Weighted):
    """A convolution: one kernel at every position (§3.5)."""

    convolve = staticmethod(layers.conv2d)

    @staticmethod
    def shape(layer: Layer, x: Shape, towers: int) -> LayerShape:
        if len(x) == 1:
            raise ValueError('a convolution needs maps to read')
        rows, columns = (
            (extent + sum(pad) - layer.kernel) // layer.stride + 1
            for extent, pad in zip(x, layer.padding, strict=False)
        )
        inputs = x[-1] // layer.groups(towers)
        kernel = (layer.kernel, layer.kernel, inputs, layer.features)
        positions = rows * columns
        return LayerShape(
            name=layer.name,
            kernel=kernel,
            bias=(layer.features,),
            linear=(rows, columns, layer.features),
            multiply_adds=math.prod(kernel) * positions,
        )

    def weighted_sum(self, x: Array, towers: Towers) -> Array:
        y = self.convolve(
            self.read(x, towers),
            self.kernel[...].astype(x.dtype),
            stride=self.layer.stride,
            padding=self.layer.padding,
            towers=self.layer.groups(towers.here),
        )
        return layers.add_bias(y, self.bias[...])


class Local(Conv):
    """cuda-convnet's locally connected layer: a kernel and a bias for each position."""

    convolve = staticmethod(layers.local2d)

    @staticmethod
    def shape(layer: Layer, x: Shape, towers: int) -> LayerShape:
        shape = Conv.shape(layer, x, towers)
        if min(itertools.chain(*layer.padding)) < 0:
            raise ValueError('a locally connected layer needs a padding ≥ 0')
        kernel = (*shape.linear[:2], *shape.kernel)
        return dataclasses.replace(shape, kernel=kernel, bias=shape.linear)


class Dense(Weighted):
    """A product with a matrix (§3.5)."""

    @staticmethod
    def shape(layer: Layer, x: Shape, towers: int) -> LayerShape:
        kernel = (math.prod(x) // layer.groups(towers), layer.features)
        outputs = (layer.features,)
        return LayerShape(layer.name, kernel, outputs, outputs, math.prod(kernel))

    def weighted_sum(self, x: Array, towers: Towers) -> Array:
        y = layers.dense(
            self.read(layers.flatten(x, towers=towers.here), towers),
            self.kernel[...].astype(x.dtype),
            towers=self.layer.groups(towers.here),
        )
        return layers.add_bias(y, self.bias[...])


class Logits(Dense):
    """The last layer, whose devices hold the rows that their own towers' features meet.

    It reads all towers by adding up what each contributes, in float32.
    """

    @staticmethod
    def shape(layer: Layer, x: Shape, towers: int) -> LayerShape:
        return Dense.shape(dataclasses.replace(layer, reads='all'), x, towers)

    def weighted_sum(self, x: Array, towers: Towers) -> Array:
        x = layers.flatten(x, towers=towers.here)
        logits = layers.dense(x, self.kernel[...].astype(x.dtype)).astype(jnp.float32)
        return layers.add_bias(towers.add(logits), self.bias[...])


KINDS: dict[str, type[Weighted]] = {
    'conv': Conv,
    'local': Local,
    'dense': Dense,
    'logits': Logits,  # the last layer, whatever its row says
}


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
            module = KINDS[layer.kind](layer, shape, randomness.named(key, layer.name))
            setattr(self, layer.name, module)

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
        """Everything that the network makes of images, by name and in order.

        `conv1/linear` is a layer's weighted sum, `conv1/lrn` the output of one of its
        steps, `conv1` the layer's output. Arguments as for a call.
        """
        devices = lax.axis_size(tower_axis) if tower_axis else 1
        towers = Towers(self.network.towers // devices, tower_axis)
        x = images.astype(self.network.compute_dtype)
        made = {}
        for layer in self.network.layers:
            mask = None if masks is None else masks.get(layer.name)
            of_layer = getattr(self, layer.name)(x, towers, mask)
            made |= {f'{layer.name}/{step}': y for step, y in of_layer.items()}
            x = made[layer.name] = list(of_layer.values())[-1]
        return made


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
        if name == table['layers'][-1]:
            row |= {'kind': _last_kind(name, row), 'features': num_classes}
        else:
            row['features'] = scaled_width(
                row['features'], table['width'], table['towers']
            )
        if 'padding' in row:
            row['padding'] = tuple(tuple(pair) for pair in row['padding'])
        row['steps'] = _steps(table, row)
        fields = {
            f.name: row[f.name] for f in dataclasses.fields(Layer)[1:] if f.name in row
        }
        rows.append(Layer(name=name, **fields))
    network = Network(tuple(rows), table['towers'], image_size, table['compute_dtype'])
    layer_shapes(network)
    return network


def _last_kind(name: str, row: Mapping[str, Any]) -> str:
    if row['kind'] != 'dense':
        raise ValueError(
            f'model.{name}: a convolution needs a dense layer somewhere after it'
        )
    return 'logits'


def _steps(table: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[Step, ...]:
    """The steps of a row, but those that it switches off: `lrn=False`, `dropout=0`."""
    pool = table['pool']
    make: dict[str, Callable[[], Step]] = {
        'activation': lambda: layer_steps.Activation(table['activation']),
        'lrn': lambda: layer_steps.LocalResponseNorm(**table['lrn']),
        'spatial_norm': lambda: layer_steps.SpatialNorm(**table['spatial_norm']),
        'pool': lambda: layer_steps.MaxPool(**pool),
        'avg_pool': lambda: layer_steps.AvgPool(pool['size'], pool['stride']),
        'dropout': lambda: layer_steps.Dropout(
            row['dropout'], table['dropout_scaling']
        ),
    }
    return tuple(make[step]() for step in row['steps'] if row.get(step, True))


def merge(network: Network, params: Params) -> AlexNet:
    """Makes the module that holds these parameters."""
    return nnx.merge(_graph(network), params)


@functools.cache
def _graph(network: Network) -> nnx.GraphDef:
    module = nnx.eval_shape(lambda: AlexNet(network, rngs=nnx.Rngs(0)))
    return nnx.split(module)[0]


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
        if (layer is network.layers[0]) != (layer.reads == 'image'):
            raise ValueError(
                f'model.{layer.name}.reads={layer.reads!r}: the first layer reads '
                "'image' and no other does"
            )
        if layer is not network.layers[-1] and layer.features % network.towers:
            raise ValueError(
                f'model.{layer.name}.features={layer.features} is not divisible by '
                f'model.towers={network.towers}'
            )
        mask = None
        try:
            shape = KINDS[layer.kind].shape(layer, x, network.towers)
            x = shape.linear
            for step in layer.steps:
                x = step.output(x)
                mask = x if isinstance(step, layer_steps.Dropout) else mask
        except ValueError as error:
            raise ValueError(f'model.{layer.name}: {error}') from None
        if min(x) < 1:
            raise ValueError(
                f'model.{layer.name}: its input is too small for its kernel or pool '
                f'(images are {network.image_size} × {network.image_size})'
            )
        shapes.append(dataclasses.replace(shape, output=x, mask=mask))
    return tuple(shapes)


def dropout_shapes(network: Network) -> dict[str, Shape]:
    """The mask (without its batch) of each layer that drops units."""
    return {shape.name: shape.mask for shape in layer_shapes(network) if shape.mask}


def dropout_rate(layer: Layer) -> float:
    """The probability with which a layer drops a unit."""
    return sum(
        step.rate for step in layer.steps if isinstance(step, layer_steps.Dropout)
    )
