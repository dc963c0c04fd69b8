"""Layers and networks as ONNX graphs, run by ONNX Runtime.

The weights are inputs of a graph, so that nothing is folded ahead of time and no graph
is large. ONNX's LRN divides alpha by its size, as the released source does; the
paper's formula is its 5e-4.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

Feeds = Mapping[str, np.ndarray]


class Graph:
    """Nodes by the names of their outputs."""

    def __init__(self) -> None:
        self.nodes = []
        self.outputs: list[str] = []

    def add(self, op: str, *inputs: str, count: int = 1, **attributes: Any) -> Any:
        names = [f'{op}_{len(self.nodes)}_{i}' for i in range(count)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names[0] if count == 1 else names

    def keep(self, name: str, as_name: str) -> str:
        """Makes a value an output of the graph."""
        self.nodes.append(helper.make_node('Identity', [name], [as_name]))
        self.outputs.append(as_name)
        return as_name

    def constant(self, value: float) -> str:
        return self.add('Constant', value_float=value)

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        def inputs() -> list[Any]:
            return [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
                for name, value in feeds.items()
            ]

        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in self.outputs
        ]
        model = helper.make_model(
            helper.make_graph(self.nodes, 'net', inputs(), outputs),
            opset_imports=[helper.make_opsetid('', 21)],
            ir_version=10,
        )
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=['CPUExecutionProvider']
        )
        feeds = {name: np.ascontiguousarray(value) for name, value in feeds.items()}
        values = session.run(self.outputs, feeds)
        return dict(zip(self.outputs, values, strict=True))

    # The layers, in ONNX's terms.

    def conv(self, x: str, name: str, *, group: int = 1, stride: int = 1, pads) -> str:
        return self.add(
            'Conv', x, f'{name}.weight', f'{name}.bias',
            group=group, strides=[stride, stride], pads=pads,
        )  # fmt: skip

    def relu(self, x: str) -> str:
        return self.add('Relu', x)

    def max_pool(self, x: str) -> str:
        return self.add('MaxPool', x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)

    def lrn(self, x: str, *, alpha: float, bias: float, columns: int = 1) -> str:
        parts = [x]
        if columns > 1:
            parts = self.add('Split', x, count=columns, axis=1, num_outputs=columns)
        parts = [
            self.add('LRN', part, size=5, alpha=alpha, beta=0.75, bias=bias)
            for part in parts
        ]
        return self.add('Concat', *parts, axis=1)

    def rnorm_of_map(self, x: str, size: int, scale: float) -> str:
        """`AveragePool` divides by the whole window if padding counts."""
        mean = self.add(
            'AveragePool', self.add('Mul', x, x), kernel_shape=[size, size],
            pads=[size // 2] * 4, count_include_pad=1,
        )  # fmt: skip
        energy = self.add('Mul', mean, self.constant(scale))
        base = self.add('Add', energy, self.constant(1.0))
        return self.add('Div', x, self.add('Pow', base, self.constant(0.75)))

    def dense(self, x: str, name: str) -> str:
        flat = self.add('Flatten', x)
        return self.add('Gemm', flat, f'{name}.weight', f'{name}.bias', transB=1)

    def dense_layers(self, x: str, *, factor: float) -> None:
        """fc6 to fc8 in testing; `factor` is dropout's."""
        for name in ('fc6', 'fc7'):
            x = self.relu(self.dense(x, name))
            x = self.keep(self.add('Mul', x, self.constant(factor)), name)
        self.keep(self.dense(x, 'fc8'), 'fc8')


RIGHT_AND_BOTTOM = [0, 0, 3, 3]
ONE, TWO = [1] * 4, [2] * 4


def paper(g: Graph) -> None:
    x = g.relu(g.conv('images', 'conv1', stride=4, pads=RIGHT_AND_BOTTOM))
    x = g.keep(g.max_pool(g.lrn(x, alpha=5e-4, bias=2.0, columns=2)), 'conv1')
    x = g.relu(g.conv(x, 'conv2', group=2, pads=TWO))
    x = g.keep(g.max_pool(g.lrn(x, alpha=5e-4, bias=2.0, columns=2)), 'conv2')
    x = g.keep(g.relu(g.conv(x, 'conv3', pads=ONE)), 'conv3')
    x = g.keep(g.relu(g.conv(x, 'conv4', group=2, pads=ONE)), 'conv4')
    x = g.keep(g.max_pool(g.relu(g.conv(x, 'conv5', group=2, pads=ONE))), 'conv5')
    g.dense_layers(x, factor=0.5)


def released_2012(g: Graph) -> None:
    x = g.conv('images', 'conv1', stride=4, pads=RIGHT_AND_BOTTOM)
    x = g.max_pool(g.lrn(x, alpha=1e-4, bias=2.0, columns=2))
    x = g.keep(g.relu(x), 'conv1')
    x = g.relu(g.conv(x, 'conv2', group=2, pads=TWO))
    x = g.lrn(x, alpha=1e-4, bias=2.0, columns=2)
    x = g.keep(g.max_pool(g.rnorm_of_map(x, 5, 0.001)), 'conv2')
    x = g.keep(g.relu(g.conv(x, 'conv3', pads=ONE)), 'conv3')
    x = g.keep(g.relu(g.conv(x, 'conv4', group=2, pads=ONE)), 'conv4')
    x = g.keep(g.relu(g.max_pool(g.conv(x, 'conv5', group=2, pads=ONE))), 'conv5')
    g.dense_layers(x, factor=0.5)


def caffe(g: Graph) -> None:
    x = g.relu(g.conv('images', 'conv1', stride=4, pads=[0] * 4))
    x = g.keep(g.max_pool(g.lrn(x, alpha=1e-4, bias=1.0)), 'conv1')
    x = g.relu(g.conv(x, 'conv2', group=2, pads=TWO))
    x = g.keep(g.max_pool(g.lrn(x, alpha=1e-4, bias=1.0)), 'conv2')
    x = g.keep(g.relu(g.conv(x, 'conv3', pads=ONE)), 'conv3')
    x = g.keep(g.relu(g.conv(x, 'conv4', group=2, pads=ONE)), 'conv4')
    x = g.keep(g.max_pool(g.relu(g.conv(x, 'conv5', group=2, pads=ONE))), 'conv5')
    g.dense_layers(x, factor=1.0)


def one_tower(g: Graph) -> None:
    x = g.conv('images', 'conv1', stride=4, pads=RIGHT_AND_BOTTOM)
    x = g.max_pool(g.lrn(x, alpha=1e-4, bias=2.0))
    x = g.keep(g.relu(x), 'conv1')
    x = g.relu(g.conv(x, 'conv2', pads=TWO))
    x = g.keep(g.max_pool(g.lrn(x, alpha=1e-4, bias=2.0)), 'conv2')
    x = g.keep(g.relu(g.conv(x, 'conv3', pads=ONE)), 'conv3')
    x = g.keep(g.relu(g.conv(x, 'conv4', pads=ONE)), 'conv4')
    x = g.keep(g.relu(g.max_pool(g.conv(x, 'conv5', pads=ONE))), 'conv5')
    g.dense_layers(x, factor=0.5)


def torchvision(g: Graph) -> None:
    x = g.relu(g.conv('images', 'conv1', stride=4, pads=TWO))
    x = g.keep(g.max_pool(x), 'conv1')
    x = g.keep(g.max_pool(g.relu(g.conv(x, 'conv2', pads=TWO))), 'conv2')
    x = g.keep(g.relu(g.conv(x, 'conv3', pads=ONE)), 'conv3')
    x = g.keep(g.relu(g.conv(x, 'conv4', pads=ONE)), 'conv4')
    x = g.keep(g.max_pool(g.relu(g.conv(x, 'conv5', pads=ONE))), 'conv5')
    g.dense_layers(x, factor=1.0)


NETWORKS: dict[str, Callable[[Graph], None]] = {
    'paper': paper,
    'released_2012': released_2012,
    'caffe': caffe,
    'one_tower': one_tower,
    'one_tower:torchvision': torchvision,
}


def forward(name: str, images: np.ndarray, parameters: Feeds) -> dict[str, np.ndarray]:
    """Every layer's output of a network in testing, NCHW."""
    graph = Graph()
    NETWORKS[name](graph)
    return graph.run({'images': images, **parameters})
