"""Laws fitted to what was measured: lines and powers."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike


@dataclasses.dataclass(frozen=True)
class Line:
    """y = slope · x + intercept; R² is the share of y's variance that it explains."""

    slope: float
    intercept: float
    r2: float


def fit_line(x: ArrayLike, y: ArrayLike) -> Line:
    """Least squares."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    columns = np.stack([x, np.ones(len(x))], axis=1)
    (slope, intercept), *_ = np.linalg.lstsq(columns, y, rcond=None)
    rest = np.square(y - columns @ [slope, intercept]).sum()
    r2 = 1 - rest / np.square(y - np.mean(y)).sum()
    return Line(float(slope), float(intercept), float(r2))


def fit_exponent(x: ArrayLike, y: ArrayLike) -> float:
    """The p of y ∝ xᵖ, the slope of log(y) against log(x)."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
