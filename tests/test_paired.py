"""Paired differences against scipy, and the verdict that an interval has."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments import paired

A = {0: 30.1, 1: 29.4, 2: 31.0, 3: 30.2, 4: 29.9}
B = {4: 28.7, 3: 29.9, 2: 29.5, 1: 28.1, 0: 29.3, 9: 1.0}  # seed 9 has no partner


def test_differences_are_of_the_same_seed():
    values = paired.differences(A, B)
    assert values == pytest.approx([0.8, 1.3, 1.5, 0.3, 1.2])
    ratios = paired.differences(A, B, ratio=True)
    assert ratios == pytest.approx([math.log(A[s] / B[s]) for s in A])


def test_the_t_interval_is_that_of_scipys_paired_test():
    found = paired.interval(paired.differences(A, B))
    theirs = stats.ttest_rel([A[s] for s in A], [B[s] for s in A])
    interval = theirs.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.n, found.mean) == (5, pytest.approx(1.02))


def test_the_bootstrap_is_scipys_percentile_interval():
    values = paired.differences(A, B)
    found = paired.interval(values)
    theirs = stats.bootstrap(
        (values,), np.mean, method='percentile', n_resamples=100_000,
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    # Means of five values are a grid, of steps up to 0.06 here.
    assert found.boot_low == pytest.approx(theirs.low, abs=0.06)
    assert found.boot_high == pytest.approx(theirs.high, abs=0.06)
    assert paired.interval(values) == found  # a table does not change by itself


def test_one_pair_has_no_interval_and_none_is_an_error():
    one = paired.interval([0.5])
    assert one.n == 1 and one.mean == 0.5 and math.isnan(one.low)
    assert paired.verdict(one, beyond=0, matters=0.3) == paired.INCONCLUSIVE
    with pytest.raises(ValueError, match='no pair'):
        paired.interval([])


@pytest.mark.parametrize(
    ('low', 'high', 'expected'),
    [
        (0.1, 0.9, paired.SUPPORTED),
        (-0.2, 0.25, paired.NOT_SUPPORTED),  # too small to matter
        (-0.9, -0.1, paired.NOT_SUPPORTED),
        (-0.1, 0.9, paired.INCONCLUSIVE),
    ],
)
def test_the_verdict_is_that_of_the_whole_interval(low, high, expected):
    found = paired.Interval(3, (low + high) / 2, 0.1, low, high, low, high)
    assert paired.verdict(found, beyond=0.0, matters=0.3) == expected
