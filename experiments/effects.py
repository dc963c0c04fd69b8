"""What a study's runs say of each of its effects."""

import dataclasses
import math
from collections.abc import Sequence

from experiments import paired
from experiments.runs import Run
from experiments.studies.study import Effect, Measure


@dataclasses.dataclass(frozen=True)
class Found:
    """An effect, measured."""

    effect: Effect
    arm: str
    against: str
    interval: paired.Interval  # of arm less against, or of their ratio
    verdict: str
    # '≥ ' where a run of the arm never came there, '? ' where one of the other did not:
    # such a run counts with its length, of which there is no interval.
    bound: str

    def text(self) -> str:
        """The mean with its interval in the measure's unit."""
        found = self.interval
        shape = self._shape()
        unit = ' ×' if self.effect.ratio else f' {_unit(self.effect)}'
        text = f'{self.bound}{found.mean:{shape}}{unit}'
        if found.n == 1 or self.bound:
            return f'{text} (n = {found.n})'
        return f'{text} [{found.low:{shape}}, {found.high:{shape}}], n = {found.n}'

    def bootstrap(self) -> str:
        """The bootstrap interval."""
        found, shape = self.interval, self._shape()
        if found.n == 1 or self.bound:
            return '—'
        return f'[{found.boot_low:{shape}}, {found.boot_high:{shape}}]'

    def _shape(self) -> str:
        """The sign of a difference, not of a ratio or of a number of its own."""
        measure = self.effect.measure
        sign = '' if self.effect.ratio or measure.own else '+'
        return f'{sign}.3f' if measure.unit == 'nats' else f'{sign}.2f'


def _unit(effect: Effect) -> str:
    return 'points' if effect.measure.unit == '%' else effect.measure.unit


def measured_effect(wanted: Effect, runs: Sequence[Run]) -> Found | None:
    """Measures an effect; None while no pair of runs is there."""
    arm = best_of(wanted.arm, wanted, runs)
    against = best_of(wanted.against, wanted, runs)
    if arm is None or against is None:
        return None
    values, never = by_seed(arm, wanted.measure, runs)
    if against:
        others, others_never = by_seed(against, wanted.measure, runs)
        differences = paired.differences(values, others, ratio=wanted.ratio)
    else:
        others_never, differences = False, [values[seed] for seed in sorted(values)]
    if not differences:
        return None
    beyond, matters = wanted.bounds()
    if wanted.ratio:
        beyond, matters = math.log(beyond), math.log(matters)
    signed = paired.interval([wanted.sign * value for value in differences])
    verdict = paired.verdict(signed, beyond=beyond, matters=matters)
    # With its length a run that was cut off bounds the mean, not the spread: the true
    # interval may be wider to both sides.
    if never or others_never:
        verdict = paired.INCONCLUSIVE
    shown = paired.interval(differences)
    return Found(
        wanted,
        arm,
        against,
        shown.exponential() if wanted.ratio else shown,
        verdict,
        '? ' if others_never else '≥ ' if never else '',
    )


def best_of(name: str, wanted: Effect, runs: Sequence[Run]) -> str | None:
    """The arm of a name; of `relu_*` that with the smallest mean of `tuned_by`."""
    arms = dict.fromkeys(run.arm for run in runs)
    if not name.endswith('*'):
        return name if name in arms or not name else None
    assert wanted.tuned_by
    means = {}
    for arm in arms:
        if arm.startswith(name[:-1]):
            values, _ = by_seed(arm, wanted.tuned_by, runs)
            if values:
                means[arm] = sum(values.values()) / len(values)
    return min(means, key=lambda arm: means[arm]) if means else None


def by_seed(
    arm: str, measure: Measure, runs: Sequence[Run]
) -> tuple[dict[int, float], bool]:
    """The measure of an arm's runs, and whether one never came where it asks."""
    values, never = {}, False
    for run in runs:
        if run.arm != arm:
            continue
        value = measure.of(run)
        if value is None and measure.censored:
            value, never = measure.censored(run), True
        if value is not None:
            values[run.seed] = value
    return values, never
