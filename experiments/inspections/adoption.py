"""Cells that an earlier version trained, without the files that loading needs now."""

from collections.abc import Mapping
from typing import Any

from alexnet_jax.analysis import prediction
from alexnet_jax.data import prepare
from alexnet_jax.run import config_file, inputs, trained
from experiments.cells import Cell, metric_prefix, read_result, reported_split

# Of the loss, between a version's compiled step and another's.
TOLERANCE = 1e-3


def adopt(cell: Cell, changes: Mapping[str, Any]) -> bool:
    """Adds class names and mean image to a finished cell that lacks them.

    They are those of its data set, if with them the net has the very loss on the images
    that only report, in one view, that the run logged at its end.

    Args:
      cell: finished.
      changes: of config.data, where its data set is.

    Returns:
      whether there was anything to add.

    Raises:
      ValueError: the loss is another.
    """
    if (cell.workdir / 'dataset.json').is_file():
        return False
    data = config_file.read(cell.workdir).data
    data.update(changes)
    dataset = prepare.open_prepared(data)
    held = inputs.Inputs(dataset.class_names, dataset.mean_image, dataset.fingerprint)
    check_same_loss(cell, held, changes)
    inputs.write(cell.workdir, held)
    return True


def check_same_loss(
    cell: Cell, held: inputs.Inputs, changes: Mapping[str, Any]
) -> None:
    """Refuses a cell that predicts otherwise here than where it was trained."""
    split = reported_split(cell.config)
    network = trained.load(cell.workdir, which='latest', held=held)
    seen = prediction.predict(
        network, prediction.open_split(network, split, changes), 1
    )
    found = prediction.errors(seen.log_probabilities, seen.labels)['loss']
    result = read_result(cell) or {}
    logged = result[f'{metric_prefix(split)}/loss']
    if abs(found - logged) > TOLERANCE * logged:
        raise ValueError(
            f'{cell.workdir}: of an earlier version, and its loss on {split} is '
            f'{found:.5f} here and was {logged:.5f} there; the data set or the network '
            'is not the same. Inspect it with the version that trained it'
        )
