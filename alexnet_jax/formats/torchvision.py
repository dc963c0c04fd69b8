"""torchvision's `alexnet`: the .pth file of its state dict.

The net is `configs/one_tower.py:torchvision`. Its names are those of places in two
sequences (`features.0`, `classifier.6`), its kernels (out, in, rows, columns), and its
first dense layer reads the maps in the order (channel, row, column).
"""

from pathlib import Path

import numpy as np

from alexnet_jax import model
from alexnet_jax.formats import networks, torch_files, torch_layout
from alexnet_jax.formats.weights import Preprocessing, Weights

NETWORK = 'one_tower:torchvision'
NAMES = {
    'conv1': 'features.0', 'conv2': 'features.3', 'conv3': 'features.6',
    'conv4': 'features.8', 'conv5': 'features.10', 'fc6': 'classifier.1',
    'fc7': 'classifier.4', 'fc8': 'classifier.6',
}  # fmt: skip
# Of ImageNet's pixels between 0 and 1, RGB, in every torchvision model's transforms.
MEAN = (0.485, 0.456, 0.406)


def preprocessing() -> Preprocessing:
    """That of its pretrained weights: 256 by the short side, the centre 224."""
    return networks.preprocessing(NETWORK, np.array(MEAN, np.float32) * 255)


def read(path: Path) -> Weights:
    """Reads a state dict, of any number of classes.

    The classes' names and the preprocessing do not lie in such a file; for the latter
    those of torchvision's pretrained weights are taken.

    Raises:
      UnknownNetworkError: it is the state dict of another network.
      ValueError: the file is damaged, or holds more than a state dict.
    """
    ours = {theirs: name for name, theirs in NAMES.items()}
    arrays = {}
    for name, array in torch_files.read(path).items():
        layer, dot, kind = name.rpartition('.')
        arrays[f'{ours.get(layer, layer)}{dot}{kind}'] = array
    shapes = torch_layout.our_shapes(arrays)
    if NETWORK not in networks.with_shapes(shapes):
        raise networks.refuse(shapes, str(path), (NETWORK,))
    table = networks.table_of(networks.config(NETWORK))
    seen = preprocessing()
    classes = shapes['fc8/bias'][0]
    network = model.network_from_config(table, seen.crop_size, classes)
    params = torch_layout.from_torch(arrays, network)
    return Weights(table, params, (), seen, str(path))


def write(weights: Weights, path: Path) -> list[Path]:
    """Writes a state dict for `torchvision.models.alexnet(num_classes=…)`.

    Raises:
      ValueError: the network is another one, or sees crops of another size.
    """
    if NETWORK not in networks.named(weights.table):
        raise ValueError(
            f'torchvision holds {NETWORK} alone, and {weights.source} is another '
            'network; the format pytorch holds every network'
        )
    if (crop := weights.preprocessing.crop_size) != preprocessing().crop_size:
        raise ValueError(
            f'torchvision’s net sees {preprocessing().crop_size} pixels and '
            f'{weights.source} sees {crop}; the format pytorch holds it'
        )
    state = torch_layout.to_torch(weights.params, weights.network)
    torch_files.write(
        path,
        {
            f'{theirs}.{kind}': state[f'{name}.{kind}']
            for name, theirs in NAMES.items()
            for kind in ('weight', 'bias')
        },
    )
    return [path]
