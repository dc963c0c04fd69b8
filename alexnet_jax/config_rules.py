"""What a rule for a value of a config is; `config_keys` has those of all keys."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a key may hold; its type is enforced by ConfigDict itself."""

    allowed: str  # '' where the type says all
    test: Callable[[Any], bool]
    # A run may be continued with another value: it says where things are, how they are
    # laid out or what is shown, and leaves the numbers alone.
    free: bool = False

    def allows(self, value: Any) -> bool:
        """Whether a key may hold this value, of whatever type."""
        try:
            return bool(self.test(value))
        except (TypeError, ValueError, AttributeError, OverflowError):
            return False


def free(rule: Rule) -> Rule:
    """The same rule for a key that may change when a run goes on."""
    return dataclasses.replace(rule, free=True)


def is_number(value: Any) -> bool:
    """A finite number; True and False are none."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def number(low: float, high: float, besides: str = '') -> Rule:
    """A number from `low` to `high`; `besides`: or 0, which has this meaning."""
    zero = f'0 ({besides}) or ' if besides else ''
    return Rule(
        f'{zero}a number from {low:g} to {shown(high)}',
        lambda v: is_number(v) and (low <= v <= high or (bool(besides) and v == 0)),
    )


def whole(low: int, high: int, besides: str = '') -> Rule:
    """A whole number from `low` to `high`; `besides`: or 0, which has this meaning."""
    zero = f'0 ({besides}) or ' if besides else ''
    return Rule(
        f'{zero}a whole number from {low} to {high:,}',
        lambda v: (
            isinstance(v, int)
            and not isinstance(v, bool)
            and (low <= v <= high or (bool(besides) and v == 0))
        ),
    )


def shown(end: float) -> str:
    """The end of a range: 1,000,000 and 1e-06."""
    return f'{end:,}' if isinstance(end, int) else f'{end:g}'


def one_of(*allowed: Any) -> Rule:
    """One of these values."""
    return Rule('one of ' + ', '.join(map(repr, allowed)), lambda v: v in allowed)


def each_once(values: Any) -> bool:
    """Whether no value is there twice."""
    return len(set(values)) == len(values)


LONGEST = 1_000_000  # epochs; ImageNet's 90 are enough
STEPS = 1_000_000_000
MOST_IMAGES = 2**20  # of a batch

ANY = Rule('True or False', lambda v: isinstance(v, bool))
