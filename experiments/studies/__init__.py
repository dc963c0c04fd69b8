"""Every study by its name, in the order of what it tells for the hours it takes."""

from experiments.studies import (
    cifar10,
    cuda_convnet,
    figure1,
    figure3,
    figure4,
    photographs,
    shipped,
    trained_nets,
    transfer,
)
from experiments.studies.study import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        *cifar10.STUDIES,
        *figure1.STUDIES,
        *cuda_convnet.STUDIES,
        figure3.CIFAR10,
        figure4.CIFAR10,
        *trained_nets.STUDIES,
        *transfer.STUDIES,
        *shipped.STUDIES,
        *photographs.STUDIES,
        figure4.ON_PHOTOGRAPHS,
        figure3.STARTED_AS_2012,
    )
}


def named(name: str) -> Study:
    """A study by its name.

    Raises:
      ValueError: there is none.
    """
    if name not in STUDIES:
        raise ValueError(f'--study={name}: there are {", ".join(STUDIES)}')
    return STUDIES[name]
