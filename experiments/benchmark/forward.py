"""The probabilities of one batch, ours against PyTorch's and plain Flax's."""

from experiments.benchmark import step
from experiments.benchmark.rounds import Options, Record


def run(options: Options) -> tuple[Record, str]:
    """Compares forward passes, at every batch and dtype of the options."""
    gflop = step.gigaflop(step.paper_layers(), training=False)
    return step.compare('predict_step', options, gflop)
