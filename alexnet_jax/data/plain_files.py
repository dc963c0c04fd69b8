"""Mean image and colour components of a prepared set, for readers without this package.

This package writes them and never reads them.
"""

import io
import json

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from alexnet_jax.data import splits
from alexnet_jax.data.prepared import PreparedDataset
from alexnet_jax.system.files import write_atomically


def write(dataset: PreparedDataset, data: ConfigDict) -> None:
    """Writes those of the training split that are not there yet."""
    names = splits.base_splits(data.train_split)
    name = '+'.join(names)
    mean = io.BytesIO()
    np.save(mean, dataset.mean_image)
    picture = io.BytesIO()
    Image.fromarray(np.rint(dataset.mean_image).astype(np.uint8)).save(picture, 'PNG')
    pca = {
        'splits': names,
        'images': sum(dataset.split_sizes[split] for split in names),
        'mean_colour': dataset.mean_image.mean((0, 1), np.float64).tolist(),
        # RGB in grey levels of 0–255; the component of the largest variance first.
        'variances': (dataset.colour_std.astype(np.float64) ** 2).tolist(),
        'standard_deviations': dataset.colour_std.astype(np.float64).tolist(),
        'components': dataset.colour_components.T.astype(np.float64).tolist(),
    }
    for path, content in (
        (dataset.directory / f'mean_image-{name}.npy', mean.getvalue()),
        (dataset.directory / f'mean_image-{name}.png', picture.getvalue()),
        (
            dataset.directory / f'colour_pca-{name}.json',
            (json.dumps(pca, indent=1) + '\n').encode(),
        ),
    ):
        if not path.exists():
            write_atomically(path, content)
