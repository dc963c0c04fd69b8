"""Which images are nearest to an image, and how often they are of its class.

Figure 4 of the paper, on the right: the training images whose last hidden layer has the
smallest Euclidean distance to that of a test image. Distances between the pixels, or
between the features of random weights, are what it has to be compared with.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The nearest images of each query, the nearest first."""

    indices: np.ndarray  # int64[Q, k], in the order in which the images came
    distances: np.ndarray  # f64[Q, k]


class Search:
    """Looks for the nearest images of some queries by Euclidean distance.

    Only the best so far are kept, so that any number of images may come.

    Args:
      queries: [Q, …], the features or pixels of each query.
      k: how many are wanted; fewer are found where there are not so many images.
    """

    def __init__(self, queries: np.ndarray, k: int) -> None:
        self._queries = _flat(queries)
        self._squares = _squares(self._queries)
        self._k = k
        self._seen = 0
        self._best = np.full((len(queries), 0), np.inf)
        self._indices = np.zeros((len(queries), 0), np.int64)

    def add(self, batch: np.ndarray) -> None:
        """Takes [n, …], the next images among which it looks."""
        images = _flat(batch)
        products = self._queries @ images.T
        squares = self._squares[:, None] + _squares(images) - 2.0 * products
        numbers = np.arange(self._seen, self._seen + len(images))
        self._seen += len(images)
        best = np.concatenate([self._best, squares], axis=1)
        indices = np.concatenate(
            [self._indices, np.broadcast_to(numbers, squares.shape)], axis=1
        )
        order = np.argsort(best, axis=1, kind='stable')[:, : self._k]
        self._best = np.take_along_axis(best, order, axis=1)
        self._indices = np.take_along_axis(indices, order, axis=1)

    def found(self) -> Neighbours:
        """The nearest of all images that came."""
        return Neighbours(self._indices, np.sqrt(np.maximum(self._best, 0.0)))


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.einsum('nd,nd->n', rows, rows, dtype=np.float64)


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
