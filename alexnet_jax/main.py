"""Trains a network, or goes on with a run.

    python -m alexnet_jax.main --config=NAME [--workdir=DIR] [--config.key=value …]

Start the same command again, and the run goes on from its latest checkpoint. With
--summary it prints what would be trained instead, and needs no data.
"""

import time
from pathlib import Path

_STARTED = time.perf_counter()

from alexnet_jax.system import huge_pages, tensorflow_log

tensorflow_log.silence()
if __name__ == '__main__':
    huge_pages.enable()

from absl import app, flags, logging

from alexnet_jax import summary
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


def main(argv: list[str]) -> None:
    """Makes of the flags a validated config and a folder; `train.py` does the rest."""
    command_line.reject_positionals(argv)
    config = command_line.checked_config(_CONFIG)
    if _SUMMARY.value:
        print(summary.text(config))
        return
    default = Path('runs', command_line.config_name(_CONFIG))
    workdir = command_line.local_path('workdir', _WORKDIR.value or default)
    logging.set_verbosity(logging.WARNING)

    from alexnet_jax import mesh, train
    from alexnet_jax.system import compilation_cache, processes

    with command_line.user_errors(), processes.lost_peers():
        wanted = (config.mesh.data or 1) * (config.mesh.tower or config.model.towers)
        _, count, _ = processes.who_am_i(config.distributed)
        mesh.request_cpu_devices(-(-wanted // max(count, 1)))
        compilation_cache.enable()
        processes.start(config.distributed)
        train.train_and_evaluate(
            config, workdir, stop_at_step=_STOP_AT_STEP.value, started=_STARTED
        )


if __name__ == '__main__':
    app.run(main, flags_parser=command_line.parse_flags)
