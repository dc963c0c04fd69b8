"""Checkpoints that are verified before they are believed.

The only module that imports Orbax. Orbax writes atomically but keeps no checksum of
the arrays: a flipped bit restores in silence. So a SHA-256 of every array is stored
beside them, and a step is restored only if all of them agree.

    <workdir>/checkpoints/<step>/    the latest `keep` steps
    <workdir>/best/<step>/           the step with the lowest validation error

Each holds the items `state` (the arrays) and `meta` (JSON: the digests and what the
caller wants to remember).
"""

import json
import math
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from alexnet_jax.run import digests
from alexnet_jax.system import processes

Json = dict[str, Any]


class Checkpoints:
    """The checkpoints of one workdir; a context manager that waits for its writes.

    Saving is asynchronous: an error of the disk is raised by the next `save` or by
    `close`. With `read_only` nothing on the disk is touched, so that a run still in
    progress can be evaluated.
    """

    def __init__(self, workdir: str | Path, *, keep: int = 3, read_only: bool = False):
        if keep < 1:
            raise ValueError(f'keep is {keep}; at least 1 checkpoint must be kept')
        root = Path(workdir).absolute()
        self._read_only = read_only
        self._latest = _Directory(root / 'checkpoints', keep, read_only)
        # Orbax's own best-of policies rest on a metrics file that, once damaged, makes
        # the whole directory unreadable. Here `meta` holds the error instead, and
        # save_best removes what it replaces.
        self._best = _Directory(root / 'best', None, read_only)
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
        older = self._best.steps()
        if step in older:  # run again from an older step, with other numbers
            self._best.delete([step])
        self._best.save(step, state, meta, error=error)
        self._best.wait()
        # Only now: at every instant one complete best checkpoint is on the disk.
        self._best.delete([s for s in older if s != step])
        self._best_found = error, step
        return True

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
                    _one_line(error),
                )
        return min(found, default=None)


class _Directory:
    """One directory of steps, opened and created only when it is needed."""

    def __init__(self, path: Path, keep: int | None, read_only: bool):
        self.path = path
        self._keep = keep
        self._read_only = read_only
        self._opened: ocp.CheckpointManager | None = None

    def _manager(self) -> ocp.CheckpointManager:
        if self._opened is None:
            policy = None if self._keep is None else _latest_n(self._keep)
            verbosity = logging.get_verbosity()
            if self._read_only:  # Orbax warns of what was asked for
                logging.set_verbosity(logging.ERROR)
            self._opened = ocp.CheckpointManager(
                self.path,
                item_names=('state', 'meta'),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=policy,
                    read_only=self._read_only,
                    create=not self._read_only,
                    cleanup_tmp_directories=not self._read_only,
                ),
            )
            logging.set_verbosity(verbosity)
        return self._opened

    def steps(self) -> list[int]:
        if self._opened is None and not self.path.is_dir():
            return []
        return sorted(self._manager().all_steps())

    def save(self, step: int, state: Any, meta: Json, **more: Any) -> None:
        content = {'arrays': digests.describe(state), 'meta': meta, **more}
        content = json.loads(json.dumps(content))  # tuples are lists from here on
        digest = digests.json_digest(content)
        # Orbax's decision policies would refuse a step below the newest; `save` has
        # decided by now.
        saved = self._manager().save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                meta=ocp.args.JsonSave({**content, 'sha256': digest}),
            ),
            force=True,
        )
        if not saved:
            raise RuntimeError(f'Orbax did not save step {step} in {self.path}')

    def read_meta(self, step: int) -> Json:
        """The verified JSON of a step, read by this process alone.

        Not through Orbax, whose restoring waits for the other processes: one of them
        may fail to read, or not read at all.
        """
        file = self.path / str(step) / 'meta' / 'metadata'  # where JsonSave puts it
        content = json.loads(file.read_text(encoding='utf-8'))
        if content.pop('sha256', None) != digests.json_digest(content):
            raise ValueError('the digest of its meta does not agree')
        return content

    def try_restore(
        self, step: int, abstract_state: Any, part: bool
    ) -> tuple[tuple[Any, Json] | None, str]:
        """((state, meta), '') of a step that verifies, else (None, the reason)."""
        read, failure = None, ''
        try:
            read = self._read(step, abstract_state, part)
        except Exception as error:
            # Damage comes as KeyError, ValueError, JSONDecodeError, FileNotFoundError
            # or a bare Exception, according to the file that is hit.
            failure = _one_line(error)
        # Before the digests, which all processes must work out together. (Where one of
        # them misses files, Orbax itself waits for it in vain, and the run ends there.)
        if processes.agree(read is None) or read is None:
            return None, failure or 'another process cannot read it'
        state, content = read
        found, stored = digests.describe(state), content['arrays']
        wrong = [path for path in found if found[path] != stored[path]]
        if wrong:
            return None, f'the digests of {", ".join(wrong[:3])} do not agree'
        return (state, content['meta']), ''

    def _read(self, step: int, abstract_state: Any, part: bool) -> tuple[Any, Json]:
        content = self.read_meta(step)
        wanted, stored = digests.abstract_leaves(abstract_state), content['arrays']
        if part:
            stored = {path: stored[path] for path in stored if path in wanted}
        if difference := digests.difference(wanted, stored):
            raise ValueError(difference)
        restore = (
            ocp.args.PyTreeRestore(
                abstract_state,
                ocp.checkpoint_utils.construct_restore_args(abstract_state),
                partial_restore=True,
            )
            if part
            else ocp.args.StandardRestore(abstract_state)
        )
        args = ocp.args.Composite(state=restore)
        return self._manager().restore(step, args=args)['state'], content

    def delete(self, steps: list[int]) -> None:
        for step in steps:
            self._manager().delete(step)

    def set_aside(self, steps: list[int]) -> None:
        """Renames steps so that they are no longer steps; their files are kept."""
        if not steps:
            return
        if jax.process_index() == 0:
            for step in steps:
                target, n = self.path / f'{step}.damaged', 1
                while target.exists():
                    n += 1
                    target = self.path / f'{step}.damaged{n}'
                (self.path / str(step)).rename(target)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices('damaged checkpoints set aside')
        self._manager().reload()

    def wait(self) -> None:
        if self._opened is not None:
            self._opened.wait_until_finished()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _latest_n(keep: int) -> checkpoint_managers.PreservationPolicy:
    return checkpoint_managers.LatestN(keep)


def _one_line(error: Exception) -> str:
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text[:200]}'
