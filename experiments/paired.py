"""Differences between two arms, paired by seed: means, intervals, and a verdict.

Runs of one seed start from the same weights and see the same examples in the same
order (where the arms do not change just that), so that what they share cancels in the
difference.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its 95 % intervals; NaN where one value allows none."""

    n: int
    mean: float
    deviation: float  # of the sample
    low: float  # Student's t
    high: float
    boot_low: float  # percentile bootstrap of the mean
    boot_high: float

    def exponential(self) -> 'Interval':
        """The interval of the ratios, from one of their logarithms."""
        values = dataclasses.astuple(self)[1:]
        return Interval(self.n, *map(math.exp, values))


def differences(
    arm: Mapping[int, float], against: Mapping[int, float], *, ratio: bool = False
) -> list[float]:
    """Arm less the other for each seed that both have; of logarithms for ratios."""
    seeds = sorted(arm.keys() & against.keys())
    if ratio:
        return [math.log(arm[s] / against[s]) for s in seeds]
    return [arm[s] - against[s] for s in seeds]


def interval(values: Sequence[float]) -> Interval:
    """The mean of a sample with its t-interval and its bootstrap interval.

    Raises:
      ValueError: there is no value.
    """
    n = len(values)
    if not n:
        raise ValueError('no pair of runs with the same seed')
    mean = float(np.mean(values))
    if n == 1:
        nan = math.nan
        return Interval(1, mean, nan, nan, nan, nan, nan)
    deviation = float(np.std(values, ddof=1))
    half = deviation / math.sqrt(n) * float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
    rng = np.random.default_rng(0)  # the table is the same whenever it is made
    means = np.asarray(values)[rng.integers(n, size=(RESAMPLES, n))].mean(axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(
        n, mean, deviation, mean - half, mean + half, float(low), float(high)
    )


SUPPORTED = 'supported'
NOT_SUPPORTED = 'not supported'
INCONCLUSIVE = 'inconclusive at this scale'
NEEDS_IMAGENET = 'needs ImageNet'
NOT_RUN = 'not run'
MEASURED = (SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE)
VERDICTS = (*MEASURED, NEEDS_IMAGENET, NOT_RUN)


def verdict(found: Interval, *, beyond: float, matters: float) -> str:
    """What an interval says of the claim that the mean is more than `beyond`.

    Args:
      found: of differences whose sign is the claim's: positive if it is right.
      beyond: supported if the whole t-interval is above it.
      matters: not supported if the whole t-interval is below it, the smallest effect
        that would matter; at least `beyond`.
    """
    if found.n < 2:
        return INCONCLUSIVE
    if found.low > beyond:
        return SUPPORTED
    if found.high < matters:
        return NOT_SUPPORTED
    return INCONCLUSIVE
