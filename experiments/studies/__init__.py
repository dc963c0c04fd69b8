"""Every study by its name, in the order of what it tells for the hours it takes."""

from experiments.studies import cifar10, cuda_convnet, figure1, photographs, transfer
from experiments.studies.study import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        *cifar10.STUDIES,
        *figure1.STUDIES,
        *cuda_convnet.STUDIES,
        *transfer.STUDIES,
        *photographs.STUDIES,
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
