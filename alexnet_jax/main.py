"""Trains a network, or goes on with a run.

    python -m alexnet_jax.main --config=NAME [--workdir=DIR] [--config.key=value …]

Start the same command again, and the run goes on from its latest checkpoint. With
--summary it prints what would be trained instead, and needs no data. --replay=DIR runs
a step again whose loss was not finite.
"""

import time
from pathlib import Path

_STARTED = time.perf_counter()

from alexnet_jax.system import huge_pages, signals, tensorflow_log

tensorflow_log.silence()
if __name__ == '__main__':
    huge_pages.enable()
    signals.listen(goes_on=True)

from absl import app, flags, logging
from ml_collections import ConfigDict

from alexnet_jax import memory, summary
from alexnet_jax.system import command_line

_CONFIG = command_line.define_config()
_WORKDIR = flags.DEFINE_string(
    'workdir', None, "Where the run is kept; default: runs/<the config's name>."
)
_STOP_AT_STEP = flags.DEFINE_integer(
    'stop_at_step',
    None,
    'Stop, checkpointed, after this step; the same command without it goes on.',
    lower_bound=1,
)
_SUMMARY = flags.DEFINE_bool(
    'summary',
    False,
    'Print the parameters, shapes, multiply-adds, memory and steps, and stop.',
)
_REPLAY = flags.DEFINE_string(
    'replay',
    None,
    'Run the step again that this dump is of, <workdir>/nonfinite/<step>; its config '
    'is in it.',
)


def main(argv: list[str]) -> None:
    """Makes of the flags a validated config and a folder; `train.py` does the rest."""
    command_line.reject_positionals(argv)
    logging.set_verbosity(logging.WARNING)
    if _REPLAY.value:
        _replay(Path(_REPLAY.value))
        return
    config = command_line.checked_config(_CONFIG)
    if _SUMMARY.value:
        with command_line.user_errors():
            print(summary.text(config))
            print(memory.lines(memory.of_config(config), None, 'on one device'))
        return
    default = Path('runs', command_line.config_name(_CONFIG))
    workdir = command_line.local_path('workdir', _WORKDIR.value or default)

    from alexnet_jax import train
    from alexnet_jax.system import processes

    with command_line.user_errors(), processes.lost_peers():
        _, count, _ = processes.who_am_i(config.distributed)
        _take_devices(config, max(count, 1))
        processes.start(config.distributed)
        train.train_and_evaluate(
            config, workdir, stop_at_step=_STOP_AT_STEP.value, started=_STARTED
        )


def _replay(folder: Path) -> None:
    from alexnet_jax import replay

    with command_line.user_errors():
        dump = replay.read(folder)
        _take_devices(dump.config, 1)
        print(replay.replay(dump))


def _take_devices(config: ConfigDict, processes: int) -> None:
    """Call it before the first use of jax."""
    from alexnet_jax import mesh
    from alexnet_jax.system import compilation_cache

    wanted = (config.mesh.data or 1) * (config.mesh.tower or config.model.towers)
    mesh.request_cpu_devices(-(-wanted // processes))
    compilation_cache.enable()


if __name__ == '__main__':
    app.run(main, flags_parser=command_line.parse_flags)
