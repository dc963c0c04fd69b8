"""What `experiments.inspect_cells` measures on trained nets, by name.

chroma         the colour of the first kernels, tower against tower (Figure 3)
neighbours     nearest images by the last hidden layer (Figure 4)
probe          a linear probe of every layer
average2 …     nets of several seeds averaged

A study names its inspections; their numbers come into its runs as `<name>/<number>`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.inspections import averages, chroma, neighbours, probe
from experiments.studies.trained_nets import NETS

# Of config.data, which are other than when the cell was trained.
Changes = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Inspection:
    """A measurement on finished cells.

    Attributes:
      measure: from workdirs to numbers.
      group: how many cells it takes, those of seed, …, seed + group − 1 for each seed
        that is a multiple of it.
      pictures: by the name of their file, what draws them from a workdir.
    """

    measure: Callable[[Sequence[Path], Changes], dict[str, float]]
    group: int = 1
    pictures: Mapping[str, Callable[[Path, Changes, Path], None]] = dataclasses.field(
        default_factory=dict
    )

    def seeds(self, seed: int) -> range:
        """The seeds of the group that begins with a seed; none where none does."""
        return range(seed, seed + self.group if seed % self.group == 0 else seed)


INSPECTIONS = {
    'chroma': Inspection(chroma.measure, pictures={'kernels.png': chroma.draw}),
    'neighbours': Inspection(
        neighbours.measure,
        pictures={
            'neighbours.png': neighbours.draw,
            'guesses.png': neighbours.draw_guesses,
        },
    ),
    'probe': Inspection(probe.measure),
    **{f'average{nets}': Inspection(averages.measure, group=nets) for nets in NETS},
}
