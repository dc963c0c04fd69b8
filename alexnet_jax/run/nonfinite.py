"""A loss that is not finite: what is kept of it, and the policy of the config.

    <workdir>/nonfinite/<step>/     a workdir of its own, for `main --replay`
      config.json                   of the run
      cause.json                    the step, the norms, how often the rate was cut
      checkpoints/<step>/           the latest one before it, or none

From the checkpoint on the steps up to the failing one are the run's, bit for bit, so
that nothing has to be kept during a run.
"""

import os
import shutil
from pathlib import Path

from ml_collections import ConfigDict

from alexnet_jax.run import checkpoint_folder, inputs
from alexnet_jax.system import files, processes


class NonFiniteLossError(Exception):
    """The loss of a step is NaN or infinite."""

    def __init__(self, step: int, text: str):
        super().__init__(text)
        self.step = step


def cuts_so_far(workdir: Path) -> int:
    """How often the rate of the run in a workdir was cut, by its newest checkpoint."""
    meta = checkpoint_folder.newest_meta(workdir) or {}
    return processes.from_first(meta.get('rate_cuts', 0))


def with_cut_rate(config: ConfigDict, cuts: int) -> ConfigDict:
    """The config with the learning rate of a run that was cut so often."""
    if not cuts:
        return config
    changed = ConfigDict(config.to_dict())
    changed.optimizer.learning_rate *= config.train.nonfinite.factor**cuts
    return changed


def next_cut(
    workdir: Path, error: NonFiniteLossError, cuts: int, config: ConfigDict
) -> int:
    """Cuts the rate once more, with a line that says so.

    Raises:
      SystemExit: it was cut as often as the config allows.
    """
    dump = dump_folder(workdir, error.step)
    again = f'main --replay={dump} runs that step again'
    allowed, factor = config.train.nonfinite.retries, config.train.nonfinite.factor
    steps = checkpoint_folder.saved_steps(workdir, 'checkpoints')
    latest = f'the checkpoint of step {steps[-1]}' if steps else 'the beginning'
    if cuts >= allowed:
        tried = f' after {cuts} cuts of the rate' if cuts else ''
        raise SystemExit(
            f'error: {error}{tried}; nothing of it was saved, {again}; the run stands '
            f'at {latest}, and --config.train.nonfinite.retries={allowed + 1} goes '
            f'back there with {factor:g} of the rate'
        )
    print(
        f'{error}; {again}; going back to {latest} with {factor:g} of the rate '
        f'({cuts + 1} of {allowed})',
        flush=True,
    )
    return cuts + 1


def dump_folder(workdir: Path, step: int) -> Path:
    """Where the dump of a step lies."""
    return workdir / 'nonfinite' / str(step)


def write_dump(workdir: Path, error: NonFiniteLossError, cuts: int) -> None:
    """Leaves what `replay` needs; the checkpoint's files are shared where they can be.

    A step that failed before is dumped anew: the rate may have been another.
    """
    if not processes.is_first():
        return
    folder = dump_folder(workdir, error.step)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ('config.json', *inputs.FILES):
        shutil.copy(workdir / name, folder)
    steps = checkpoint_folder.saved_steps(workdir, 'checkpoints')
    for step in steps[-1:]:
        name = Path('checkpoints', str(step))
        shutil.copytree(workdir / name, folder / name, copy_function=_link)
    cause = {'step': error.step, 'rate_cuts': cuts, 'cause': str(error)}
    files.write_json(folder / 'cause.json', cause)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # this file system has none
        shutil.copy2(source, target)
