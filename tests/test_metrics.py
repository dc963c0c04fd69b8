"""Errors against counting by hand; ties, padding and NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax import metrics


def sums_of(logits, labels, mask=None):
    logits = jnp.asarray(logits, jnp.float32)
    mask = jnp.ones(len(labels)) if mask is None else jnp.asarray(mask)
    return np.asarray(
        metrics.example_sums(jax.nn.log_softmax(logits), jnp.asarray(labels), mask)
    )


def test_sums_equal_numpys():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 12)), rng.integers(0, 12, 50)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    ranks = np.argsort(np.argsort(-logits, -1), -1)[np.arange(50), labels]
    expected = [
        -log_probs[np.arange(50), labels].sum(),
        (ranks >= 1).sum(),
        (ranks >= 5).sum(),
        50,
    ]
    np.testing.assert_allclose(sums_of(logits, labels), expected, rtol=1e-5)


def test_padding_counts_nothing_even_if_it_is_nan():
    logits = np.array([[2.0, 0, 0, 0, 0, 0, 0], [np.nan] * 7])
    np.testing.assert_allclose(sums_of(logits, [0, 0], [1.0, 0.0])[1:], [0, 0, 1])


def test_ties_count_in_part_and_nan_is_an_error():
    equal = sums_of(np.zeros((1, 10)), [3])
    np.testing.assert_allclose(equal[1:3], [1 - 1 / 10, 1 - 5 / 10], rtol=1e-6)
    for classes in (3, 10):
        missed = sums_of(np.full((1, classes), np.nan), [2])
        np.testing.assert_array_equal(missed[1:3], [1.0, 1.0])


def test_mean_weighs_examples_not_batches():
    sums = [np.array([2.0, 1, 0, 2]), np.array([9.0, 3, 3, 3])]
    assert metrics.mean(sums, 'val') == pytest.approx(
        {'val/loss': 2.2, 'val/top1_error': 0.8, 'val/top5_error': 0.6}
    )
