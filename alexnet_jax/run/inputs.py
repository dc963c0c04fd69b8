"""What a trained network needs of its data set besides its weights.

    <workdir>/dataset.json      class names in the order of their labels; a digest
    <workdir>/mean_image.npy    float32[S, S, 3], RGB, 0–255, of the stored squares

Both are written when training starts. With the config beside them a workdir predicts
where the data set is not.
"""

import dataclasses
import hashlib
import io
import sys
from pathlib import Path

import numpy as np

from alexnet_jax.system import files, processes

FILES = ('mean_image.npy', 'dataset.json')


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Class names, by label, and the mean image f32[S, S, 3] of the training split."""

    class_names: tuple[str, ...]
    mean_image: np.ndarray
    fingerprint: str = ''  # of the data set's content; '' where it is not known


def write(workdir: Path, inputs: Inputs) -> None:
    """Writes both files; `dataset.json` last, so that where it is, both are."""
    mean = io.BytesIO()
    np.save(mean, inputs.mean_image)
    files.write_atomically(workdir / 'mean_image.npy', mean.getvalue())
    files.write_json(
        workdir / 'dataset.json',
        {
            'class_names': list(inputs.class_names),
            'mean_image_sha256': hashlib.sha256(mean.getvalue()).hexdigest(),
            'fingerprint': inputs.fingerprint,
        },
    )


def read(workdir: Path) -> Inputs:
    """Reads both files.

    Raises:
      ValueError: one is missing or damaged.
    """
    if not (workdir / 'dataset.json').is_file():
        raise ValueError(
            f'{workdir} has no dataset.json, which holds the class names: the run was '
            'begun by an earlier version. Start its training command again where its '
            'data set is; a finished run only adds the file'
        )
    try:
        content = files.read_json(workdir / 'dataset.json')
        encoded = (workdir / 'mean_image.npy').read_bytes()
        if hashlib.sha256(encoded).hexdigest() != content['mean_image_sha256']:
            raise ValueError('the digest of mean_image.npy does not agree')
        names = tuple(map(str, content['class_names']))
        mean = np.load(io.BytesIO(encoded), allow_pickle=False)
        return Inputs(names, mean, str(content.get('fingerprint', '')))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{workdir}: dataset.json and mean_image.npy, the class names and the mean '
            f'image, cannot be read ({error}); delete both and start the training '
            'command again where the data set is, or copy them again'
        ) from None


def of_run(workdir: Path, inputs: Inputs) -> Inputs:
    """The inputs with which a run began, or those of its data set where it begins.

    A run has one mean from its start to its end, whatever becomes of the data set.
    Where its files are others by now, a line says so.

    Raises:
      ValueError: the data set now has other classes.
    """
    if not (workdir / 'dataset.json').is_file():
        return inputs
    begun = read(workdir)
    if begun.class_names != inputs.class_names:
        differing = sorted(set(begun.class_names) ^ set(inputs.class_names))
        what = (
            f'only one has {", ".join(differing[:5])}' if differing else 'their order'
        )
        raise ValueError(
            f'--workdir={workdir} holds a run of {len(begun.class_names)} classes, and '
            f'its data set now has {len(inputs.class_names)} ({what}); take another '
            '--workdir, or the data set with which it began'
        )
    before, now = begun.fingerprint, inputs.fingerprint
    if before and now and before != now and processes.is_first():
        print(
            f'warning: the data set is not the one with which {workdir} began (its '
            f'fingerprint was {before[:16]} and is {now[:16]}): files were added, '
            'removed or changed, and the run goes on with those that are there',
            file=sys.stderr,
            flush=True,
        )
    return begun
