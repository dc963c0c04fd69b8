"""One folder of checkpoints: saving and restoring steps, whole and verified.

The only module that imports Orbax. Orbax writes atomically but keeps no checksum of
the arrays: a flipped bit restores in silence. So a SHA-256 of every array is stored
beside them, and a step is restored only if all of them agree. A step holds the items
`state` (the arrays) and `meta` (JSON: the digests and what the caller remembers).
"""

import contextlib
import json
import logging as std_logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from alexnet_jax.run import digests
from alexnet_jax.system import files, processes

Json = dict[str, Any]


def _is_said_once(record: std_logging.LogRecord) -> bool:
    """Drops what Orbax's threads log with a traceback and then raise as well."""
    return not (record.exc_info and 'orbax' in Path(record.pathname).parts)


logging.get_absl_logger().addFilter(_is_said_once)
_plain_hook = sys.unraisablehook


def _without_coroutines(unraisable: Any) -> None:
    """Drops what Orbax leaves behind when a file cannot be read.

    Its coroutines, and the callbacks of tensorstore, find their event loop closed, at
    any later time and in any thread.
    """
    code = getattr(unraisable.object, 'cr_code', None)
    is_orbax = code is not None and 'orbax' in Path(code.co_filename).parts
    if not is_orbax and 'Event loop is closed' not in str(unraisable.exc_value):
        _plain_hook(unraisable)


sys.unraisablehook = _without_coroutines


def _is_not_tensorstores(record: std_logging.LogRecord) -> bool:
    """Drops what asyncio logs of the arrays that failed besides the one we report.

    Orbax reads all arrays at once and raises the first failure; the others' futures
    are never asked, which asyncio logs with a traceback when they are collected.
    """
    raised = record.exc_info[1] if record.exc_info else None
    return 'tensorstore' not in str(raised)


std_logging.getLogger('asyncio').addFilter(_is_not_tensorstores)

# Python warns of a coroutine that Orbax never began. We have none of our own.
warnings.filterwarnings('ignore', 'coroutine .* was never awaited', RuntimeWarning)


class CheckpointFolder:
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
        """Those that are there, verified or not, in order."""
        if self._opened is None and not self.path.is_dir():
            return []
        return sorted(self._manager().all_steps())

    def save(self, step: int, state: Any, meta: Json, **more: Any) -> None:
        """Saves a step in the background, with `more` beside its meta."""
        content = {'arrays': digests.describe(state), 'meta': meta, **more}
        content = json.loads(json.dumps(content))  # tuples are lists from here on
        digest = digests.json_digest(content)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            meta=ocp.args.JsonSave({**content, 'sha256': digest}),
        )
        # Orbax's decision policies would refuse a step below the newest; `save` has
        # decided by now.
        with self._writing():
            saved = self._manager().save(step, args=args, force=True)
        if not saved:
            raise RuntimeError(f'Orbax did not save step {step} in {self.path}')

    def read_meta(self, step: int) -> Json:
        """The verified JSON of a step, read by this process alone.

        Not through Orbax, whose restoring waits for the other processes: one of them
        may fail to read, or not read at all.
        """
        return _read_meta(self.path / str(step))

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
            failure = one_line(error)
        # Before the digests, which all processes must work out together.
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
        handler = ocp.PyTreeCheckpointHandler if part else ocp.StandardCheckpointHandler
        # By this process alone: the manager's restoring waits for the others, of which
        # one may fail to read its part.
        index = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=index, active_processes={index}
        )
        with ocp.Checkpointer(
            handler(multiprocessing_options=alone), multiprocessing_options=alone
        ) as reader:
            state = reader.restore(self.path / str(step) / 'state', args=restore)
        return state, content

    def delete(self, steps: list[int]) -> None:
        """Removes steps."""
        for step in steps:
            self._manager().delete(step)

    def set_aside(self, steps: list[int], why: str = 'damaged') -> None:
        """Renames steps so that they are no longer steps; their files are kept."""
        if not steps:
            return
        if jax.process_index() == 0:
            for step in steps:
                target, n = self.path / f'{step}.{why}', 1
                while target.exists():
                    n += 1
                    target = self.path / f'{step}.{why}{n}'
                (self.path / str(step)).rename(target)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices('checkpoints set aside')
        self._manager().reload()

    def wait(self) -> None:
        """Waits until every step is on the disk; raises what went wrong."""
        if self._opened is not None:
            with self._writing():
                self._opened.wait_until_finished()

    def close(self) -> None:
        """Waits, then lets go of the folder."""
        if self._opened is not None:
            with self._writing():
                self._opened.close()
            self._opened = None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Makes one line of what a full disk raises, which is of several kinds."""
        try:
            yield
        except Exception as error:
            raise ValueError(
                f'no checkpoint could be written to {self.path}: '
                f'{files.why_not_written(error)}; mend that and start the same command '
                'again, it goes on from the latest one'
            ) from error


def newest_meta(workdir: Path) -> Json | None:
    """What the newest readable checkpoint remembers besides arrays; None without one.

    Reads files alone, so that a folder can be looked at before anything is opened.
    """
    for kind in ('checkpoints', 'best'):
        for step in reversed(saved_steps(workdir, kind)):
            with contextlib.suppress(Exception):  # as in try_restore
                return _read_meta(workdir / kind / str(step))['meta']
    return None


def saved_steps(workdir: Path, kind: str) -> list[int]:
    """The steps in `checkpoints` or `best` of a workdir, readable or not."""
    try:
        names = [path.name for path in (workdir / kind).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(name) for name in names if name.isdecimal())


def _read_meta(step: Path) -> Json:
    file = step / 'meta' / 'metadata'  # where JsonSave puts it
    content = json.loads(file.read_text(encoding='utf-8'))
    if content.pop('sha256', None) != digests.json_digest(content):
        raise ValueError('the digest of its meta does not agree')
    return content


def _latest_n(keep: int) -> checkpoint_managers.PreservationPolicy:
    return checkpoint_managers.LatestN(keep)


def one_line(error: Exception) -> str:
    """The kind of an error and the beginning of what it says."""
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text[:200]}'
