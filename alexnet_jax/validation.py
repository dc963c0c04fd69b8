"""The loss and errors of a split while a run trains: one view, the centre crop."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax import mesh as mesh_lib
from alexnet_jax import metrics
from alexnet_jax import step as step_lib
from alexnet_jax.data import augment, pipeline, prepare
from alexnet_jax.model import Network, Params

Scalars = dict[str, float]


def make_evaluation(
    config: ConfigDict,
    dataset: prepare.PreparedDataset,
    network: Network,
    mesh: Mesh,
    mean: jax.Array,
) -> Callable[[Params, str, str], Scalars]:
    """Compiles an evaluation that sees every example of a split exactly once.

    Args:
      config: validated.
      dataset: that has the split.
      network: whose parameters will be given.
      mesh: the devices.
      mean: see `step.subtract_mean`.

    Returns:
      (params, split, prefix) → `{prefix}/loss`, `{prefix}/top1_error` and
      `{prefix}/top5_error`.
    """
    start = augment.centre_offset(dataset.stored_size, network.image_size)
    view = (start, start, False)
    eval_step = step_lib.make_eval_step(network, mesh, [view], config.data.scale)
    batch_size = config.train.eval_batch_size
    # A data axis that was chosen, not given, may not divide it: round up.
    batch_size += -batch_size % mesh.shape[mesh_lib.DATA]

    def evaluate(params: Params, split: str, prefix: str) -> Scalars:
        batches = pipeline.eval_batches(
            dataset,
            config.data,
            split=split,
            batch_size=batch_size,
            rows=mesh_lib.local_rows(mesh, batch_size),
        )
        rows = np.concatenate(
            [
                np.asarray(
                    eval_step(params, mesh_lib.put_batch(batch, mesh, batch_size), mean)
                )
                for batch in batches
            ],
            axis=1,
        )
        expected = pipeline.num_examples(dataset, split)
        seen = round(rows[-1].sum())
        if seen != expected:
            raise RuntimeError(
                f'evaluated {seen} of the {expected} examples of {split}'
            )
        return metrics.mean_of_rows(rows, prefix)

    return evaluate
