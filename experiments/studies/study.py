"""What a study is: a base, arms, seeds, measures and the rule of its verdicts.

    python -m experiments.sweep --study=lrn --data_dir=DIR --workdir=runs/studies

The protocol of its record (`records/<study>/README.md`) is made from it and committed
before its first run.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.system import config_arguments
from experiments import ablations
from experiments.runs import Run

MOST_SEEDS = 10  # of a study whose verdict is undecided


@dataclasses.dataclass(frozen=True)
class Base:
    """A config that studies share, and with it its cells: `<workdir>/<base>/…`."""

    name: str
    config: str  # a shipped one, `file` or `file:argument`
    overrides: Mapping[str, Any]  # by dotted key
    data: str  # what the protocol says of them
    network: str
    schedule: str
    images: str = 'CIFAR-10, JPEG copies'  # as docs/claims.md names them
    folder: bool = False  # reads a folder of images, not a TFDS set
    data_dir: str = 'TFDS_DIR'  # as the protocol's command names it
    made_by: str = ''  # the command that makes that folder, if one does
    ten_views: bool = True

    def file(self) -> str:
        """What `--config` names."""
        return config_arguments.to_file(self.config)

    def changed(self) -> dict[str, Any]:
        """The overrides, and He's deviations where they change a fan-in."""
        base = config_arguments.load(self.file())
        return dict(self.overrides) | ablations.he_again(base, self.overrides)

    def load(self) -> ConfigDict:
        """The config with its overrides."""
        config = config_arguments.load(self.file())
        config.update_from_flattened_dict(self.changed())
        return config


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number of a run.

    `of` returns it, or None where the run does not have it. A measure that is a time
    has `censored`: the value of a run that never reached the threshold. `mark` is that
    threshold as (metric, value); the picture draws a line there. An `own` number stands
    for itself, as a share does, and is shown without a sign.
    """

    name: str
    unit: str
    of: Callable[[Run], float | None]
    censored: Callable[[Run], float] | None = None
    mark: tuple[str, float] | None = None
    own: bool = False


def measured(key: str, name: str, unit: str, factor: float = 1.0) -> Measure:
    """A number that an inspection of the net has found, × the factor."""
    return Measure(name, unit, lambda run: run.inspected(key, factor))


def final(metric: str, name: str) -> Measure:
    """A metric at the end of training, in percent."""
    return Measure(name, '%', lambda run: run.last(metric, 100.0))


TEST = final('test/top1_error', 'test error, one view')
TEN_VIEWS = final('test/top1_error_10view', 'test error, ten views')
VALIDATION = final('val/top1_error', 'validation error')
TRAINING = final('train_view/top1_error', 'training error, one view')
TRAINING_LOSS = Measure(
    'training loss, one view', 'nats', lambda run: run.last('train_view/loss')
)


def _gap(run: Run) -> float | None:
    training = run.last('train_view/top1_error', 100.0)
    validation = run.last('val/top1_error', 100.0)
    if training is None or validation is None:
        return None
    return validation - training


GAP = Measure('validation less training error, both in one view', 'points', _gap)


def _gain(run: Run) -> float | None:
    one, ten = TEST.of(run), TEN_VIEWS.of(run)
    return None if one is None or ten is None else one - ten


TEN_VIEW_GAIN = Measure('test error, one view less ten', 'points', _gain)


def epochs_to(metric: str, threshold: float, name: str) -> Measure:
    """The epochs until a metric first is at a threshold, linear between two points."""
    return Measure(
        f'epochs to {threshold:.0%} {name}',
        'epochs',
        lambda run: run.epochs_to(metric, threshold),
        lambda run: run.epochs,
        (metric, threshold),
    )


@dataclasses.dataclass(frozen=True)
class Effect:
    """A comparison that a claim is about.

    `arm` less `against`, or their ratio; of `measure`; `sign` says which way the claim
    has it. An arm that ends with `*` stands for the best of those that begin so, by the
    rule of `tuned_by`. `against` '' asks for the measure itself against 0.
    """

    claim: int  # its row in docs/claims.md; 0: of none
    text: str
    arm: str
    against: str
    measure: Measure
    sign: int = 1
    ratio: bool = False
    # In the measure's unit, or as a ratio: see `paired.verdict`.
    beyond: float | None = None  # None: 0, or a ratio of 1
    matters: float | None = None  # None: as `beyond`
    tuned_by: Measure | None = None

    def bounds(self) -> tuple[float, float]:
        """`beyond` and `matters` with their defaults."""
        none = 1.0 if self.ratio else 0.0
        beyond = none if self.beyond is None else self.beyond
        return beyond, beyond if self.matters is None else self.matters


def lower_validation(texts: Mapping[str, str], matters: float) -> tuple[Effect, ...]:
    """That each arm has a lower validation error than the base, by the arm's name."""
    return tuple(
        Effect(0, text, arm, 'base', VALIDATION, sign=-1, matters=matters)
        for arm, text in texts.items()
    )


@dataclasses.dataclass(frozen=True)
class Study:
    """Arms that are compared over seeds, and what they are to decide."""

    name: str
    question: str
    claim: str  # the sentence, quoted, with its source
    base: Base
    # Names of `ablations.ABLATIONS`, or changes of this study's own by their name, in
    # whose texts {seed} and {cells} stand for what `cells.filled` says.
    arms: tuple[str, ...]
    effects: tuple[Effect, ...]
    own: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    # The arms that a sweep runs unless others are named; none: all. Where
    # `<study>_rates` decides, those that it found best.
    chosen: tuple[str, ...] = ()
    seeds: int = 3
    # How the protocol's command starts the sweep: cells at a time, and variables.
    jobs: int = 2
    environment: str = ''
    columns: tuple[Measure, ...] = ()  # of table.md, besides `pages.MEASURES`
    # Names of `inspections.INSPECTIONS`, and what the protocol says of them: `measured`
    # numbers that `experiments.inspect_cells` takes from the nets themselves.
    inspections: tuple[str, ...] = ()
    instrument: str = ''
    in_steps: bool = False  # the picture's axis, where an epoch is not one length
    remarks: str = ''
    # What was changed after the first run, with its date.
    changed_since: tuple[str, ...] = ()

    def changes(self) -> dict[str, dict[str, Any]]:
        """What each arm changes in the base, by dotted key.

        Raises:
          ValueError: an arm that the base cannot have.
        """
        config = self.base.load()
        return {
            arm: ablations.resolved(arm, self.own[arm], config)
            if arm in self.own
            else ablations.overrides(arm, config)
            for arm in self.arms
        }
