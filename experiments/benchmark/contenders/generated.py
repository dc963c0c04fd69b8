"""The input pipeline on generated records, as contenders.

Settings: `directory` of a generated set and its `examples`; `first_step`, at which the
pipeline starts; `batches` of a repetition. Every repetition first rests for `REST`
seconds, which are not counted, while the one before fills its buffers.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from alexnet_jax.configs import paper
from alexnet_jax.data import pipeline, prepared
from experiments.benchmark import generated_set, worker
from experiments.benchmark.generated_set import CLASSES, SIZE

BATCH = 128  # images
REST = 0.3


def first_batch(settings: worker.Settings) -> worker.Repetition:
    """Opens the set and takes the batch `first_step`."""

    def run() -> None:
        time.sleep(REST)
        next(batches(settings))

    return run


def next_batches(settings: worker.Settings) -> worker.Repetition:
    """Takes the next `batches` of an open pipeline."""
    opened = batches(settings)

    def run() -> None:
        time.sleep(REST)
        for _ in range(settings['batches']):
            next(opened)

    return run


def batches(settings: worker.Settings) -> Iterator[pipeline.Batch]:
    """Opens the pipeline on the set of the settings."""
    data = paper.get_config().data
    data.stored_size = data.crop_size = SIZE
    data.encoding = 'raw'
    dataset = prepared.PreparedDataset(
        directory=Path(settings['directory']),
        class_names=tuple(map(str, range(CLASSES))),
        stored_size=SIZE,
        encoding='raw',
        mean_image=np.zeros((SIZE, SIZE, 3), np.float32),
        colour_std=np.ones(3, np.float32),
        colour_components=np.eye(3, dtype=np.float32),
        records={'train': generated_set.files(settings['examples'])},
        left_out={},
    )
    return pipeline.train_batches(
        dataset, data, batch_size=BATCH, seed=0, first_step=settings['first_step']
    )
