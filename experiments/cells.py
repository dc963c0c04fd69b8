"""The cells of a sweep: what each trains, by which commands, and what it left."""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax.configs import paper
from alexnet_jax.run import config_file
from alexnet_jax.system import config_arguments, files

Command = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training run of a sweep, and its evaluation with ten views if it has one."""

    arm: str
    seed: int
    config: ConfigDict
    train: Command
    workdir: Path
    evaluate: Command = ()  # with ten views; empty: none
    digest: str = ''  # of the arm's config, the same for every seed

    @property
    def starts_from(self) -> Path | None:
        """The workdir of the run that it takes its first layers from."""
        workdir = self.config.init.workdir
        return Path(workdir) if workdir else None

    @property
    def name(self) -> str:
        """The arm and the seed; its workdir has the same name."""
        return name_of(self.arm, self.seed)

    def path_in(self, workdir: Path) -> str:
        """Its folder in that of the sweep, which studies of several bases share."""
        return self.workdir.relative_to(workdir).as_posix()

    @property
    def commands(self) -> tuple[Command, ...]:
        """What the cell takes, in order."""
        return (self.train, self.evaluate) if self.evaluate else (self.train,)


def name_of(arm: str, seed: int) -> str:
    """What a cell and its workdir are called."""
    return f'{arm}-s{seed}'


def make_cells(
    arms: Mapping[str, Mapping[str, Any]],
    base: ConfigDict,
    base_file: str,
    base_overrides: Mapping[str, Any],
    seeds: int,
    workdir: Path,
    *,
    first_seed: int = 0,
    ten_views: bool = False,
) -> list[Cell]:
    """Makes and validates every cell, seed by seed so that pairs are early complete.

    Args:
      arms: what each changes, by dotted key; see `filled`.
      base: with its overrides.
      base_file: what `--config` names in the commands.
      base_overrides: what the base differs in from that file, by dotted key.
      seeds: first_seed … seeds − 1.
      workdir: of the sweep.
      first_seed: those before it are left out.
      ten_views: evaluates the end of each cell with ten views too.

    Raises:
      ValueError: a cell whose config is not valid, or no seed is left.
    """
    if first_seed >= seeds:
        raise ValueError(
            f'--first_seed={first_seed} leaves no seed of 0 … {seeds - 1}; give '
            f'--seeds={first_seed + 1} or more'
        )
    digests = {arm: digest_of(base, changes) for arm, changes in arms.items()}
    cells = []
    for seed in range(first_seed, seeds):
        for arm, of_any_seed in arms.items():
            changes = filled(of_any_seed, seed, workdir)
            given = {**base_overrides, **changes, 'seed': seed}
            config = base.copy_and_resolve_references()
            config.update_from_flattened_dict(given)
            try:
                config_arguments.complete(base_file, config, given)
                config_lib.validate(config)
            except ValueError as error:
                raise ValueError(f'arm {arm!r}: {error}') from None
            directory = workdir / name_of(arm, seed)
            train = (
                *(sys.executable, '-m', 'alexnet_jax.main', f'--config={base_file}'),
                *flags_of(given),
                f'--workdir={directory}',
            )
            evaluate: Command = ()
            if ten_views:
                evaluate = (
                    *(sys.executable, '-m', 'alexnet_jax.evaluate', '--views=10'),
                    f'--split={reported_split(config)}',
                    *('--checkpoint=latest', f'--workdir={directory}'),
                )
            cells.append(
                Cell(arm, seed, config, train, directory, evaluate, digests[arm])
            )
    return cells


def digest_of(base: ConfigDict, changes: Mapping[str, Any]) -> str:
    """Names what an arm trains, whatever the seed and wherever its data lie."""
    values = dict(config_lib.flat(config_file.to_json(base))) | dict(changes)
    defaults = dict(config_lib.flat(config_file.to_json(paper.get_config())))
    # Without what is as by default, so that a key that comes later changes no digest.
    trained = {
        key: value
        for key, value in values.items()
        if key != 'seed'
        and not config_lib.may_change_on_resume(key)
        and value != defaults.get(key)
    }
    text = json.dumps(trained, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def filled(changes: Mapping[str, Any], seed: int, workdir: Path) -> dict[str, Any]:
    """An arm's changes, with the seed for {seed} and the cells' folder for {cells}."""
    return {
        key: value.replace('{seed}', str(seed)).replace('{cells}', str(workdir))
        if isinstance(value, str)
        else value
        for key, value in changes.items()
    }


def flags_of(values: Mapping[str, Any]) -> list[str]:
    """`--config.key=value` of each."""
    return [
        f'--config.{key}={repr(value) if isinstance(value, tuple) else value}'
        for key, value in values.items()
    ]


def reported_split(config: ConfigDict) -> str:
    """The images that only report, where there are some."""
    return 'test' if config.data.test_split else 'validation'


def metric_prefix(split: str) -> str:
    """How the names of a split's metrics begin: `val` in `val/loss`."""
    return {'validation': 'val'}.get(split, split)


def read_result(cell: Cell) -> dict[str, float] | None:
    """The results of this very config, trained to its end in the workdir, or None.

    A file that a killed process or a full disk left torn counts as not there.
    """
    result = files.read_json(cell.workdir / 'result.json')
    before = files.read_json(cell.workdir / 'config.json')
    if not isinstance(before, dict) or not isinstance(result, dict):
        return None
    was, now = dict(config_lib.flat(before)), config_file.to_json(cell.config)
    start = Path(was.get('init.workdir', ''))
    if cell.starts_from and start.name == cell.starts_from.name:
        # The sweep's folder was moved. A run that has not ended is refused there.
        was['init.workdir'] = str(cell.starts_from)
    if config_file.blocking_differences(was, now):
        return None
    return result if 'val/top1_error' in result else None


def read_ten_views(cell: Cell) -> dict[str, float] | None:
    """Loss and errors with ten views, `test/loss_10view` …, or None."""
    split = reported_split(cell.config)
    found = files.read_json(cell.workdir / f'evaluation-{split}-10view.json')
    try:
        (row,) = found['rows']
        return {
            f'{metric_prefix(split)}/{name}_10view': row[name]
            for name in ('loss', 'top1_error', 'top5_error')
        }
    except (TypeError, KeyError, ValueError):
        return None


def missing_commands(cell: Cell) -> Sequence[Command]:
    """What is still to be run of a cell."""
    if read_result(cell) is None:
        return cell.commands
    if cell.evaluate and read_ten_views(cell) is None:
        return (cell.evaluate,)
    return ()
