"""Class probabilities of every example of a split, with one view or ten."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from alexnet_jax import mesh as mesh_lib
from alexnet_jax import metrics
from alexnet_jax import step as step_lib
from alexnet_jax.analysis import views as views_lib
from alexnet_jax.data import augment, pipeline, prepare
from alexnet_jax.run import trained


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Averaged class probabilities of every example of a split, in order."""

    probabilities: np.ndarray  # f32[N, classes]
    labels: np.ndarray  # i32[N]


def predict(network: trained.Trained, split: str, views: int) -> Predictions:
    """Predicts every example of a split once.

    Args:
      network: from a workdir; its config says where the data are.
      split: 'validation', 'test' or 'train', as that config defines them.
      views: 1, the centre crop, or 10.

    Raises:
      ValueError: the config has no such split, or its data are not there.
    """
    config = network.config
    name = config.data[f'{split}_split']
    if not name:
        raise ValueError(
            f'{network.workdir}: its config has no {split} split '
            f'(config.data.{split}_split is empty)'
        )
    dataset = prepare.open_prepared(config.data)
    batch_size = config.train.eval_batch_size
    mesh = mesh_lib.make_mesh(
        data=0, tower=0, towers=network.network.towers, batch_size=batch_size
    )
    predict_step = step_lib.make_predict_step(
        network.network,
        mesh,
        views_lib.views(config.data, views),
        config.data.scale,
    )
    params = mesh_lib.put_params(network.params, network.network, mesh)
    mean = mesh_lib.put_everywhere(
        augment.mean_to_subtract(network.mean_image, config.data), mesh
    )
    probabilities, labels = [], []
    batches = pipeline.eval_batches(
        dataset, config.data, split=name, batch_size=batch_size
    )
    for batch in batches:
        images = mesh_lib.put_batch({'image': batch['image']}, mesh, batch_size)
        kept = batch['mask'] > 0
        log_probs = np.asarray(predict_step(params, images['image'], mean))
        probabilities.append(np.exp(log_probs[kept]))
        labels.append(batch['label'][kept])
    found = Predictions(np.concatenate(probabilities), np.concatenate(labels))
    expected = pipeline.num_examples(dataset, name)
    if len(found.labels) != expected:
        raise RuntimeError(f'saw {len(found.labels)} of the {expected} of {name}')
    return found


def errors(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Loss, top-1 and top-5 error of averaged probabilities, and the examples seen."""
    ones = jnp.ones(len(labels), jnp.float32)
    # 32-bit sums of 50,000 examples would lose digits.
    parts = np.array_split(np.arange(len(labels)), max(1, len(labels) // 1000))
    sums = [
        metrics.example_sums(
            jnp.log(probabilities[part]), jnp.asarray(labels[part]), ones[: len(part)]
        )
        for part in parts
    ]
    scalars = metrics.mean([np.asarray(s) for s in sums], '')
    named = {name.removeprefix('/'): value for name, value in scalars.items()}
    return named | {'examples': len(labels), 'classes': probabilities.shape[1]}
