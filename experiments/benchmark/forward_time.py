"""The probabilities of one batch, ours against PyTorch's and plain Flax's."""

from experiments import arithmetic
from experiments.benchmark import comparison
from experiments.benchmark.rounds import Options, Record
from experiments.report import Report


def measure(options: Options) -> Record:
    """Runs the forward passes, at every batch and dtype of the options."""
    return comparison.measure('predict_step', options)


def report(record: Record) -> Report:
    """A table for every batch and dtype."""
    layers = arithmetic.paper_layers()
    return comparison.report(record, arithmetic.operations(layers, training=False))
