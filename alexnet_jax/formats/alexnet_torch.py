"""AlexNet in PyTorch, from the file of weights that lies beside this one.

Needs PyTorch (2.0 or newer) and nothing else; alexnet_jax wrote both files.

    import alexnet_torch

    net = alexnet_torch.load('model.safetensors')  # in evaluation mode
    logits = net(net.preprocessing(squares))       # u8[B, 3, S, S], RGB

Every step of a layer is a module of its own, so that a forward hook reaches it by name:
`conv1.linear` is the weighted sum, `conv1.activation`, `conv1.lrn` and `conv1.pool`
what comes after it in this network's order, `conv1` the layer's output. No module
changes its input in place. Maps are [B, channel, row, column], the towers one after the
other along the channels.
"""

import json
import os
import struct
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv(nn.Conv2d):
    """A convolution whose margins may differ from side to side."""

    def __init__(self, row, channels, groups):
        super().__init__(
            channels, row['features'], row['kernel'], row['stride'], groups=groups
        )
        self.margins = _margins(row)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.margins))


class Local(nn.Module):
    """cuda-convnet's locally connected layer: a kernel and a bias for each position."""

    def __init__(self, row, channels, groups, rows, columns):
        super().__init__()
        self.kernel, self.stride = row['kernel'], row['stride']
        self.margins, self.groups = _margins(row), groups
        size = (row['features'], channels // groups, row['kernel'], row['kernel'])
        self.weight = nn.Parameter(torch.zeros(rows, columns, *size))
        self.bias = nn.Parameter(torch.zeros(row['features'], rows, columns))

    def forward(self, x: Tensor) -> Tensor:
        x = F.unfold(F.pad(x, self.margins), self.kernel, stride=self.stride)
        x = x.unflatten(1, (self.groups, -1))  # [B, group, window, position]
        weight = self.weight.flatten(0, 1).unflatten(1, (self.groups, -1)).flatten(3)
        y = torch.einsum('bgkp,pgfk->bgfp', x, weight)
        return y.reshape(-1, *self.bias.shape) + self.bias


class Dense(nn.Linear):
    """A product of everything, or of each tower's features with its own matrix."""

    def __init__(self, row, features, groups):
        super().__init__(features // groups, row['features'])
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        parts = zip(
            x.flatten(1).chunk(self.groups, 1),
            self.weight.chunk(self.groups),
            self.bias.chunk(self.groups),
        )
        return torch.cat([F.linear(*part) for part in parts], 1)


class LocalResponseNorm(nn.Module):
    """x / (k + alpha * sum of x² over `size` channels) ** beta, in each tower alone."""

    def __init__(self, towers, size, k, alpha, beta, across_towers):
        super().__init__()
        self.towers = 1 if across_towers else towers
        # PyTorch divides alpha by the size.
        self.size, self.alpha, self.beta, self.k = size, alpha * size, beta, k

    def forward(self, x: Tensor) -> Tensor:
        towers = x.chunk(self.towers, 1)
        settings = (self.size, self.alpha, self.beta, self.k)
        return torch.cat([F.local_response_norm(t, *settings) for t in towers], 1)


class SpatialNorm(nn.Module):
    """x / (k + alpha * sum of x² over size × size pixels of its map) ** beta."""

    def __init__(self, size, k, alpha, beta):
        super().__init__()
        self.size, self.k, self.alpha, self.beta = size, k, alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        energy = F.avg_pool2d(x * x, self.size, 1, self.size // 2, divisor_override=1)
        return x / (self.k + self.alpha * energy) ** self.beta


class Dropout2012(nn.Module):
    """The mask alone in training, and the kept share as a factor in evaluation."""

    def __init__(self, rate):
        super().__init__()
        self.keep = 1.0 - rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x * self.keep
        return x * torch.full_like(x, self.keep).bernoulli()


ACTIVATIONS = {
    'relu': nn.ReLU,
    'tanh': nn.Tanh,
    'sigmoid': nn.Sigmoid,
    'linear': nn.Identity,
}


class Preprocessing(nn.Module):
    """Squares of RGB, u8[B, 3, S, S] at the 0–255 scale, to what the network reads."""

    def __init__(self, crop_size, stored_size, mean, scale):
        super().__init__()
        self.crop = crop_size
        self.one_colour = mean == 'colour'  # the mean of the mean image
        self.start = (stored_size - crop_size) // 2
        self.register_buffer('mean', torch.zeros(3, stored_size, stored_size))
        scale = torch.tensor(scale).reshape(3, 1, 1)
        self.register_buffer('scale', scale, persistent=False)

    def forward(self, squares: Tensor) -> Tensor:
        if squares.shape[1:] != self.mean.shape:
            raise ValueError(
                f'expected squares [B, {", ".join(map(str, self.mean.shape))}], got '
                f'{list(squares.shape)}'
            )
        part = slice(self.start, self.start + self.crop)
        x = squares[..., part, part].to(self.mean.dtype)
        mean = self.mean[..., part, part]
        if self.one_colour:
            mean = self.mean.double().mean((1, 2), keepdim=True).to(self.mean.dtype)
        return (x - mean) * self.scale


class AlexNet(nn.Module):
    """The network of a description, which lies in the file of weights."""

    def __init__(self, description):
        super().__init__()
        self.class_names = description['class_names']
        self.layers = [row['name'] for row in description['layers']]
        self.preprocessing = Preprocessing(**description['preprocessing'])
        for row in description['layers']:
            self.add_module(row['name'], _layer(row, description['towers']))

    def forward(self, x: Tensor) -> Tensor:
        """f32[B, 3, crop, crop], as `preprocessing` makes it, to f32[B, classes]."""
        for name in self.layers:
            x = getattr(self, name)(x)
        return x


def load(path='model.safetensors') -> AlexNet:
    """Reads the network from a file that alexnet_jax wrote, in evaluation mode."""
    tensors, metadata = read(path)
    if 'alexnet_torch' not in metadata:
        raise ValueError(f'{path} was not written for alexnet_torch')
    net = AlexNet(json.loads(metadata['alexnet_torch']))
    net.load_state_dict(tensors, strict=True)
    return net.eval()


def read(path):
    """Float32 tensors by name, and the metadata, of a .safetensors file."""
    with open(path, 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        (length,) = struct.unpack('<Q', file.read(8).ljust(8, b'\xff'))
        if length > size - 8:
            raise ValueError(f'{path} is no file of safetensors, or is cut short')
        header = json.loads(file.read(length))
        metadata = header.pop('__metadata__', {})
        tensors = {}
        for name, entry in header.items():
            start, stop = entry['data_offsets']
            if entry['dtype'] != 'F32' or not 0 <= start < stop <= size - 8 - length:
                raise ValueError(f'{path}: {name} is not float32, or is cut short')
            file.seek(8 + length + start)
            data = torch.frombuffer(
                bytearray(file.read(stop - start)), dtype=torch.float32
            )
            tensors[name] = data.reshape(entry['shape'])
    return tensors, metadata


def _layer(row, towers) -> nn.Sequential:
    groups = towers if row['reads'] == 'own' else 1
    if row['kind'] == 'conv':
        linear = Conv(row, row['inputs'][-1], groups)
    elif row['kind'] == 'local':
        linear = Local(row, row['inputs'][-1], groups, *row['linear'][:2])
    else:
        features = 1
        for extent in row['inputs']:
            features *= extent
        linear = Dense(row, features, groups)
    steps = [('linear', linear)]
    for name, settings in row['steps']:
        steps.append((name, _step(name.split('_2')[0], settings, towers)))
    return nn.Sequential(OrderedDict(steps))


def _step(name, settings, towers) -> nn.Module:
    if name == 'activation':
        return ACTIVATIONS[settings['function']]()
    if name == 'lrn':
        return LocalResponseNorm(towers, **settings)
    if name == 'spatial_norm':
        return SpatialNorm(**settings)
    if name == 'pool':
        return nn.MaxPool2d(settings['size'], settings['stride'], ceil_mode=True)
    if name == 'avg_pool':
        return nn.AvgPool2d(settings['size'], settings['stride'], ceil_mode=True)
    if name == 'dropout':
        inverted = settings['scaling'] == 'train'
        return (nn.Dropout if inverted else Dropout2012)(settings['rate'])
    raise ValueError(f'alexnet_torch knows no step {name!r}')


def _margins(row):
    (top, bottom), (left, right) = row['padding']
    return (left, right, top, bottom)
