"""The same network and update in PyTorch, as its users write them.

Settings: `batch_size`; `layout`, `channels_last` or `contiguous_format`; `compiled`,
through `torch.compile`; `dtype`, bfloat16 by autocast; `platform`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.benchmark import worker


class ResponseNorm(nn.Module):
    """§3.3 within each of two groups of maps; PyTorch's alpha is divided by 5."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalises x, f32[B, C, H, W]."""
        towers = [
            F.local_response_norm(tower, 5, alpha=5e-4, beta=0.75, k=2.0)
            for tower in x.chunk(2, dim=1)
        ]
        return torch.cat(towers, dim=1)


def make_network() -> nn.Sequential:
    """§3's network, with its two towers as groups."""
    return nn.Sequential(
        nn.ZeroPad2d((0, 3, 0, 3)),
        nn.Conv2d(3, 96, 11, stride=4),
        nn.ReLU(),
        ResponseNorm(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2),
        nn.ReLU(),
        ResponseNorm(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Linear(9216, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 1000),
    )


class Setting:
    """Network, batch and arithmetic of the settings."""

    def __init__(self, settings: worker.Settings):
        torch.set_num_threads(len(settings['cores']))
        # As XLA's default on a GPU.
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)
        self.device = {'cpu': 'cpu', 'cuda': 'cuda'}[settings.get('platform', 'cpu')]
        self.layout = getattr(torch, settings['layout'])
        self.dtype = getattr(torch, settings.get('dtype', 'float32'))
        network = make_network()
        for parameter in network.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.01)
        self.network = network.to(self.device, memory_format=self.layout)
        self.run = torch.compile(network) if settings['compiled'] else network
        size = (settings['batch_size'], 3, 224, 224)
        self.image = torch.randint(
            0, 256, size, dtype=torch.uint8, device=self.device
        ).contiguous(memory_format=self.layout)
        self.label = torch.randint(0, 10, size[:1], device=self.device)

    def logits(self) -> Tensor:
        """Of the batch, f32[B, 1000]."""
        image = self.image.float() - 120.0
        with torch.autocast(
            self.device, torch.bfloat16, enabled=self.dtype != torch.float32
        ):
            return self.run(image)


def train_step(settings: worker.Settings) -> worker.Repetition:
    """§5's update at a constant rate, where torch's and the paper's momentum agree."""
    setting = Setting(settings)
    setting.network.train()
    by_decay = [
        {
            'params': [p for p in setting.network.parameters() if (p.ndim > 1) == wide],
            'weight_decay': 5e-4 if wide else 0.0,
        }
        for wide in (True, False)
    ]
    optimizer = torch.optim.SGD(by_decay, 0.01, momentum=0.9, fused=True)

    def repetition() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(setting.logits().float(), setting.label)
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss).item()  # waits for it

    return repetition


def predict_step(settings: worker.Settings) -> worker.Repetition:
    """The log-probabilities of one batch."""
    setting = Setting(settings)
    setting.network.eval()

    def repetition() -> None:
        with torch.inference_mode():
            log_probs = F.log_softmax(setting.logits(), dim=1)
            assert torch.isfinite(log_probs).all().item()

    return repetition
