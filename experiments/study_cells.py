"""The cells of a study, and its line of a record for each that has finished."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import cells, runs
from experiments.studies.study import Study


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Cells that are tabulated together."""

    study: Study | None
    cells: list[cells.Cell]
    workdir: Path


def places(data_dir: str, prepared_dir: str) -> dict[str, str]:
    """Where the data are, by dotted key, of what a command was given; '': nothing."""
    given = {'data.data_dir': data_dir, 'data.prepared_dir': prepared_dir}
    return {key: value for key, value in given.items() if value}


def of_study(
    study: Study,
    names: Sequence[str],
    workdir: Path,
    *,
    places: Mapping[str, Any],
    seeds: int | None = None,
    first_seed: int = 0,
) -> Sweep:
    """The sweep of a study.

    Args:
      study: which.
      names: of its arms; none: those that it runs.
      workdir: of all studies.
      places: where the data are, by dotted key.
      seeds: first_seed … seeds − 1; None: up to the study's number.
      first_seed: those before it are left out.

    Raises:
      ValueError: the study has no such arm, or not on its base, or no seed is left.
    """
    arms = study.changes()
    if unknown := [name for name in names if name not in arms]:
        raise ValueError(
            f'study {study.name!r} has no arm {unknown[0]!r}; it has {", ".join(arms)}'
        )
    read = dict(places) | ({'data.source': 'folder'} if study.base.folder else {})
    changed = study.base.changed() | read
    config = study.base.load()
    config.update_from_flattened_dict(read)
    made = cells.make_cells(
        {name: arms[name] for name in names or study.chosen or arms},
        config,
        study.base.file(),
        changed,
        seeds or study.seeds,
        workdir / study.base.name,
        first_seed=first_seed,
        ten_views=study.base.ten_views,
    )
    return Sweep(study, made, workdir)


def keep_runs(sweep: Sweep) -> None:
    """Writes the finished runs of a study where `summarize` takes them from."""
    if not sweep.study:
        return
    kept = sweep.workdir / 'records' / f'{sweep.study.name}.jsonl'
    kept.parent.mkdir(parents=True, exist_ok=True)
    found = [run for cell in sweep.cells if (run := runs.read(cell))]
    # What another config left here before is not of these cells.
    digests = {cell.arm: cell.digest for cell in sweep.cells}
    before = [
        run
        for run in runs.load(kept)
        if run.arm not in digests or run.digest in ('', digests[run.arm])
    ]
    runs.save(kept, runs.merged(before, found, sweep.study.arms))
