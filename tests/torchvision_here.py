"""torchvision, which the CPU's PyTorch from another index cannot import as it is.

Its compiled operators are for the PyTorch that it was built with; without them it
refuses to describe two that detection uses. The classifiers need neither.
"""

import contextlib

import torch

with contextlib.suppress(RuntimeError):  # they are there
    _LIBRARY = torch.library.Library('torchvision', 'FRAGMENT')
    for _name in ('nms', 'qnms'):
        _LIBRARY.define(f'{_name}(Tensor dets, Tensor scores, float t) -> Tensor')

from torchvision.models import alexnet

__all__ = ['alexnet']
