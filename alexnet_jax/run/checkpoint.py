"""The checkpoints of a workdir: the latest steps, and the best by validation error.

    <workdir>/checkpoints/<step>/    the latest `keep` steps
    <workdir>/best/<step>/           the step with the lowest validation error

A step is believed only if the digests of all its arrays agree (`checkpoint_folder`).
"""

import math
import re
from pathlib import Path
from typing import Any

from absl import logging

from alexnet_jax.run import digests
from alexnet_jax.run.checkpoint_folder import CheckpointFolder, one_line, saved_steps
from alexnet_jax.system import processes

Json = dict[str, Any]

# The error of a best checkpoint that was never evaluated: the first evaluation of a run
# that goes on from it is better.
NOT_MEASURED = 1.0


class Checkpoints:
    """The checkpoints of one workdir; a context manager that waits for its writes.

    Saving is asynchronous: an error of the disk is raised by the next `save` or
    `save_best`, or by `close`. With `read_only` nothing on the disk is touched, so that
    a run still in progress can be evaluated.
    """

    def __init__(self, workdir: str | Path, *, keep: int = 3, read_only: bool = False):
        if keep < 1:
            raise ValueError(f'keep is {keep}; at least 1 checkpoint must be kept')
        root = Path(workdir).absolute()
        if not read_only:
            check_path(root)
        # Each process decides by what it sees there, and all must decide the same.
        seen = {kind: saved_steps(root, kind) for kind in ('checkpoints', 'best')}
        processes.check_same(
            digests.json_digest(seen),
            f'the processes see different checkpoints in {root}: it must be one folder '
            'that all of them share; if it is, start them again in a minute',
        )
        self._read_only = read_only
        self._latest = CheckpointFolder(root / 'checkpoints', keep, read_only)
        # Orbax's own best-of policies rest on a metrics file that, once damaged, makes
        # the whole directory unreadable. Here `meta` holds the error instead, and
        # save_best removes what it replaces.
        self._best = CheckpointFolder(root / 'best', None, read_only)
        # Saving is collective, so that all processes must think the same of an error.
        self._best_found = processes.from_first(self._find_best())

    def save(self, step: int, state: Any, meta: Json) -> bool:
        """Saves `state` as `step`; False if that step is already there.

        The buffers of `state` may be donated as soon as this returns.
        """
        steps = self._latest.steps()
        if step in steps:
            return False
        if steps and step < steps[-1]:
            raise ValueError(
                f'step {step} cannot be saved: {self._latest.path} already holds step '
                f'{steps[-1]}; restore it, or move it away'
            )
        self._latest.save(step, state, meta)
        return True

    def restore_latest(
        self, abstract_state: Any, *, part: bool = False
    ) -> tuple[Any, Json] | None:
        """The newest state that verifies, and its meta; None if nothing was saved.

        `abstract_state` has a ShapeDtypeStruct with a sharding for every array; the
        mesh need not be the one that saved. With `part` it is a dict of some of them,
        and only these are read. Newer steps that do not verify are renamed to
        `<step>.damaged`, or they would stand in the way of the steps to come. If none
        verifies that is a ValueError: a run never starts again in silence.
        """
        self._latest.wait()  # a step that is being written is not there yet
        failures: dict[int, str] = {}
        for step in reversed(self._latest.steps()):
            restored, failure = self._latest.try_restore(step, abstract_state, part)
            if restored is not None:
                if not self._read_only:
                    self._latest.set_aside(list(failures))
                return restored
            logging.warning(
                'Skipped checkpoint %s: %s', self._latest.path / str(step), failure
            )
            failures[step] = failure
        if not failures:
            return None
        reasons = '; '.join(f'step {step}: {why}' for step, why in failures.items())
        raise ValueError(
            f'none of the checkpoints in {self._latest.path} can be restored '
            f'({reasons}); move the directory away to start from the beginning'
        )

    def latest_step(self) -> int:
        """The newest step that was saved, verified or not; 0 before the first."""
        return max(self._latest.steps(), default=0)

    @property
    def best_error(self) -> float | None:
        """The error of the best checkpoint, None before the first."""
        return self._best_found[0] if self._best_found else None

    @property
    def best_step(self) -> int:
        """The step of the best checkpoint, 0 before the first."""
        return self._best_found[1] if self._best_found else 0

    def save_best(self, step: int, state: Any, meta: Json, error: float) -> bool:
        """Makes `state` the best checkpoint if `error` is lower than the best so far.

        A tie keeps the earlier one; an error that is not finite is never the best.
        Returns once the checkpoint is on the disk.
        """
        error = float(error)
        if not math.isfinite(error):
            return False
        if self.best_error is not None and error >= self.best_error:
            return False
        # Orbax's barriers have the same names in both folders: of two saves at once one
        # process can be at the one's barrier while the other is at the other's.
        self._latest.wait()
        older = self._best.steps()
        if step in older:  # run again from an older step, with other numbers
            self._best.delete([step])
        self._best.save(step, state, meta, error=error)
        self._best.wait()
        # Only now: at every instant one complete best checkpoint is on the disk.
        self._best.delete([s for s in older if s != step])
        self._best_found = error, step
        return True

    def set_best_aside(self) -> list[int]:
        """Renames the best checkpoint to `<step>.earlier`: another run begins here.

        Returns:
          Its step, in a list; empty if there was none.
        """
        steps = self._best.steps()
        self._best.set_aside(steps, 'earlier')
        self._best_found = None
        return steps

    def restore_best(
        self, abstract_state: Any, *, part: bool = False
    ) -> tuple[Any, Json] | None:
        """The state with the lowest validation error, and its meta; None without one.

        Arguments as for `restore_latest`. A best checkpoint that does not verify is a
        ValueError.
        """
        found = processes.from_first(self._find_best())
        if found is None:
            if self._best.steps():
                raise ValueError(f'no checkpoint in {self._best.path} can be read')
            return None
        _, step = found
        restored, failure = self._best.try_restore(step, abstract_state, part)
        if restored is None:
            raise ValueError(
                f'{self._best.path / str(step)} cannot be restored: {failure}'
            )
        return restored

    def restore_step(
        self, kind: str, step: int, abstract_state: Any, *, part: bool = False
    ) -> tuple[Any, Json]:
        """The state of one step, and its meta; a step that does not verify is an error.

        `kind` is 'checkpoints' or 'best'. Other arguments as for `restore_latest`.
        """
        folder = {'checkpoints': self._latest, 'best': self._best}[kind]
        if step not in folder.steps():
            there = ', '.join(map(str, folder.steps())) or 'none'
            raise ValueError(f'{folder.path} has no step {step}; there are {there}')
        restored, failure = folder.try_restore(step, abstract_state, part)
        if restored is None:
            raise ValueError(f'{folder.path / str(step)} cannot be restored: {failure}')
        return restored

    def wait(self) -> None:
        """Waits until every checkpoint is on the disk; raises what went wrong."""
        self._latest.wait()
        self._best.wait()

    def close(self) -> None:
        """Waits for all writes, then lets go of the directories."""
        try:
            self.wait()
        finally:
            self._latest.close()
            self._best.close()

    def __enter__(self) -> 'Checkpoints':
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _find_best(self) -> tuple[float, int] | None:
        """(error, step) of the best checkpoint whose meta can be read.

        A run killed between writing the new best and removing the old leaves two.
        """
        found: list[tuple[float, int]] = []
        for step in self._best.steps():
            try:
                found.append((float(self._best.read_meta(step)['error']), step))
            except Exception as error:
                logging.warning(
                    'Skipped best checkpoint %s: %s',
                    self._best.path / str(step),
                    one_line(error),
                )
        return min(found, default=None)


def check_path(path: Path) -> None:
    r"""Refuses a path that Orbax takes for a pattern.

    It looks for its own files with `glob`, finds none under such a path, and writes
    checkpoints that lack their index and can never be restored.

    Raises:
      ValueError: one of `[ ] * ? \` is in the path.
    """
    if found := re.search(r'[\[\]*?\\]', str(path)):
        raise ValueError(
            f'--workdir={path}: no checkpoint can be restored from a path with '
            f'{found[0]!r} in it; take one without any of [ ] * ? \\'
        )
