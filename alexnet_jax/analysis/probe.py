"""A linear probe: logistic regression on a layer's features, by scikit-learn.

What a layer knows of classes that it need not have been trained on. Of a linear model
with an L2 penalty the weights lie in the span of the training rows, so that features
of any size are first written in a basis of that span: the result is the same, and a
convolution's 290,400 numbers cost no more than the number of images. Of more images
than features the features are that basis.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

# Of the inverse penalty, on features of unit variance.
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


@dataclasses.dataclass(frozen=True)
class Probe:
    """What a probe found."""

    strength: float  # scikit-learn's C, which had the smallest error on the held out
    held_out_error: float
    error: float  # on the images that neither fit nor choice has seen


@dataclasses.dataclass(frozen=True)
class Examples:
    """Features [N, …] and labels int[N]."""

    features: np.ndarray
    labels: np.ndarray


def fit(
    train: Examples,
    held_out: Examples,
    test: Examples,
    strengths: Sequence[float] = STRENGTHS,
) -> Probe:
    """Fits the probe, chooses its penalty and measures its error.

    Args:
      train: what it is fitted to.
      held_out: what chooses the penalty; of equal errors the strongest.
      test: what the error is measured on.
      strengths: the inverse penalties to choose from, in rising order.

    Raises:
      ValueError: scikit-learn is not installed, or `train` has only one class.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError:
        raise ValueError(
            'a probe needs scikit-learn; install it with: make install-dev (a '
            "checkout) or pip install 'alexnet_jax[probe]'"
        ) from None
    if len(np.unique(train.labels)) < 2:
        raise ValueError('a probe needs images of two classes or more to be fitted to')
    mean, scale = _statistics(train.features)
    rows = (_flat(train.features) - mean) / scale
    if rows.shape[0] < rows.shape[1]:
        basis, spread = _basis(rows)
        of_train, inverse = basis * spread, basis / spread
    else:
        of_train, inverse = rows.astype(np.float64), None

    def coordinates(features: np.ndarray) -> np.ndarray:
        scaled = (_flat(features) - mean) / scale
        return scaled if inverse is None else (scaled @ rows.T) @ inverse

    best, of_held_out = None, coordinates(held_out.features)
    for strength in strengths:
        model = LogisticRegression(C=strength, max_iter=1000)
        model.fit(of_train, train.labels)
        error = float(np.mean(model.predict(of_held_out) != held_out.labels))
        if best is None or error < best[0]:
            best = error, strength, model
    assert best is not None
    error, strength, model = best
    wrong = model.predict(coordinates(test.features)) != test.labels
    return Probe(strength, error, float(np.mean(wrong)))


def memory(count: int, features: int) -> int:
    """About the bytes that `fit` takes for so many images with so many features.

    Six float32 copies of the features; where there are fewer images than features,
    also the products of all pairs of images and their eigenvectors.
    """
    return 24 * count * features + (32 * count**2 if count < features else 0)


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1).astype(np.float32)


def _statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each feature; 1 where it is constant, of a dead unit."""
    flat = _flat(features)
    deviation = flat.std(axis=0)
    return flat.mean(axis=0), np.where(deviation > 0, deviation, 1.0)


def _basis(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """U[N, r] and S[r] of the rows' singular value decomposition, by N × N products."""
    values, vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64))
    kept = values > 1e-6 * values[-1]
    return vectors[:, kept], np.sqrt(values[kept])
