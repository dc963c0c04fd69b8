"""Several networks together, as the paper's entries of five and seven were (§6)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.analysis import prediction
from alexnet_jax.run import trained

WEIGHT_STEP = 0.05  # of the search, as in the released avg-valid.py


def weighted(
    members: Sequence[prediction.Predictions], weights: Sequence[float]
) -> np.ndarray:
    """Averages the members' probabilities, f32[N, classes]."""
    total = sum(w * m.probabilities for w, m in zip(weights, members, strict=True))
    return np.asarray(total / sum(weights), np.float32)


def search_weights(members: Sequence[prediction.Predictions]) -> list[float]:
    """Weights from 0 to 1 that are best by top-5 error, then by loss.

    The released avg-valid.py: one weight after the other through all its values, until
    a round changes nothing. Give it predictions of the validation split.
    """
    labels = members[0].labels

    def score(weights: Sequence[float]) -> tuple[float, float]:
        found = prediction.errors(weighted(members, weights), labels)
        return found['top5_error'], found['loss']

    weights = [1.0] * len(members)
    best = score(weights)
    improving = True
    while improving:
        improving = False
        for i in range(len(members)):
            for value in np.arange(0, 1 + WEIGHT_STEP / 2, WEIGHT_STEP):
                tried = [*weights[:i], round(float(value), 2), *weights[i + 1 :]]
                if any(tried) and (found := score(tried)) < best:
                    best, weights, improving = found, tried, True
    return weights


def evaluate(
    workdirs: Sequence[Path], *, views: int, split: str, which: str
) -> list[dict[str, object]]:
    """Evaluates every workdir, and all together if there are several.

    Returns:
      A row per network and per ensemble: `network`, `weights` (of an ensemble),
      `examples`, `classes`, `loss`, `top1_error`, `top5_error`.

    Raises:
      ValueError: a workdir holds no run, or the runs do not see the same examples.
    """
    networks = [trained.load(workdir, which=which) for workdir in workdirs]
    members = [prediction.predict(network, split, views) for network in networks]
    rows: list[dict[str, object]] = [
        {
            'network': f'{n.workdir.name} (step {n.step})',
            **prediction.errors(m.probabilities, m.labels),
        }
        for n, m in zip(networks, members, strict=True)
    ]
    if len(networks) == 1:
        return rows
    check_same_examples(networks, members)
    on_validation = (
        members
        if split == 'validation'
        else [prediction.predict(network, 'validation', views) for network in networks]
    )
    check_same_examples(networks, on_validation)
    note = ', searched on this split' if split == 'validation' else ', searched'
    for name, weights in (
        ('ensemble, equal weights', [1.0] * len(members)),
        (f'ensemble{note}', search_weights(on_validation)),
    ):
        row = prediction.errors(weighted(members, weights), members[0].labels)
        rows.append({'network': name, 'weights': weights, **row})
    return rows


def check_same_examples(
    networks: Sequence[trained.Trained], members: Sequence[prediction.Predictions]
) -> None:
    """An ensemble averages predictions of one list of examples."""
    for network, member in zip(networks, members, strict=True):
        if (
            not np.array_equal(member.labels, members[0].labels)
            or member.probabilities.shape != members[0].probabilities.shape
        ):
            raise ValueError(
                f'{network.workdir} and {networks[0].workdir} do not see the same '
                'examples or classes; an ensemble needs one data set and one split'
            )
