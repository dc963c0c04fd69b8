"""From a config to what trains: one way for runs, experiments and tests."""

import dataclasses

import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from alexnet_jax import mesh as mesh_lib
from alexnet_jax import optimizer, step, train_state
from alexnet_jax.model import Network, network_from_config
from alexnet_jax.run import progress


@dataclasses.dataclass(frozen=True)
class Training:
    """All that a config says of the training itself; nothing is compiled yet."""

    network: Network
    mesh: Mesh
    length: progress.RunLength
    tx: optax.GradientTransformationExtraArgs
    learning_rate: optimizer.LearningRate
    train_step: step.TrainStep
    abstract_state: train_state.TrainState
    seed: int

    def first_state(self) -> train_state.TrainState:
        """Draws the initial parameters, each device making only its own part."""
        return train_state.create_train_state(
            self.network, self.tx, self.mesh, self.seed
        )


def training(config: ConfigDict, *, num_classes: int, num_examples: int) -> Training:
    """Builds what a validated config describes.

    Args:
      config: its `data` part is read for the crop's size and the pixels' scale alone.
      num_classes: of the data set.
      num_examples: of the training split; with the batch size it makes an epoch.

    Raises:
      ValueError: the table makes no network, or the mesh does not fit the devices.
    """
    network = network_from_config(config.model, config.data.crop_size, num_classes)
    mesh = mesh_lib.make_mesh(
        data=config.mesh.data,
        tower=config.mesh.tower,
        towers=network.towers,
        batch_size=config.train.batch_size,
    )
    length = progress.run_length(
        num_examples=num_examples,
        batch_size=config.train.batch_size,
        epochs=config.train.epochs,
        steps=config.train.steps,
        eval_every_epochs=config.train.eval_every_epochs,
        schedule_epochs=config.train.schedule_epochs,
    )
    tx = optimizer.create_optimizer(
        config.optimizer, steps_per_epoch=length.steps_per_schedule_epoch
    )
    learning_rate = optimizer.create_learning_rate_schedule(
        config.optimizer,
        steps_per_epoch=length.steps_per_schedule_epoch,
        total_steps=length.total_steps,
    )
    train_step = step.make_train_step(
        network, tx, learning_rate, mesh, config.seed, config.data.scale
    )
    return Training(
        network=network,
        mesh=mesh,
        length=length,
        tx=tx,
        learning_rate=learning_rate,
        train_step=train_step,
        abstract_state=train_state.abstract_train_state(network, tx, mesh),
        seed=config.seed,
    )
