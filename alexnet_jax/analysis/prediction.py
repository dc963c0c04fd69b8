"""Class probabilities of every example of a split, with one view or ten."""

import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from alexnet_jax import mesh as mesh_lib
from alexnet_jax import metrics
from alexnet_jax import step as step_lib
from alexnet_jax.analysis import views as views_lib
from alexnet_jax.data import augment, names, pipeline, prepare, prepared, splits
from alexnet_jax.run import trained

# Of config.data, what a network was trained for: it cannot see images in another way.
OF_THE_NETWORK = ('stored_size', 'crop_size', 'mean', 'scale')


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Averaged class probabilities of every example of a split, in order."""

    log_probabilities: np.ndarray  # f32[N, classes]
    labels: np.ndarray  # i32[N]

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """f32[N, classes]."""
        return np.exp(self.log_probabilities)


@dataclasses.dataclass(frozen=True)
class Split:
    """A prepared split whose labels are those of a network."""

    dataset: prepare.PreparedDataset
    data: ConfigDict
    instruction: str  # 'validation', 'train[45000:]'
    labels: np.ndarray  # i32[classes of the set]: the network's label of each

    def names(self) -> list[str]:
        """Of its examples, see `names.of_split`."""
        return names.of_split(self.dataset, self.data, self.instruction)

    def images(self, places: Sequence[int]) -> np.ndarray:
        """The stored squares of some examples, u8[N, S, S, 3]."""
        return pipeline.images_at(self.dataset, self.instruction, places)


def data_for(
    config: ConfigDict, split: str, changes: Mapping[str, Any], workdir: Path
) -> ConfigDict:
    """config.data to evaluate a split with.

    Args:
      config: of the run.
      split: 'validation', 'test' or 'train'.
      changes: what is other than in training, by the keys of config.data. With any,
        only the split itself is looked for, so that its data set need have no other.
      workdir: of the run, for messages.

    Raises:
      ValueError: there is no such split, or a change is of what the network was
        trained for.
    """
    for key in OF_THE_NETWORK:
        if key in changes and changes[key] != config.data[key]:
            raise ValueError(
                f'--config.data.{key}={changes[key]}: the network of {workdir} was '
                f'trained with {config.data[key]}, and sees no images otherwise'
            )
    data = config.data.copy_and_resolve_references()
    data.update(changes)
    name = data[f'{split}_split']
    if not name:
        raise ValueError(
            f'{workdir}: its config has no {split} split (config.data.{split}_split '
            f'is empty); name one with --config.data.{split}_split=…'
        )
    if changes:
        data.train_split, data.validation_split, data.test_split = name, '', ''
    return data


def open_split(
    network: trained.Trained, split: str, changes: Mapping[str, Any] | None = None
) -> Split:
    """Opens a split of the run's own data set, or of another.

    Args:
      network: from a workdir.
      split: 'validation', 'test' or 'train', as its config defines them.
      changes: see `data_for`.

    Raises:
      NoLabelsError: its examples have none.
      ValueError: there is no such split, its data are not there, or they have classes
        that the network does not know.
    """
    changes = changes or {}
    name = changes.get(f'{split}_split', network.config.data[f'{split}_split'])
    data = data_for(network.config, split, changes, network.workdir)
    if not prepared.find(data):  # before gigabytes are asked for in vain
        source = prepare.open_source(data, largest_gb=data.auto_prepare_gb)
        for base in splits.base_splits(name):
            next(iter(source.rows(base, 0, 1).read()), None)
    dataset = prepare.open_prepared(data)
    labels = matched_labels(dataset.class_names, network.class_names, data.source)
    return Split(dataset, data, name, labels)


def print_notes(*splits: Split) -> None:
    """Says once what is odd about images, such as a folder that was divided."""
    for note in dict.fromkeys(n for split in splits for n in split.dataset.notes):
        print(f'note: {note}', file=sys.stderr)


def matched_labels(
    theirs: Sequence[str], known: Sequence[str], source: str
) -> np.ndarray:
    """The label of each class of a data set in a network, found by its name, i32[n].

    Raises:
      ValueError: the network does not know a class.
    """
    if unknown := [name for name in theirs if name not in known]:
        more = f' and {len(unknown) - 5} more' if len(unknown) > 5 else ''
        raise ValueError(
            f'{source} has classes that the network does not know: '
            f'{", ".join(unknown[:5])}{more}; it knows {", ".join(known[:10])}'
            + (f' and {len(known) - 10} more' if len(known) > 10 else '')
        )
    return np.array([known.index(name) for name in theirs], np.int32)


def mesh_of_run(network: trained.Trained) -> Mesh:
    """The mesh on which the run evaluates here, or one that fits these devices."""
    config, towers = network.config, network.network.towers
    batch_size = config.train.batch_size
    for data, tower in ((config.mesh.data, config.mesh.tower), (0, 0)):
        try:
            return mesh_lib.make_mesh(
                data=data, tower=tower, towers=towers, batch_size=batch_size
            )
        except ValueError:  # fewer devices than in training
            continue
    return mesh_lib.make_mesh(data=1, tower=1, towers=towers, batch_size=1)


def predict(network: trained.Trained, split: Split, views: int) -> Predictions:
    """Predicts every example of a split once.

    Args:
      network: from a workdir.
      split: see `open_split`.
      views: 1, the centre crop, or 10.
    """
    config = network.config
    mesh = mesh_of_run(network)
    # As `validation` does it, so that the numbers are a run's own.
    batch_size = config.train.eval_batch_size
    batch_size += -batch_size % mesh.shape[mesh_lib.DATA]
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
    expected = pipeline.num_examples(split.dataset, split.instruction)
    log_probs, labels = [], []
    batches = pipeline.eval_batches(
        split.dataset, split.data, split=split.instruction, batch_size=batch_size
    )
    quiet = not sys.stderr.isatty() or expected < 2 * batch_size
    with tqdm(total=expected, unit=' images', disable=quiet, leave=False) as bar:
        for batch in batches:
            images = mesh_lib.put_batch({'image': batch['image']}, mesh, batch_size)
            kept = batch['mask'] > 0
            made = predict_step(params, images['image'], mean)
            log_probs.append(np.asarray(made)[kept])
            labels.append(split.labels[batch['label'][kept]])
            bar.update(int(kept.sum()))
    found = Predictions(np.concatenate(log_probs), np.concatenate(labels))
    if len(found.labels) != expected:
        raise RuntimeError(
            f'saw {len(found.labels)} of the {expected} of {split.instruction}'
        )
    return found


_rows = jax.jit(metrics.example_rows)


def rows(log_probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`metrics.example_rows` of any number of examples, f32[4, N]."""
    ones = jnp.ones(len(labels), jnp.float32)
    return np.asarray(_rows(jnp.asarray(log_probabilities), jnp.asarray(labels), ones))


def errors(log_probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Loss, top-1 and top-5 error of averaged probabilities, and the examples seen."""
    scalars = metrics.mean_of_rows(rows(log_probabilities, labels), '')
    named = {name.removeprefix('/'): value for name, value in scalars.items()}
    return named | {'examples': len(labels), 'classes': log_probabilities.shape[1]}
