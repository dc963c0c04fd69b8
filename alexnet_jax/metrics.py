"""Loss and errors as sums over examples, divided once at the end.

A mean of batch means is wrong as soon as a batch is short, so that steps return sums
and counts; `mean` divides.
"""

import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

NAMES = ('loss', 'top1_error', 'top5_error')


def example_sums(log_probs: Array, labels: Array, mask: Array) -> Array:
    """Sums the loss and the errors of a batch and counts its examples.

    Args:
      log_probs: f32[B, classes], natural logarithms of the probabilities.
      labels: i32[B].
      mask: f32[B], 1 for an example and 0 for padding.

    Returns:
      f32[4], the sums of `NAMES` and the count, in one array so that one reduction
      carries them.
    """
    return jnp.sum(example_rows(log_probs, labels, mask), axis=-1)


def example_rows(log_probs: Array, labels: Array, mask: Array) -> Array:
    """The loss and the errors of each example, f32[4, B]; arguments as above.

    A column has `NAMES` and a 1 for an example, zeros for padding.
    """
    of_label = jnp.take_along_axis(log_probs, labels[:, None], axis=-1)
    rows = jnp.stack(
        [
            -of_label[:, 0],
            1.0 - top_k_hit(log_probs, of_label, 1),
            1.0 - top_k_hit(log_probs, of_label, 5),
            jnp.ones_like(mask),
        ]
    )
    # where, not a product: padding must not pass on a NaN.
    return jnp.where(mask > 0, rows, 0.0)


def top_k_hit(scores: Array, of_label: Array, k: int) -> Array:
    """Says whether each label is among its row's k best; ties count in part.

    If t classes share the label's score and only s of them fit into the k best, the
    hit counts s / t, as the released 2012 code does: a net whose outputs are all equal
    has an error of 1 − k / classes, not of 0. A NaN is never a hit.
    """
    # Not (score <= label's) rather than (score > label's), so that NaN ranks above.
    above = jnp.sum(~(scores <= of_label), axis=-1)
    level = jnp.maximum(jnp.sum(scores == of_label, axis=-1), 1)
    hit = jnp.clip((k - above) / level, 0.0, 1.0)
    # Fewer than k classes can be above a NaN.
    return jnp.where(jnp.isnan(of_label[..., 0]), 0.0, hit)


def mean_of_rows(rows: np.ndarray, prefix: str) -> dict[str, float]:
    """The means of `example_rows`, f32[4, N], of any number of batches.

    Each sum is the exact one, rounded once, so that it does not matter in which order
    and in what batches the examples came.
    """
    total = np.array([math.fsum(row.tolist()) for row in rows])
    return mean([total], prefix)


def mean(sums: Iterable[np.ndarray], prefix: str) -> dict[str, float]:
    """Merges the sums of many batches and divides: `{prefix}/loss` and the errors."""
    total = np.sum(np.stack(list(sums)).astype(np.float64), axis=0)
    return {
        f'{prefix}/{name}': float(value / total[-1])
        for name, value in zip(NAMES, total[:-1], strict=True)
    }
