"""One training step of the paper's net, ours against PyTorch's and plain Flax's.

Every contender has the same grouped network, batch, loss and update, its images on the
device as bytes.
"""

from experiments import arithmetic
from experiments.benchmark import comparison
from experiments.benchmark.rounds import Options, Record
from experiments.report import Report


def measure(options: Options) -> Record:
    """Runs the training steps, at every batch and dtype of the options."""
    return comparison.measure('train_step', options)


def report(record: Record) -> Report:
    """A table for every batch and dtype."""
    layers = arithmetic.paper_layers()
    return comparison.report(record, arithmetic.operations(layers, training=True))
