"""Several networks together, as the paper's entries of five and seven were (§6)."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.analysis import prediction
from alexnet_jax.run import data_changes, trained

WEIGHT_STEP = 0.05  # of the search, as in the released avg-valid.py


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What came of one network or of several.

    Attributes:
      rows: one per network and per ensemble: `network`, `weights` (of an ensemble),
        `examples`, `classes`, `loss`, `top1_error`, `top5_error`.
      predictions: of the network, or of all with equal weights.
      split: what was seen.
      class_names: of the network.
    """

    rows: list[dict[str, object]]
    predictions: prediction.Predictions
    split: prediction.Split
    class_names: tuple[str, ...]


def weighted(
    members: Sequence[prediction.Predictions], weights: Sequence[float]
) -> np.ndarray:
    """Averages the members' probabilities, f32[N, classes]."""
    total = sum(w * m.probabilities for w, m in zip(weights, members, strict=True))
    return np.asarray(total / sum(weights), np.float32)


def logarithms(
    members: Sequence[prediction.Predictions], weights: Sequence[float]
) -> np.ndarray:
    """Of the averaged probabilities, f32[N, classes]; −∞ of 0."""
    with np.errstate(divide='ignore'):
        return np.log(weighted(members, weights))


def search_weights(members: Sequence[prediction.Predictions]) -> list[float]:
    """Weights from 0 to 1 that are best by top-5 error, then by loss.

    The released avg-valid.py: one weight after the other through all its values, until
    a round changes nothing. Give it predictions of the validation split.
    """
    labels = members[0].labels

    def score(weights: Sequence[float]) -> tuple[float, float]:
        found = prediction.errors(logarithms(members, weights), labels)
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
    workdirs: Sequence[Path],
    *,
    views: int,
    split: str,
    which: str,
    changes: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Evaluates every workdir, and all together if there are several.

    Args:
      workdirs: of runs, or exported.
      views: 1 or 10.
      split: 'validation', 'test' or 'train'.
      which: checkpoint, 'best' or 'latest'.
      changes: of config.data, see `prediction.data_for`.

    Raises:
      ValueError: a workdir holds no run, or the runs do not see the same examples.
    """
    changes = changes or {}
    networks = [trained.load(workdir, which=which) for workdir in workdirs]
    splits = [prediction.open_split(network, split, changes) for network in networks]
    validation = None  # opened before the work, which it could end
    if len(networks) > 1:
        validation = _validation_splits(networks, splits, split, changes)

    def predict(splits: Sequence[prediction.Split]) -> list[prediction.Predictions]:
        return [
            prediction.predict(network, of_network, views)
            for network, of_network in zip(networks, splits, strict=True)
        ]

    members = predict(splits)
    rows: list[dict[str, object]] = [
        {
            'network': f'{n.workdir.name} (step {n.step})',
            **prediction.errors(m.log_probabilities, m.labels),
        }
        for n, m in zip(networks, members, strict=True)
    ]
    if len(networks) == 1:
        return Evaluation(rows, members[0], splits[0], networks[0].class_names)
    check_same_examples(networks, members)
    equal = [1.0] * len(members)
    ensembles = {'ensemble, equal weights': equal}
    if validation is splits:
        ensembles['ensemble, searched on this split'] = search_weights(members)
    elif validation:
        on_validation = predict(validation)
        check_same_examples(networks, on_validation)
        ensembles['ensemble, searched'] = search_weights(on_validation)
    for name, weights in ensembles.items():
        row = prediction.errors(logarithms(members, weights), members[0].labels)
        rows.append({'network': name, 'weights': weights, **row})
    together = prediction.Predictions(logarithms(members, equal), members[0].labels)
    return Evaluation(rows, together, splits[0], networks[0].class_names)


def _validation_splits(
    networks: Sequence[trained.Trained],
    splits: Sequence[prediction.Split],
    split: str,
    changes: Mapping[str, Any],
) -> Sequence[prediction.Split] | None:
    """What weights are searched on: the runs' own validation images.

    Returns:
      `splits` themselves where they are those; None, with a warning, where the runs'
      validation images cannot be opened.
    """
    moved = [data_changes.of_place(changes, n.config.data) for n in networks]
    if split == 'validation' and not any(
        data_changes.of_images(changes, n.config.data) for n in networks
    ):
        return splits
    try:
        return [
            prediction.open_split(network, 'validation', of_place)
            for network, of_place in zip(networks, moved, strict=True)
        ]
    except ValueError as error:
        print(
            'warning: no weights are searched, as the validation images of the runs '
            f'cannot be opened: {error}',
            file=sys.stderr,
        )
        return None


def check_same_examples(
    networks: Sequence[trained.Trained], members: Sequence[prediction.Predictions]
) -> None:
    """An ensemble averages predictions of one list of examples."""
    for network, member in zip(networks, members, strict=True):
        if network.class_names != networks[0].class_names or not np.array_equal(
            member.labels, members[0].labels
        ):
            raise ValueError(
                f'{network.workdir} and {networks[0].workdir} do not see the same '
                'examples or classes; an ensemble needs one data set and one split'
            )
