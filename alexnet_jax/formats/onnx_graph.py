"""The nodes of a network's graph in ONNX's operators.

Maps are [N, channel, row, column], N left free. A value has the name of its tap
(`conv1/lrn`), so that any runtime can give it out; what lies between has one with
three dots. Windows that hang over the edge become padding, because runtimes read
`ceil_mode` in different ways.
"""

from typing import Any

import numpy as np
from onnx import NodeProto, helper

from alexnet_jax import layer_steps, model, windows
from alexnet_jax.formats.weights import Preprocessing

OPERATORS = {'relu': 'Relu', 'tanh': 'Tanh', 'sigmoid': 'Sigmoid', 'linear': 'Identity'}
Nodes = list[NodeProto]
Constants = dict[str, np.ndarray]


def nodes_of(
    network: model.Network, seen: Preprocessing | None
) -> tuple[Nodes, Constants]:
    """The graph from `images`, or from `input`, to `logits`.

    Args:
      network: any; its weights are `conv1.weight`, …, as `torch_layout` has them.
      seen: to begin with `images`, u8[N, stored, stored, 3]; None for `input`,
        f32[N, 3, crop, crop].

    Returns:
      The nodes, and the constants that they name.
    """
    graph = _Graph()
    x = graph.preprocess(seen) if seen else 'input'
    maps: model.Shape = (network.image_size, network.image_size, 3)
    for layer, shape in zip(network.layers, model.layer_shapes(network), strict=True):
        x = graph.weighted_sum(x, layer, maps, shape, layer.groups(network.towers))
        maps = shape.linear
        for name, step in zip(layer.makes[1:], layer.steps, strict=True):
            x = graph.step(x, f'{layer.name}/{name}', step, maps, network.towers)
            maps = step.output(maps)
    graph.add('Identity', [x], 'logits')
    return graph.nodes, graph.constants


class _Graph:
    """Nodes by the names of their outputs."""

    def __init__(self) -> None:
        self.nodes: Nodes = []
        self.constants: Constants = {}

    def add(
        self, operator: str, inputs: list[str], output: str, **settings: Any
    ) -> str:
        self.nodes.append(
            helper.make_node(operator, inputs, [output], name=output, **settings)
        )
        return output

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.constants[name] = np.array(value, dtype)
        return name

    def split(self, x: str, count: int, axis: int, within: str) -> list[str]:
        """As many equal parts, one for each tower."""
        names = [f'{within}...{x}.{i}' for i in range(count)]
        self.nodes.append(
            helper.make_node('Split', [x], names, name=f'{within}...{x}', axis=axis)
        )
        return names

    def preprocess(self, seen: Preprocessing) -> str:
        """The centre crop of u8[N, stored, stored, 3], less its mean, scaled."""
        start = (seen.stored_size - seen.crop_size) // 2
        stop = start + seen.crop_size
        x = self.slice('images', (start, start), (stop, stop), (1, 2), 'crop')
        x = self.add('Cast', [x], 'crop...float', to=1)
        mean = self.constant('crop.mean', seen.centre_mean)
        x = self.add('Sub', [x, mean], 'crop...less_mean')
        scale = self.constant('crop.scale', seen.scale)
        x = self.add('Mul', [x, scale], 'crop...scaled')
        return self.add('Transpose', [x], 'input', perm=[0, 3, 1, 2])

    def slice(
        self,
        x: str,
        starts: tuple[int, ...],
        stops: tuple[int, ...],
        axes: tuple[int, ...],
        output: str,
        steps: tuple[int, ...] = (1, 1),
    ) -> str:
        bounds = {'starts': starts, 'ends': stops, 'axes': axes, 'steps': steps}
        names = [
            self.constant(f'{output}.{name}', value, np.int64)
            for name, value in bounds.items()
        ]
        return self.add('Slice', [x, *names], output)

    def weighted_sum(
        self,
        x: str,
        layer: model.Layer,
        maps: model.Shape,
        shape: model.LayerShape,
        groups: int,
    ) -> str:
        tap = f'{layer.name}/linear'
        if layer.kind == 'conv':
            x, pads = self.margins(x, layer.padding, maps, tap)
            parameters = [f'{layer.name}.weight', f'{layer.name}.bias']
            return self.add(
                'Conv', [x, *parameters], tap, group=groups, pads=pads,
                kernel_shape=[layer.kernel] * 2, strides=[layer.stride] * 2,
            )  # fmt: skip
        if layer.kind == 'local':
            return self.local(x, layer, maps, shape, groups)
        if len(maps) == 3:
            x = self.add('Flatten', [x], f'{layer.name}...flat', axis=1)
        return self.dense(x, layer.name, groups if layer.kind == 'dense' else 1)

    def margins(
        self, x: str, padding: windows.Padding, maps: model.Shape, within: str
    ) -> tuple[str, list[int]]:
        """Zeros around maps as `pads`; a negative margin is cut off first."""
        (top, bottom), (left, right) = padding
        if min(top, bottom, left, right) < 0:
            starts = max(-top, 0), max(-left, 0)
            stops = maps[0] - max(-bottom, 0), maps[1] - max(-right, 0)
            x = self.slice(x, starts, stops, (2, 3), f'{within}...cut')
        return x, [max(margin, 0) for margin in (top, left, bottom, right)]

    def local(
        self,
        x: str,
        layer: model.Layer,
        maps: model.Shape,
        shape: model.LayerShape,
        groups: int,
    ) -> str:
        """A product for each position: its window, [N, K], times its kernel, [K, F]."""
        if groups > 1:
            raise ValueError(
                f'{layer.name} is locally connected in groups, which is not written '
                'as ONNX; no shipped network has such a layer'
            )
        name, tap = layer.name, f'{layer.name}/linear'
        x, pads = self.margins(x, layer.padding, maps, tap)
        top, left, bottom, right = pads
        padding = [0, 0, top, left, 0, 0, bottom, right]
        padding_name = self.constant(f'{name}...pads', padding, np.int64)
        x = self.add('Pad', [x, padding_name], f'{name}...padded')
        rows, columns, features = shape.linear
        size, stride = layer.kernel, layer.stride
        views = [
            self.slice(
                x,
                (i, j),
                (i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1),
                (2, 3),
                f'{name}...view_{i}_{j}',
                (stride, stride),
            )
            for i in range(size)
            for j in range(size)
        ]
        x = self.add('Concat', views, f'{name}...views', axis=1)
        window = size * size * maps[-1]
        flat = self.constant(f'{name}...flat', [0, window, rows * columns], np.int64)
        x = self.add('Reshape', [x, flat], f'{name}...windows')
        x = self.add('Transpose', [x], f'{name}...positions', perm=[2, 0, 1])
        # [rows, columns, out, in, i, j], windows in the order (i, j, in).
        kernel = self.add(
            'Transpose', [f'{name}.weight'], f'{name}...kernel', perm=[0, 1, 4, 5, 3, 2]
        )
        matrices = self.constant(
            f'{name}...matrices', [rows * columns, window, features], np.int64
        )
        kernel = self.add('Reshape', [kernel, matrices], f'{name}...kernels')
        x = self.add('MatMul', [x, kernel], f'{name}...products')
        x = self.add('Transpose', [x], f'{name}...examples', perm=[1, 2, 0])
        whole = self.constant(f'{name}...maps', [0, features, rows, columns], np.int64)
        x = self.add('Reshape', [x, whole], f'{name}...unbiased')
        return self.add('Add', [x, f'{name}.bias'], tap)

    def dense(self, x: str, name: str, groups: int) -> str:
        tap, weight, bias = f'{name}/linear', f'{name}.weight', f'{name}.bias'
        if groups == 1:
            return self.add('Gemm', [x, weight, bias], tap, transB=1)
        parts = zip(
            self.split(x, groups, 1, name),
            self.split(weight, groups, 0, name),
            self.split(bias, groups, 0, name),
            strict=True,
        )
        products = [
            self.add('Gemm', list(part), f'{name}...product_{i}', transB=1)
            for i, part in enumerate(parts)
        ]
        return self.add('Concat', products, tap, axis=1)

    def step(
        self, x: str, tap: str, step: layer_steps.Step, maps: model.Shape, towers: int
    ) -> str:
        if isinstance(step, layer_steps.Activation):
            return self.add(OPERATORS[step.function], [x], tap)
        if isinstance(step, layer_steps.LocalResponseNorm):
            return self.response_norm(x, tap, step, towers)
        if isinstance(step, layer_steps.SpatialNorm):
            return self.spatial_norm(x, tap, step)
        if isinstance(step, layer_steps.Dropout):
            if step.scaling == 'train':
                return self.add('Identity', [x], tap)
            keep = self.constant(f'{tap}.keep', 1.0 - step.rate)
            return self.add('Mul', [x, keep], tap)
        if isinstance(step, layer_steps.AvgPool):  # or MaxPool, which is one
            beyond = windows.overhang((1, *maps), step.size, step.stride)
            largest = isinstance(step, layer_steps.MaxPool)
            return self.add(
                'MaxPool' if largest else 'AveragePool', [x], tap,
                kernel_shape=[step.size] * 2, strides=[step.stride] * 2,
                pads=[0, 0, beyond[0][1], beyond[1][1]],
            )  # fmt: skip
        raise ValueError(f'{tap}: there is no ONNX for the step {step.name!r}')

    def response_norm(
        self, x: str, tap: str, step: layer_steps.LocalResponseNorm, towers: int
    ) -> str:
        """ONNX divides alpha by the size."""
        settings = {
            'size': step.size, 'alpha': step.alpha * step.size, 'beta': step.beta,
            'bias': step.k,
        }  # fmt: skip
        if step.across_towers or towers == 1:
            return self.add('LRN', [x], tap, **settings)
        parts = [
            self.add('LRN', [part], f'{tap}...{i}', **settings)
            for i, part in enumerate(self.split(x, towers, 1, tap))
        ]
        return self.add('Concat', parts, tap, axis=1)

    def spatial_norm(self, x: str, tap: str, step: layer_steps.SpatialNorm) -> str:
        """The mean of a window's squares, zeros beyond the edge, times their count."""
        square = self.add('Mul', [x, x], f'{tap}...square')
        mean = self.add(
            'AveragePool', [square], f'{tap}...mean', kernel_shape=[step.size] * 2,
            pads=[step.size // 2] * 4, count_include_pad=1,
        )  # fmt: skip
        values = {'factor': step.alpha * step.size**2, 'k': step.k, 'beta': step.beta}
        factor, k, beta = (
            self.constant(f'{tap}.{name}', value) for name, value in values.items()
        )
        energy = self.add('Mul', [mean, factor], f'{tap}...energy')
        base = self.add('Add', [energy, k], f'{tap}...base')
        power = self.add('Pow', [base, beta], f'{tap}...power')
        return self.add('Div', [x, power], tap)
