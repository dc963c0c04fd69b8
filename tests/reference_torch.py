"""The networks in plain PyTorch, written from the sources rather than our layers.

A network is a function of images (NCHW), parameters (`reference_numpy.to_peer_layout`)
and the dropout masks of a training step, or None in testing; it returns every layer's
output by name. PyTorch's norm divides alpha by the window's size, so that the paper's
formula is its 5e-4 and the released source's 1e-4 its 1e-4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Tensors = dict[str, Tensor]


def lrn_of_columns(x: Tensor, alpha: float, columns: int = 2) -> Tensor:
    """Each GPU's maps by themselves, n = 5, k = 2, β = 0.75."""
    return torch.cat(
        [
            F.local_response_norm(column, 5, alpha=alpha, beta=0.75, k=2.0)
            for column in x.chunk(columns, dim=1)
        ],
        dim=1,
    )


def rnorm_of_map(x: Tensor, size: int, scale: float) -> Tensor:
    """cuda-convnet's rnorm: `scale` over the window's area, zeros beyond the edge."""
    maps = x.shape[1]
    ones = torch.ones(maps, 1, size, size, dtype=x.dtype)
    energy = F.conv2d(x * x, ones, padding=size // 2, groups=maps)
    return x / (1.0 + scale / size**2 * energy).pow(0.75)


def max_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, kernel_size=3, stride=2, ceil_mode=True)


def conv(x: Tensor, p: Tensors, name: str, **options: int) -> Tensor:
    return F.conv2d(x, p[f'{name}.weight'], p[f'{name}.bias'], **options)


def linear(x: Tensor, p: Tensors, name: str) -> Tensor:
    return F.linear(x, p[f'{name}.weight'], p[f'{name}.bias'])


def local(x: Tensor, p: Tensors, name: str, size: int) -> Tensor:
    """A kernel for every pixel: windows of all channels times that pixel's matrix."""
    windows = F.unfold(x, size, padding=size // 2)
    y = torch.einsum('bkp,pfk->bfp', windows, p[f'{name}.weight'])
    return y.unflatten(2, x.shape[2:]) + p[f'{name}.bias']


def dropped_2012(x: Tensor, mask: Tensor | None) -> Tensor:
    """A 0/1 mask in training, times 0.5 in testing."""
    return 0.5 * x if mask is None else x * mask


def dropped_inverted(x: Tensor, mask: Tensor | None) -> Tensor:
    """Today's form, Caffe's too: doubled in training."""
    return x if mask is None else 2.0 * x * mask


def dense_layers(out: Tensors, x: Tensor, p: Tensors, masks, dropped) -> Tensors:
    """fc6, fc7, fc8 that read everything before them."""
    for name in ('fc6', 'fc7'):
        x = F.relu(linear(x.flatten(1), p, name))
        out[name] = x = dropped(x, masks and masks[name])
    out['fc8'] = linear(x, p, 'fc8')
    return out


def paper(x: Tensor, p: Tensors, masks: Tensors | None = None) -> Tensors:
    """§3: convolution, ReLU, norm, overlapping pool; every step by its name."""
    out = {}

    def step(layer: str, name: str, x: Tensor) -> Tensor:
        out[f'{layer}/{name}'] = out[layer] = x
        return x

    inputs = {'conv1': {'stride': 4}, 'conv2': {'padding': 2, 'groups': 2}}
    x = F.pad(x, (0, 3, 0, 3))
    for layer, options in inputs.items():
        x = step(layer, 'linear', conv(x, p, layer, **options))
        x = step(layer, 'activation', F.relu(x))
        x = step(layer, 'lrn', lrn_of_columns(x, 5e-4))
        x = step(layer, 'pool', max_pool(x))
    for layer, groups in (('conv3', 1), ('conv4', 2), ('conv5', 2)):
        x = step(layer, 'linear', conv(x, p, layer, padding=1, groups=groups))
        x = step(layer, 'activation', F.relu(x))
    x = step('conv5', 'pool', max_pool(x))
    for layer in ('fc6', 'fc7'):
        x = step(layer, 'linear', linear(x.flatten(1), p, layer))
        x = step(layer, 'activation', F.relu(x))
        x = step(layer, 'dropout', dropped_2012(x, masks and masks[layer]))
    step('fc8', 'linear', linear(x, p, 'fc8'))
    return out


def released_2012(
    x: Tensor, p: Tensors, masks: Tensors | None = None, columns: int = 2
) -> Tensors:
    """Run #145; with one column #145-half, with a conv6 #146."""
    out = {}
    x = lrn_of_columns(
        conv(F.pad(x, (0, 3, 0, 3)), p, 'conv1', stride=4), 1e-4, columns
    )
    out['conv1'] = x = F.relu(max_pool(x))
    x = F.relu(conv(x, p, 'conv2', padding=2, groups=columns))
    x = rnorm_of_map(lrn_of_columns(x, 1e-4, columns), 5, 0.001)
    out['conv2'] = x = max_pool(x)
    out['conv3'] = x = F.relu(conv(x, p, 'conv3', padding=1))
    out['conv4'] = x = F.relu(conv(x, p, 'conv4', padding=1, groups=columns))
    x = max_pool(conv(x, p, 'conv5', padding=1, groups=columns))
    out['conv5'] = x = F.relu(x)
    if 'conv6.weight' in p:
        out['conv6'] = x = F.relu(conv(x, p, 'conv6', padding=1))
    return dense_layers(out, x, p, masks, dropped_2012)


def half(x: Tensor, p: Tensors, masks: Tensors | None = None) -> Tensors:
    return released_2012(x, p, masks, columns=1)


def separate_columns(x: Tensor, p: Tensors, masks: Tensors | None = None) -> Tensors:
    """Run #150 as what it is: two nets whose last features one layer reads."""
    out = {name: [] for name in ('conv1', 'conv2', 'conv3', 'conv4', 'conv5')}
    out |= {'fc6': [], 'fc7': []}
    image = F.pad(x, (0, 3, 0, 3))
    for column in (0, 1):
        own = {name: value.chunk(2)[column] for name, value in p.items()}
        x = lrn_of_columns(conv(image, own, 'conv1', stride=4), 1e-4, 1)
        x = F.relu(max_pool(x))
        out['conv1'].append(x)
        x = F.relu(conv(x, own, 'conv2', padding=2))
        x = max_pool(rnorm_of_map(lrn_of_columns(x, 1e-4, 1), 5, 0.001))
        out['conv2'].append(x)
        for name in ('conv3', 'conv4'):
            x = F.relu(conv(x, own, name, padding=1))
            out[name].append(x)
        x = F.relu(max_pool(conv(x, own, 'conv5', padding=1)))
        out['conv5'].append(x)
        for name in ('fc6', 'fc7'):
            mask = masks and masks[name].chunk(2, dim=1)[column]
            x = dropped_2012(F.relu(linear(x.flatten(1), own, name)), mask)
            out[name].append(x)
    joined = {name: torch.cat(parts, dim=1) for name, parts in out.items()}
    joined['fc8'] = linear(joined['fc7'], p, 'fc8')
    return joined


def caffe(x: Tensor, p: Tensors, masks: Tensors | None = None) -> Tensors:
    """bvlc_alexnet: groups, but norms over the merged maps with k = 1."""
    out = {}
    x = F.relu(conv(x, p, 'conv1', stride=4))
    out['conv1'] = x = max_pool(F.local_response_norm(x, 5, 1e-4, 0.75))
    x = F.relu(conv(x, p, 'conv2', padding=2, groups=2))
    out['conv2'] = x = max_pool(F.local_response_norm(x, 5, 1e-4, 0.75))
    out['conv3'] = x = F.relu(conv(x, p, 'conv3', padding=1))
    out['conv4'] = x = F.relu(conv(x, p, 'conv4', padding=1, groups=2))
    out['conv5'] = x = max_pool(F.relu(conv(x, p, 'conv5', padding=1, groups=2)))
    return dense_layers(out, x, p, masks, dropped_inverted)


def caffenet(x: Tensor, p: Tensors, masks: Tensors | None = None) -> Tensors:
    """bvlc_reference_caffenet: pool, then norm."""
    out = {}
    x = F.relu(conv(x, p, 'conv1', stride=4))
    out['conv1'] = x = F.local_response_norm(max_pool(x), 5, 1e-4, 0.75)
    x = F.relu(conv(x, p, 'conv2', padding=2, groups=2))
    out['conv2'] = x = F.local_response_norm(max_pool(x), 5, 1e-4, 0.75)
    out['conv3'] = x = F.relu(conv(x, p, 'conv3', padding=1))
    out['conv4'] = x = F.relu(conv(x, p, 'conv4', padding=1, groups=2))
    out['conv5'] = x = max_pool(F.relu(conv(x, p, 'conv5', padding=1, groups=2)))
    return dense_layers(out, x, p, masks, dropped_inverted)


def one_tower(x: Tensor, p: Tensors, masks: Tensors | None = None) -> Tensors:
    """cuda-convnet2's layers-imagenet-1gpu.cfg."""
    out = {}
    x = conv(F.pad(x, (0, 3, 0, 3)), p, 'conv1', stride=4)
    out['conv1'] = x = F.relu(max_pool(lrn_of_columns(x, 1e-4, 1)))
    x = F.relu(conv(x, p, 'conv2', padding=2))
    out['conv2'] = x = max_pool(lrn_of_columns(x, 1e-4, 1))
    out['conv3'] = x = F.relu(conv(x, p, 'conv3', padding=1))
    out['conv4'] = x = F.relu(conv(x, p, 'conv4', padding=1))
    out['conv5'] = x = F.relu(max_pool(conv(x, p, 'conv5', padding=1)))
    return dense_layers(out, x, p, masks, dropped_2012)


class TorchvisionAlexNet(nn.Module):
    """torchvision.models.alexnet, its modules in its order and so under its names."""

    def __init__(self, dropouts: list[nn.Module] | None = None):
        super().__init__()
        first, second = dropouts or [nn.Dropout(0.5), nn.Dropout(0.5)]
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            first,
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            second,
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, 1000),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class GivenDropout(nn.Module):
    """nn.Dropout(0.5) in training, with a mask that the test knows."""

    def __init__(self, mask: Tensor):
        super().__init__()
        self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask.flatten(1) / 0.5


TORCHVISION_NAMES = {
    'conv1': 'features.0',
    'conv2': 'features.3',
    'conv3': 'features.6',
    'conv4': 'features.8',
    'conv5': 'features.10',
    'fc6': 'classifier.1',
    'fc7': 'classifier.4',
    'fc8': 'classifier.6',
}


def torchvision_state_dict(p: Tensors) -> Tensors:
    """The parameters under torchvision's names."""
    return {
        f'{torchvision}.{kind}': p[f'{ours}.{kind}']
        for ours, torchvision in TORCHVISION_NAMES.items()
        for kind in ('weight', 'bias')
    }


def torchvision(x: Tensor, p: Tensors, masks: Tensors | None = None) -> Tensors:
    dropouts = masks and [GivenDropout(masks['conv5']), GivenDropout(masks['fc6'])]
    with torch.device('meta'):  # no memory: the parameters are given
        module = TorchvisionAlexNet(dropouts)
    module.train(masks is not None)
    state = torchvision_state_dict(p)
    return {'fc8': torch.func.functional_call(module, state, (x,))}


def cifar_80sec(x: Tensor, p: Tensors, masks: Tensors | None = None) -> Tensors:
    """layers-80sec.cfg; max pooling before the ReLU, average pooling after."""
    out = {}
    out['conv1'] = x = F.relu(max_pool(conv(x, p, 'conv1', padding=2)))
    for name in ('conv2', 'conv3'):
        x = F.relu(conv(x, p, name, padding=2))
        out[name] = x = F.avg_pool2d(x, 3, 2, ceil_mode=True)
    out['fc64'] = x = F.relu(linear(x.flatten(1), p, 'fc64'))
    out['fc10'] = linear(x, p, 'fc10')
    return out


def cifar_18pct(x: Tensor, p: Tensors, masks: Tensors | None = None) -> Tensors:
    """layers-18pct.cfg: a norm in each map after the first two pools."""
    out = {}
    x = F.relu(max_pool(conv(x, p, 'conv1', padding=2)))
    out['conv1'] = x = rnorm_of_map(x, 3, 5e-5)
    x = F.avg_pool2d(F.relu(conv(x, p, 'conv2', padding=2)), 3, 2, ceil_mode=True)
    out['conv2'] = x = rnorm_of_map(x, 3, 5e-5)
    x = F.avg_pool2d(F.relu(conv(x, p, 'conv3', padding=2)), 3, 2, ceil_mode=True)
    out['conv3'] = x
    out['fc10'] = linear(x.flatten(1), p, 'fc10')
    return out


def cifar_13pct(x: Tensor, p: Tensors, masks: Tensors | None = None) -> Tensors:
    """layers-conv-local-13pct.cfg."""
    out = {}
    out['conv1'] = x = max_pool(F.relu(conv(x, p, 'conv1', padding=2)))
    out['conv2'] = x = max_pool(F.relu(conv(x, p, 'conv2', padding=2)))
    out['local3'] = x = F.relu(local(x, p, 'local3', 3))
    out['local4'] = x = F.relu(local(x, p, 'local4', 3))
    out['fc10'] = linear(x.flatten(1), p, 'fc10')
    return out


def cifar_11pct(x: Tensor, p: Tensors, masks: Tensors | None = None) -> Tensors:
    """layers-conv-local-11pct.cfg: the norm after the first pool, before the second."""
    out = {}
    x = max_pool(F.relu(conv(x, p, 'conv1', padding=2)))
    out['conv1'] = x = F.local_response_norm(x, 9, 0.001, 0.75)
    x = F.local_response_norm(F.relu(conv(x, p, 'conv2', padding=2)), 9, 0.001, 0.75)
    out['conv2'] = x = max_pool(x)
    out['local3'] = x = F.relu(local(x, p, 'local3', 3))
    out['local4'] = x = F.relu(local(x, p, 'local4', 3))
    out['fc10'] = linear(x.flatten(1), p, 'fc10')
    return out


NETWORKS = {
    'paper': paper,
    'released_2012': released_2012,
    'half': half,
    'six_conv': released_2012,
    'columns': separate_columns,
    'caffe': caffe,
    'caffenet': caffenet,
    'one_tower': one_tower,
    'one_tower:torchvision': torchvision,
    'cuda_convnet:80sec': cifar_80sec,
    'cuda_convnet:18pct': cifar_18pct,
    'cuda_convnet:conv_local_13pct': cifar_13pct,
    'cuda_convnet:conv_local_11pct': cifar_11pct,
}


def loss_and_gradients(
    name: str, images: Tensor, labels: Tensor, p: Tensors, masks: Tensors
) -> tuple[float, Tensors]:
    """The mean negative log-likelihood and its gradient by every parameter."""
    p = {key: value.clone().requires_grad_() for key, value in p.items()}
    logits = list(NETWORKS[name](images, p, masks).values())[-1]
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    return loss.item(), {key: value.grad for key, value in p.items()}


def update_2012(
    w: Tensor, v: Tensor, g: Tensor, *, rate: float, decay: float
) -> tuple[Tensor, Tensor]:
    """§5's two lines."""
    v = 0.9 * v - decay * rate * w - rate * g
    return w + v, v
