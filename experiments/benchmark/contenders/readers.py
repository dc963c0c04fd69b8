"""Input pipelines as contenders: photographs to batches of bytes on the host.

Settings: `batch_size`; `batches`, those of a repetition; `training`, random crops and
mirrors without end, or else all of the stored images in order; and where the images
are, see each function. Pipelines without end keep `AHEAD` batches ready, which the
first of a repetition find made: `input_rate.py` does not count as many. The others make
whole passes. Every repetition first rests for `REST` seconds, not counted either, while
the one before fills its buffers.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmark import worker
from experiments.benchmark.contenders import ours

AHEAD = 4
REST = 1.5
STORED, CROP = 256, 224


def repetition(
    settings: worker.Settings, passes: Callable[[], Iterator[Any]]
) -> worker.Repetition:
    """Takes the next batches from one pass after the other."""
    batches = itertools.chain.from_iterable(passes() for _ in itertools.count())

    def run() -> None:
        time.sleep(REST)
        for _ in range(settings['batches']):
            next(batches)

    return run


def own(settings: worker.Settings) -> worker.Repetition:
    """`alexnet_jax.data.pipeline`, of the set that `config` and `overrides` name."""
    return repetition(settings, lambda: own_batches(settings))


def own_batches(settings: worker.Settings) -> Iterator[dict[str, np.ndarray]]:
    """The batches of `own`: one pass, or without end in training."""
    from alexnet_jax.data import pipeline, prepare

    data = ours.load_config(settings).data
    data.prefetch_batches = AHEAD
    dataset = prepare.open_prepared(data)
    batch_size = settings['batch_size']
    if settings['training']:
        return pipeline.train_batches(
            dataset, data, batch_size=batch_size, seed=0, first_step=0
        )
    return pipeline.eval_batches(
        dataset, data, split=data.train_split, batch_size=batch_size
    )


def tf_data(settings: worker.Settings) -> worker.Repetition:
    """tf.data on the same examples in `tfrecord`, decoding what the crop needs.

    `dct_method` is of its inverse cosine transform: '' is its default, a fast one;
    'INTEGER_ACCURATE' is that of every other contender.
    """
    return repetition(settings, lambda: tf_batches(settings))  # one pass, without end


def tf_batches(settings: worker.Settings) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of `tf_data`: images u8[B, S, S, 3] and labels i64[B]."""
    import tensorflow as tf

    features = {
        'image': tf.io.FixedLenFeature([], tf.string),
        'label': tf.io.FixedLenFeature([], tf.int64),
    }

    def decode(record: Any) -> tuple[Any, Any]:
        example = tf.io.parse_single_example(record, features)
        encoded = example['image']
        if settings['training']:
            corner = tf.random.uniform([2], 0, STORED - CROP + 1, tf.int32)
            window = tf.concat([corner, [CROP, CROP]], 0)
            image = tf.io.decode_and_crop_jpeg(
                encoded, window, channels=3, dct_method=settings['dct_method']
            )
            image = tf.image.random_flip_left_right(image)
        else:
            image = tf.io.decode_jpeg(
                encoded, channels=3, dct_method=settings['dct_method']
            )
        return image, example['label']

    records = tf.data.TFRecordDataset(settings['tfrecord'])
    if settings['training']:
        records = records.shuffle(1024)
    decoded = records.repeat().map(
        decode,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=not settings['training'],
    )
    return iter(
        decoded.batch(settings['batch_size']).prefetch(AHEAD).as_numpy_iterator()
    )


class Photographs:
    """The photographs in `<folder>/<class>/*.jpg` with torchvision's transforms.

    Pillow decodes; `crops` is 'random' (RandomCrop, RandomHorizontalFlip), 'ten'
    (TenCrop) or 'none', each with PILToTensor.
    """

    def __init__(self, folder: str, crops: str):
        self.paths = sorted(Path(folder).glob('*/*.jpg'))
        classes = sorted({path.parent for path in self.paths})
        self.labels = [classes.index(path.parent) for path in self.paths]
        self.crops = crops

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        import torch
        from PIL import Image, ImageOps

        with open(self.paths[index], 'rb') as file:
            image = Image.open(file).convert('RGB')
        if self.crops == 'none':
            return to_tensor(image), self.labels[index]
        end = STORED - CROP
        if self.crops == 'random':
            top, left = torch.randint(0, end + 1, (2,)).tolist()
            image = image.crop((left, top, left + CROP, top + CROP))
            if torch.rand(1) < 0.5:
                image = ImageOps.mirror(image)
            return to_tensor(image), self.labels[index]
        corners = [(0, 0), (end, 0), (0, end), (end, end), (end // 2, end // 2)]
        views = [
            to_tensor(whole.crop((left, top, left + CROP, top + CROP)))
            for whole in (image, ImageOps.mirror(image))
            for left, top in corners
        ]
        return torch.stack(views), self.labels[index]


def to_tensor(image: Any) -> Any:
    """torchvision's PILToTensor: uint8[3,H,W]."""
    import torch

    pixels = torch.from_numpy(np.array(image, copy=True))
    return pixels.permute(2, 0, 1).contiguous()


def pytorch(settings: worker.Settings) -> worker.Repetition:
    """DataLoader with `workers` processes on the same JPEG files in `folder`."""
    loader = torch_loader(settings)
    return repetition(settings, lambda: iter(loader))


def torch_loader(settings: worker.Settings) -> Any:
    """The DataLoader of `pytorch`."""
    from torch.utils.data import DataLoader

    workers = settings['workers']
    photographs: Any = Photographs(settings['folder'], settings['crops'])
    if not settings['training']:  # then a repetition is one pass
        photographs.paths = photographs.paths[
            : settings['batches'] * settings['batch_size']
        ]
    return DataLoader(
        photographs,
        batch_size=settings['batch_size'],
        shuffle=settings['training'],
        drop_last=True,
        num_workers=workers,
        prefetch_factor=AHEAD // workers,
        persistent_workers=True,
    )


def decode(settings: worker.Settings) -> worker.Repetition:
    """libjpeg-turbo alone: `images` of `folder`, in memory, a thread per core."""
    from concurrent.futures import ThreadPoolExecutor

    import simplejpeg

    paths = sorted(Path(settings['folder']).glob('*/*.jpg'))
    paths = list(itertools.islice(itertools.cycle(paths), settings['images']))
    files = [path.read_bytes() for path in paths]
    threads = len(settings['cores'])
    pool = ThreadPoolExecutor(threads)

    def part(start: int) -> None:
        buffer = np.empty((STORED, STORED, 3), np.uint8)
        for encoded in files[start::threads]:
            simplejpeg.decode_jpeg(encoded, 'RGB', buffer=buffer)

    def run() -> None:
        time.sleep(REST)
        list(pool.map(part, range(threads)))

    return run
