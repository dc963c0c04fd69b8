"""A workdir with no more than prediction needs: weights, config, classes, mean."""

from pathlib import Path

import jax.numpy as jnp

from alexnet_jax.run import checkpoint, config_file, inputs, trained
from alexnet_jax.run import workdir as workdir_lib
from alexnet_jax.system import files


def export(workdir: Path, output: Path, *, which: str = 'best') -> int:
    """Writes a checkpoint's weights, and what they need, into a new folder.

    The state of the update, half of a checkpoint's bytes, stays behind, and so do the
    metrics; prediction, evaluation, features and `config.init` work with what is left.

    Args:
      workdir: of a run.
      output: made; it must not be there, or be empty.
      which: 'best', by validation error, or 'latest'.

    Returns:
      The bytes of the new folder.

    Raises:
      ValueError: the run cannot be read, or `output` is no new folder.
    """
    with workdir_lib.new(output, '--output') as output:
        net = trained.load(workdir, which=which)
        with checkpoint.Checkpoints(output) as checkpoints:
            checkpoints.save_best(
                net.step,
                {'step': jnp.asarray(net.step, jnp.int32), 'params': net.params},
                {'metrics': dict(net.metrics)},
                net.metrics.get('val/top1_error', checkpoint.NOT_MEASURED),
            )
        inputs.write(output, inputs.Inputs(net.class_names, net.mean_image))
        files.write_json(
            output / workdir_lib.EXPORTED,
            {'workdir': str(net.workdir), 'checkpoint': which, 'step': net.step},
        )
        # Last: a folder with a config is whole.
        files.write_json(output / 'config.json', config_file.to_json(net.config))
    return sum(f.stat().st_size for f in output.rglob('*') if f.is_file())
