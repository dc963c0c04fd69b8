"""The images of a prepared split, one by one and in order, as those of files come."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.data import pipeline, prepare
from alexnet_jax.data.photographs import Photograph
from alexnet_jax.data.prepared import PreparedDataset

BATCH = 64


@dataclasses.dataclass(frozen=True)
class PreparedSplit:
    """A split of a prepared set; an image's path is its split and place, `test:17`.

    Attributes:
      name: as it was asked for, such as 'test'.
      instruction: what it reads, such as 'train[90%:]'.
      count: of its images that are read.
    """

    name: str
    instruction: str
    config: ConfigDict
    dataset: PreparedDataset
    count: int

    def __iter__(self) -> Iterator[Photograph]:
        number = 0
        for batch in pipeline.eval_batches(
            self.dataset, self.config.data, split=self.instruction, batch_size=BATCH
        ):
            for pixels, label in zip(batch['image'], batch['label'], strict=True):
                if number == self.count:
                    return
                path = Path(f'{self.name}:{number}')
                yield Photograph(path, pixels, label=int(label))
                number += 1


def open_split(config: ConfigDict, name: str, limit: int = 0) -> PreparedSplit:
    """Opens a split of the data set of a run, preparing it if need be.

    Args:
      config: of the run; it says where the data are.
      name: 'train', 'validation' or 'test' as the config defines them, or an
        instruction such as 'train[:1000]'.
      limit: how many images are read at most, from the start; 0 for all.

    Raises:
      ValueError: there is no such split, or its data are not there.
    """
    key = f'{name}_split'
    instruction = dict(config.data).get(key, name)
    if not instruction:
        raise ValueError(
            f'the run has no {name} split (config.data.{key} is empty); name another, '
            "such as --split=validation, or an instruction, --split='train[:100]'"
        )
    dataset = prepare.open_prepared(config.data)
    count = pipeline.num_examples(dataset, instruction)
    return PreparedSplit(
        name, instruction, config, dataset, min(count, limit) if limit else count
    )
