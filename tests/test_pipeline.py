"""Batch k is a function of (seed, k), every example is seen once per epoch."""

import hashlib
import itertools
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from alexnet_jax.configs import paper
from alexnet_jax.data import augment, pipeline, prepare

SIZE, CROP, TRAIN, VALIDATION = 8, 6, 20, 7


@pytest.fixture(scope='module', params=['raw', 'jpeg'])
def prepared(request, tmp_path_factory) -> tuple[prepare.PreparedDataset, ConfigDict]:
    """A set whose image i is of one colour, (10 i, 255 - 10 i, split)."""
    root = tmp_path_factory.mktemp('set')
    for split, count in (('train', TRAIN), ('validation', VALIDATION)):
        for i in range(count):
            directory = root / 'photos' / split / f'class{i % 3}'
            directory.mkdir(parents=True, exist_ok=True)
            colour = (10 * i, 255 - 10 * i, 0)
            image = Image.new('RGB', (SIZE, SIZE), colour)
            image.save(directory / f'{i:03}.png')
    data = paper.get_config().data
    data.update(
        source='folder',
        data_dir=str(root / 'photos'),
        prepared_dir=str(root / 'prepared'),
        stored_size=SIZE,
        crop_size=CROP,
        encoding=request.param,
    )
    return prepare.open_prepared(data), data


def batches(
    prepared, count: int, *, first_step: int = 0, seed: int = 0, **kwargs
) -> list:
    dataset, data = prepared
    kwargs = {'batch_size': 8} | kwargs
    stream = pipeline.train_batches(
        dataset, data, seed=seed, first_step=first_step, **kwargs
    )
    return list(itertools.islice(stream, count))


def identities(batch: dict[str, np.ndarray]) -> list[int]:
    """Which image each row is, by its colour."""
    return np.rint(batch['image'][:, 0, 0, 0] / 10).astype(int).tolist()


def image_hash(image: int) -> bytes:
    """MD5 of an image's `<class>/<file>` in `prepared`."""
    return hashlib.md5(b'class%d/%03d.png' % (image % 3, image)).digest()


def by_hash(images: Iterable[int]) -> list[int]:
    return sorted(images, key=image_hash)


def assert_same(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(second[key], value)


def test_shapes_and_types(prepared):
    (batch,) = batches(prepared, 1)
    assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
        'image': ((8, CROP, CROP, 3), 'uint8'),
        'label': ((8,), 'int32'),
        'colour_shift': ((8, 3), 'float32'),
        'gain': ((8,), 'float32'),
        'corner': ((8, 2), 'int32'),
        'mirrored': ((8,), 'bool'),
    }


def test_labels_belong_to_their_images(prepared):
    for batch in batches(prepared, 3):
        assert batch['label'].tolist() == [i % 3 for i in identities(batch)]


def test_every_epoch_is_another_permutation(prepared):
    seen = [
        i for batch in batches(prepared, 8, batch_size=5) for i in identities(batch)
    ]
    first, second = seen[:TRAIN], seen[TRAIN:]
    assert sorted(first) == sorted(second) == list(range(TRAIN))
    assert first != second and first != sorted(first)


def test_batches_run_over_the_end_of_an_epoch(prepared):
    seen = [i for batch in batches(prepared, 5) for i in identities(batch)]  # 2 epochs
    assert sorted(seen) == sorted(2 * list(range(TRAIN)))


@pytest.mark.parametrize('first_step', [1, 2, 3, 7])
def test_restart_at_k_gives_batch_k(prepared, first_step):
    whole = batches(prepared, first_step + 2)
    for first, second in zip(
        whole[first_step:], batches(prepared, 2, first_step=first_step), strict=True
    ):
        assert_same(first, second)


def test_seed_changes_order_and_augmentation(prepared):
    (a,), (b,) = batches(prepared, 1, seed=0), batches(prepared, 1, seed=1)
    assert identities(a) != identities(b)
    assert (a['colour_shift'] != b['colour_shift']).any(axis=1).all()


@pytest.mark.parametrize('processes', [2, 4])
def test_rows_partition_the_global_batch(prepared, processes):
    whole = batches(prepared, 3)
    size = 8 // processes
    parts = [
        batches(prepared, 3, rows=slice(p * size, (p + 1) * size))
        for p in range(processes)
    ]
    for step, batch in enumerate(whole):
        joined = {k: np.concatenate([part[step][k] for part in parts]) for k in batch}
        assert_same(batch, joined)


@pytest.mark.parametrize('threads', [1, 4])
def test_threads_do_not_change_the_batches(prepared, threads):
    dataset, data = prepared
    other = data.copy_and_resolve_references()
    other.threads = threads
    for a, b in zip(batches(prepared, 4), batches((dataset, other), 4), strict=True):
        assert_same(a, b)


def test_slices_of_a_split(prepared):
    dataset, data = prepared
    below_half = sum(image_hash(i)[0] < 128 for i in range(TRAIN))
    assert 0 < below_half < TRAIN
    sizes = {
        'train': TRAIN,
        'train[:5]': 5,
        'train[-3:]': 3,
        'train[50%:]': TRAIN - below_half,
        'train[-50%:]': TRAIN - below_half,
        'train[:100%]': TRAIN,
        'train[:50%]+validation': below_half + VALIDATION,
        'train[2:4]+validation[1:]': 2 + VALIDATION - 1,
        'all': TRAIN + VALIDATION,
    }
    assert {split: pipeline.num_examples(dataset, split) for split in sizes} == sizes
    sliced = data.copy_and_resolve_references()
    sliced.train_split = 'train[:5]'
    seen = {i for b in batches((dataset, sliced), 3) for i in identities(b)}
    assert seen == set(by_hash(range(TRAIN))[:5])


def test_parts_of_an_instruction_are_read_in_their_order(prepared):
    dataset, data = prepared
    instruction = 'train[-2:]+validation[1:3]+train[:1]'
    (batch,) = pipeline.eval_batches(dataset, data, split=instruction, batch_size=5)
    train, validation = by_hash(range(TRAIN)), by_hash(range(VALIDATION))
    expected = [*train[-2:], *validation[1:3], train[0]]
    assert identities(batch) == expected


@pytest.mark.parametrize(
    'split',
    [
        'test',
        'train[:x]',
        'train[5:5]',
        'train[60%:40%]',
        'train[:101%]',
        'test[:5%]',
        'train[:999]',
        '',
    ],
)
def test_bad_split_lists_what_there_is(prepared, split):
    with pytest.raises(ValueError, match='split') as error:
        pipeline.num_examples(prepared[0], split)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('batch_size', [1, 3, 7, 10])
def test_evaluation_sees_every_example_once_in_order(prepared, batch_size):
    dataset, data = prepared
    stream = pipeline.eval_batches(
        dataset, data, split='validation', batch_size=batch_size
    )
    seen = []
    for batch in stream:
        assert batch['image'].shape == (batch_size, SIZE, SIZE, 3)
        assert batch['mask'].dtype == np.float32 and batch['label'].dtype == np.int32
        real = batch['mask'] == 1
        assert not batch['image'][~real].any() and not batch['label'][~real].any()
        seen += [i for i, r in zip(identities(batch), real, strict=True) if r]
    assert seen == by_hash(range(VALIDATION))


def test_evaluation_rows_partition_the_batches(prepared):
    dataset, data = prepared
    whole, *parts = (
        list(
            pipeline.eval_batches(
                dataset, data, split='validation', batch_size=4, rows=rows
            )
        )
        for rows in (slice(None), slice(0, 2), slice(2, 4))
    )
    for step, batch in enumerate(whole):
        joined = {k: np.concatenate([part[step][k] for part in parts]) for k in batch}
        assert_same(batch, joined)


def test_crop_and_mirror_are_windows_of_the_image(tmp_path):
    """A picture that names its pixels shows every window and both directions."""
    x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    picture = np.stack([20 * x, 20 * y, 0 * x], -1).astype(np.uint8)
    for path in ('train/a', 'train/b'):
        (tmp_path / 'f' / path).mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / 'f' / path / '0.png')
    data = paper.get_config().data
    data.update(source='folder', data_dir=str(tmp_path / 'f'), encoding='raw')
    data.update(prepared_dir=str(tmp_path / 'p'), stored_size=SIZE, crop_size=CROP)
    data.update(validation_split='')
    found = set()
    dataset = prepare.open_prepared(data)
    for batch in batches((dataset, data), 20, batch_size=16):
        for image in batch['image']:
            left, right = image[0, 0, 0] // 20, image[0, -1, 0] // 20
            top = image[0, 0, 1] // 20
            window = picture[top : top + CROP, min(left, right) :][:, :CROP]
            expected = window if left < right else window[:, ::-1]
            np.testing.assert_array_equal(image, expected)
            found.add((int(top), int(min(left, right)), bool(left > right)))
    assert len(found) == (SIZE - CROP + 1) ** 2 * 2
    data.update(random_crop=False, mirror=False, colour_std=0.0)
    for batch in batches((dataset, data), 2):
        for image in batch['image']:
            np.testing.assert_array_equal(image, picture[1:-1, 1:-1])
        assert not batch['colour_shift'].any()


def pipeline_batches(prepared, count: int, **values) -> list:
    dataset, data = prepared
    data = data.copy_and_resolve_references()
    data.update(values)
    return batches((dataset, data), count)


def test_a_chunk_shares_its_crop_and_mirror_and_an_image_has_its_own(prepared):
    def draws(chunk: int) -> np.ndarray:
        (batch,) = pipeline_batches(prepared, 1, crop_chunk=chunk)
        return np.column_stack([batch['corner'], batch['mirrored']])

    chunks = draws(4)
    assert (chunks[:4] == chunks[0]).all() and (chunks[4:] == chunks[4]).all()
    assert len(np.unique(draws(1), axis=0)) > 2


def test_corner_and_mirror_say_what_was_done(prepared):
    batch = pipeline_batches(prepared, 1)[0]
    assert batch['corner'].min() >= 0 and batch['corner'].max() <= SIZE - CROP
    still = pipeline_batches(prepared, 1, random_crop=False, mirror=False)[0]
    assert (still['corner'] == (SIZE - CROP) // 2).all()
    assert not still['mirrored'].any()


def test_colour_noise_and_its_gain_end_at_the_epoch(prepared):
    # 20 images in batches of 8: epoch 2 begins with batch 5.
    of = pipeline_batches(prepared, 7, colour_form='released', colour_off_epoch=2.0)
    for step, batch in enumerate(of):
        assert bool(batch['colour_shift'].any()) == (step < 5)
        np.testing.assert_allclose(batch['gain'], 1 / 1.1 if step < 5 else 1.0)


def test_colour_noise_ends_at_the_schedules_epoch(prepared):
    dataset, data = prepared
    data = data.copy_and_resolve_references()
    data.colour_off_epoch = 2.0
    of = pipeline.train_batches(
        dataset, data, batch_size=8, seed=0, first_step=0, steps_per_epoch=1.5
    )
    noisy = [bool(batch['colour_shift'].any()) for batch in itertools.islice(of, 5)]
    assert noisy == [True, True, True, False, False]


def test_without_reshuffling_every_epoch_has_the_order_of_the_first(prepared):
    dataset, data = prepared
    data = data.copy_and_resolve_references()
    data.reshuffle = False
    of = batches((dataset, data), 8, batch_size=5)
    seen = [i for batch in of for i in identities(batch)]
    assert seen[:TRAIN] == seen[TRAIN:]
    assert seen[:TRAIN] != sorted(seen[:TRAIN])


def test_mean_is_the_centre_of_the_mean_image_or_all_of_it_or_its_colour(prepared):
    dataset, data = prepared
    data = data.copy_and_resolve_references()
    centre = augment.mean_to_subtract(dataset.mean_image, data)
    np.testing.assert_array_equal(centre, dataset.mean_image[1:-1, 1:-1])
    data.mean = 'crop'
    whole = augment.mean_to_subtract(dataset.mean_image, data)
    np.testing.assert_array_equal(whole, dataset.mean_image[None])
    data.mean = 'colour'
    colour = augment.mean_to_subtract(dataset.mean_image, data)
    assert colour.shape == centre.shape and np.ptp(colour, (0, 1)).max() == 0
    np.testing.assert_allclose(colour[0, 0], dataset.mean_image.mean((0, 1)), 1e-6)


@settings(deadline=None, derandomize=True)
@given(
    image=st.binary(min_size=1, max_size=70_000),
    label=st.integers(-(2**63), 2**63 - 1),
)
def test_records_are_parsed_as_protocol_buffers_are(image, label):
    example = tf_example_pb2.Example()
    feature = example.features.feature
    feature['image'].bytes_list.value.append(image)
    feature['label'].int64_list.value.append(label)
    found, number = pipeline.parse(example.SerializeToString())
    assert (bytes(found), number) == (image, label)


def test_a_record_of_another_form_is_refused():
    example = tf_example_pb2.Example()
    feature = example.features.feature
    feature['image'].bytes_list.value.extend([b'one', b'two'])
    feature['label'].int64_list.value.append(1)
    with pytest.raises(ValueError, match='unpack'):
        pipeline.parse(example.SerializeToString())
