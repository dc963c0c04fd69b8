"""The images of a prepared split, one by one and in order, as those of files come."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alexnet_jax.analysis import prediction
from alexnet_jax.analysis.net import Net
from alexnet_jax.data import names, pipeline, prepare
from alexnet_jax.data.photographs import Photograph

BATCH = 64


@dataclasses.dataclass(frozen=True)
class PreparedSplit:
    """A split whose labels are those of a network.

    Attributes:
      split: see `prediction.Split`.
      names: of its examples: files, or `test[17]` for the place in a split.
      count: of the images that are read.
    """

    split: prediction.Split
    names: list[str]
    count: int

    def __iter__(self) -> Iterator[Photograph]:
        split, number = self.split, 0
        for batch in pipeline.eval_batches(
            split.dataset, split.data, split=split.instruction, batch_size=BATCH
        ):
            for pixels, label in zip(batch['image'], batch['label'], strict=True):
                if number == self.count:
                    return
                name = Path(self.names[number])
                yield Photograph(name, pixels, label=int(split.labels[label]))
                number += 1


def open_split(
    net: Net, name: str, changes: Mapping[str, Any], limit: int = 0
) -> PreparedSplit:
    """Opens a split of the data set of a run, or of another, preparing it if need be.

    Args:
      net: of a workdir.
      name: 'train', 'validation' or 'test', as its config defines them.
      changes: of config.data, see `prediction.data_for`.
      limit: how many images are read at most, from the start; 0 for all.

    Raises:
      ValueError: there is no such split, its data are not there, or they have classes
        that the network does not know.
    """
    data = prediction.data_for(net.config, name, changes, net.workdir or Path())
    instruction = data[f'{name}_split'] or data.train_split
    dataset = prepare.open_prepared(data)
    labels = prediction.matched_labels(
        dataset.class_names, net.class_names, data.source
    )
    count = pipeline.num_examples(dataset, instruction)
    return PreparedSplit(
        prediction.Split(dataset, data, instruction, labels),
        names.of_split(dataset, data, instruction),
        min(count, limit) if limit else count,
    )
