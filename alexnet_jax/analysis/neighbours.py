"""Which images are nearest to an image, and how often they are of its class.

Figure 4 of the paper, on the right: the training images whose last hidden layer has the
smallest Euclidean distance to that of a test image. Distances between the pixels, or
between the features of random weights, are what it has to be compared with.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The nearest images of each query, the nearest first."""

    indices: np.ndarray  # int64[Q, k], in the order in which the images came
    distances: np.ndarray  # f64[Q, k]


def nearest(queries: np.ndarray, batches: Iterable[np.ndarray], k: int) -> Neighbours:
    """The k nearest images of each query by Euclidean distance.

    Only the best so far are kept, so that any number of images may come.

    Args:
      queries: [Q, …], the features or pixels of each query.
      batches: [n, …] each, those of the images among which it looks.
      k: how many are wanted; fewer come back where there are not so many images.
    """
    flat = _flat(queries)
    of_queries = np.einsum('qd,qd->q', flat, flat, dtype=np.float64)
    best = np.full((len(flat), 0), np.inf)
    indices = np.zeros((len(flat), 0), np.int64)
    seen = 0
    for batch in batches:
        images = _flat(batch)
        of_images = np.einsum('nd,nd->n', images, images, dtype=np.float64)
        squares = of_queries[:, None] + of_images - 2.0 * (flat @ images.T)
        best = np.concatenate([best, squares], axis=1)
        numbers = np.broadcast_to(np.arange(seen, seen + len(images)), squares.shape)
        indices = np.concatenate([indices, numbers], axis=1)
        order = np.argsort(best, axis=1, kind='stable')[:, :k]
        best = np.take_along_axis(best, order, axis=1)
        indices = np.take_along_axis(indices, order, axis=1)
        seen += len(images)
    return Neighbours(indices, np.sqrt(np.maximum(best, 0.0)))


def _flat(x: np.ndarray) -> np.ndarray:
    """[n, D] as float32; pixels about 0, where squares cancel least."""
    rows = x.reshape(len(x), -1).astype(np.float32)
    return rows - np.float32(127.5) if x.dtype == np.uint8 else rows


def precision(
    found: Neighbours, image_labels: np.ndarray, query_labels: np.ndarray, k: int
) -> float:
    """The mean share of the k nearest images that have the label of their query."""
    labels = image_labels[found.indices[:, :k]]
    return float(np.mean(labels == query_labels[:, None]))


def chance(image_labels: np.ndarray, query_labels: np.ndarray) -> float:
    """The precision of images drawn at random."""
    counts = np.bincount(image_labels, minlength=int(query_labels.max()) + 1)
    return float(np.mean(counts[query_labels] / len(image_labels)))
