"""Several nets of one base averaged, against one of them."""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.analysis import ensembles, prediction
from alexnet_jax.run import trained
from experiments.cells import reported_split

ERRORS = ('top1_error', 'top5_error', 'loss')


def measure(workdirs: Sequence[Path], changes: Mapping[str, Any]) -> dict[str, float]:
    """Errors of the average with equal weights, in one view and in ten.

    `gain` is the mean top-1 error of the nets less that of their average.
    """
    found: dict[str, float] = {}
    for views, ending in ((1, ''), (10, '_10view')):
        members = [_predictions(w, views, json.dumps(dict(changes))) for w in workdirs]
        nets, predictions = zip(*members, strict=True)
        ensembles.check_same_examples(nets, predictions)
        labels = predictions[0].labels
        logarithms = ensembles.logarithms(predictions, [1.0] * len(members))
        together = prediction.errors(logarithms, labels)
        alone = [prediction.errors(m.log_probabilities, labels) for m in predictions]
        found |= {f'{name}{ending}': together[name] for name in ERRORS}
        mean = np.mean([errors['top1_error'] for errors in alone])
        found[f'gain{ending}'] = float(mean) - together['top1_error']
    return found


# A net is a member of several groups; its predictions take less than a megabyte.
@functools.cache
def _predictions(
    workdir: Path, views: int, changes: str
) -> tuple[trained.Trained, prediction.Predictions]:
    network = trained.load(workdir, which='latest')
    split = prediction.open_split(
        network, reported_split(network.config), json.loads(changes)
    )
    return network, prediction.predict(network, split, views)
