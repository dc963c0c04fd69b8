"""Records to batches: a pure function of (seed, step), read and decoded in threads.

Batch k holds the examples k·B … (k+1)·B - 1 of an endless row of reshuffled epochs
and is computed from (seed, k) alone. So a resumed run needs one integer, and each of
several processes can take its rows of the same global batch.
"""

import bisect
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import grain
import numpy as np
import simplejpeg
from array_record.python import array_record_data_source
from ml_collections import ConfigDict

from alexnet_jax import randomness
from alexnet_jax.data import augment, metadata, prepared, splits
from alexnet_jax.data.prepared import PreparedDataset

Batch = dict[str, np.ndarray]


def train_batches(
    dataset: PreparedDataset,
    data: ConfigDict,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    rows: slice = slice(None),
    steps_per_epoch: float | None = None,
) -> Iterator[Batch]:
    """Batches first_step, first_step + 1, … without end.

    Args:
      dataset: the prepared set.
      data: config.data.
      batch_size: images of the global batch B.
      seed: of the order and of the augmentation.
      first_step: index of the first batch that comes out.
      rows: the rows of the global batch that this process wants.
      steps_per_epoch: of the epoch that `data.colour_off_epoch` counts in; None for
        the data's.

    Yields:
      image uint8[B,crop,crop,3], label int32[B], colour_shift float32[B,3], gain
      float32[B], corner int32[B,2], mirrored bool[B].
    """
    read = _reader(dataset, data.train_split)
    size = num_examples(dataset, data.train_split)
    stored, crop = dataset.stored_size, data.crop_size
    components, deviations = {
        'data': (dataset.colour_components, dataset.colour_std),
        'krizhevsky': augment.KRIZHEVSKY,
        'community': augment.COMMUNITY,
    }[data.colour_constants]
    colour_steps = augment.colour_steps(data.colour_form, deviations)
    colour_gain = augment.colour_gain(data.colour_form, data.colour_std)
    colour_off = data.colour_off_epoch * (steps_per_epoch or size / batch_size)

    def load(step: int, indices: np.ndarray) -> Batch:
        rng = randomness.generator(seed, 'augmentation', step)
        corners = augment.crop_offsets(rng, batch_size, stored, crop)
        if not data.random_crop:
            corners = np.full_like(corners, augment.centre_offset(stored, crop))
        flips = augment.mirrors(rng, batch_size) & data.mirror
        corners = augment.per_chunk(corners, batch_size, data.crop_chunk)[rows]
        flips = augment.per_chunk(flips, batch_size, data.crop_chunk)[rows]
        shifts = augment.colour_shifts(
            rng, batch_size, components, colour_steps, data.colour_std
        )
        gains = np.full(batch_size, colour_gain, np.float32)
        if 0 < colour_off <= step:
            shifts, gains = np.zeros_like(shifts), np.ones_like(gains)
        indices = indices[rows]
        image = np.empty((len(indices), crop, crop, 3), np.uint8)
        label = np.empty(len(indices), np.int32)
        buffer = np.empty((stored, stored, 3), np.uint8)
        for i, (top, left) in enumerate(corners.tolist()):
            pixels, label[i] = read(indices[i], buffer)
            window = pixels[top : top + crop, left : left + crop]
            if flips[i]:
                # In one copy, whose inner loop would have length 3, five times slower.
                for channel in range(3):
                    image[i, ..., channel] = window[:, ::-1, channel]
            else:
                image[i] = window
        return {
            'image': image,
            'label': label,
            'colour_shift': shifts[rows],
            'gain': gains[rows],
            'corner': corners.astype(np.int32),
            'mirrored': flips,
        }

    order = grain.MapDataset.range(size).seed(randomness.number(seed, 'order'))
    order = order.shuffle()
    order = order.repeat(reseed_each_epoch=data.reshuffle).batch(batch_size)
    batches = iter(order.map_with_index(load).to_iter_dataset(_read_options(data)))
    batches.set_state({'next_index': first_step})
    return batches


def eval_batches(
    dataset: PreparedDataset,
    data: ConfigDict,
    *,
    split: str,
    batch_size: int,
    rows: slice = slice(None),
) -> Iterator[Batch]:
    """Every example of a split once and in order; the last batch is filled with zeros.

    Args:
      dataset: the prepared set.
      data: config.data.
      split: 'validation', 'train[45000:]', …
      batch_size: images of the global batch B.
      rows: the rows of the global batch that this process wants.

    Yields:
      image uint8[B,stored,stored,3], label int32[B], mask float32[B], 0 for filling.
    """
    read = _reader(dataset, split)
    size = num_examples(dataset, split)

    def load(step: int) -> Batch:
        start = step * batch_size
        indices = np.arange(start, start + batch_size)[rows]
        mask = indices < size
        shape = (len(indices), dataset.stored_size, dataset.stored_size, 3)
        image = np.zeros(shape, np.uint8)
        label = np.zeros(len(indices), np.int32)
        for i, index in enumerate(indices[mask]):
            # Decoded in place already, if it is a JPEG; then this copies nothing.
            image[i], label[i] = read(index, image[i])
        return {'image': image, 'label': label, 'mask': mask.astype(np.float32)}

    batches = grain.MapDataset.range(-(-size // batch_size)).map(load)
    return iter(batches.to_iter_dataset(_read_options(data)))


def images_at(
    dataset: PreparedDataset, split: str, places: Sequence[int]
) -> np.ndarray:
    """The stored squares at some places of a split, u8[N, stored, stored, 3]."""
    read = _reader(dataset, split)
    side = dataset.stored_size
    found = np.empty((len(places), side, side, 3), np.uint8)
    for row, place in enumerate(places):
        found[row], _ = read(place, found[row])
    return found


def num_examples(dataset: PreparedDataset, split: str) -> int:
    """Examples of a split of the prepared set; it may have a slice: 'train[:90%]'."""
    return sum(r.stop - r.start for r in read_ranges(dataset, split))


def read_ranges(dataset: PreparedDataset, split: str) -> tuple[splits.Range, ...]:
    """What a split instruction reads of the prepared set (`splits.ranges`).

    Raises:
      ValueError: it is not an instruction, or reads nothing.
    """
    known = metadata.splits_of(dataset.directory, dataset.records)
    hashes = prepared.arrays_of(dataset, prepared.hashes)
    try:
        found = splits.ranges(split, known, hashes)
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(
            f'cannot read the split {split!r}; prepared are '
            f'{", ".join(f"{s} ({n:,})" for s, n in dataset.split_sizes.items())}, '
            "each with slices like 'train[:90%]'"
        ) from error
    if not any(r.stop > r.start for r in found):
        raise ValueError(f'the split {split!r} of {dataset.directory} has no examples')
    return found


def _reader(
    dataset: PreparedDataset, split: str
) -> Callable[[int, np.ndarray], tuple[np.ndarray, int]]:
    """A function from an index and a buffer to pixels uint8[S,S,3] and label.

    A JPEG is decoded into the buffer; raw pixels are those of the record itself.
    """
    record = record_reader(dataset, split)

    def read(index: int, buffer: np.ndarray) -> tuple[np.ndarray, int]:
        # One at a time: its memory is used again for the next and stays in the cache,
        # where many at once (`__getitems__`) would be fresh pages, two times slower.
        try:
            return decode(record(index), dataset, buffer)
        except Exception as error:  # of array_record, the parser or the decoder
            raise prepared.DamagedError(
                f'example {index} of {split} in {dataset.directory} cannot be read '
                f'({" ".join(str(error).split())[:200]}); {dataset.again}'
            ) from error

    return read


def decode(
    record: bytes, dataset: PreparedDataset, buffer: np.ndarray
) -> tuple[np.ndarray, int]:
    """The pixels uint8[S,S,3] and the label of a record; see `_reader`.

    Raises:
      Exception: of any kind; it is not a record of this set.
    """
    shape = (dataset.stored_size, dataset.stored_size, 3)
    encoded, label = parse(record)
    if not 0 <= label < dataset.num_classes:
        raise ValueError(f'label {label} of {dataset.num_classes} classes')
    if dataset.encoding == 'raw':
        return np.frombuffer(encoded, np.uint8).reshape(shape), label
    pixels = simplejpeg.decode_jpeg(encoded, 'RGB', buffer=buffer)
    if pixels.shape != shape:
        raise ValueError(f'an image of {pixels.shape} instead of {shape}')
    return pixels, label


def record_reader(dataset: PreparedDataset, split: str) -> Callable[[int], bytes]:
    """A function from an index within a split instruction to the record."""
    ranges = read_ranges(dataset, split)
    stops = np.cumsum([r.stop - r.start for r in ranges]).tolist()
    records = {
        r.split: array_record_data_source.ArrayRecordDataSource(
            [
                _Whole(str(dataset.directory / shard.name), *[shard.records] * 2)
                for shard in dataset.records[r.split]
            ]
        )
        for r in ranges
    }
    # Of a set whose records lie in the order in which they were generated.
    permutations = prepared.arrays_of(dataset, prepared.permutation)

    def record(index: int) -> bytes:
        part = bisect.bisect_right(stops, index)
        name, _, stop = ranges[part]
        position = stop - (stops[part] - index)
        if name in permutations:
            position = int(permutations[name][position])
        return records[name][position]

    return record


@dataclasses.dataclass
class _Whole:
    """All records of a file: an array_record FileInstruction, which opens no file."""

    filename: str
    take: int
    examples_in_shard: int
    skip: int = 0


def parse(record: bytes) -> tuple[memoryview, int]:
    """The image bytes, not copied, and the label of a serialised tf.train.Example.

    The class of protocol buffers copies the image, 196 kB if it is raw.

    Raises:
      ValueError: the record has not one image and one label.
    """
    contents = {}
    (features,) = _fields(record, (0, len(record)))  # Example.features
    for entry in _fields(record, features):  # of the map Features.feature
        key, feature = _fields(record, entry)
        (values,) = _fields(record, feature)  # Feature.bytes_list or int64_list
        (contents[record[slice(*key)]],) = _fields(record, values)
    label, _ = _varint(record, contents[b'label'][0])
    signed = label - (label >> 63 << 64)
    return memoryview(record)[slice(*contents[b'image'])], signed


def _fields(record: bytes, message: tuple[int, int]) -> list[tuple[int, int]]:
    """Where the fields of a message, all of them with a length, start and stop."""
    found = []
    start, stop = message
    while start < stop:
        if record[start] & 7 != 2:
            raise ValueError('a record has a field without a length')
        length, start = _varint(record, start + 1)
        found.append((start, start + length))
        start += length
    return found


def _varint(record: bytes, start: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    number = shift = 0
    while True:
        byte = record[start]
        number |= (byte & 127) << shift
        start += 1
        if byte < 128:
            return number, start
        shift += 7


def _read_options(data: ConfigDict) -> grain.ReadOptions:
    return grain.ReadOptions(
        num_threads=data.threads, prefetch_buffer_size=data.prefetch_batches
    )
