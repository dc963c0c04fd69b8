"""The pipelines that the benchmark compares do the same work; nothing is timed."""

import numpy as np
import pytest
from PIL import Image

from experiments.benchmark import input_rate, rounds
from experiments.benchmark.contenders import readers

CLASSES, EACH = ('hat', 'shoe'), 10


@pytest.fixture(scope='module')
def contenders(tmp_path_factory) -> dict[str, rounds.Contender]:
    """Every contender on 20 smooth pictures with repetitions of two batches of 8."""
    root = tmp_path_factory.mktemp('benchmark')
    rng = np.random.default_rng(0)
    for split in ('train', 'validation'):
        for name in CLASSES:
            folder = root / 'photographs' / split / name
            folder.mkdir(parents=True)
            for i in range(EACH):
                coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
                coarse.resize((256, 256)).save(folder / f'{i}.jpg', quality=95)
    return input_rate.contenders(
        root / 'photographs',
        root / 'prepared',
        batch_size=8,
        batches=dict.fromkeys(input_rate.BATCHES, 2),
    )


@pytest.fixture(autouse=True)
def without_rest(monkeypatch):
    monkeypatch.setattr(readers, 'REST', 0.0)


@pytest.mark.parametrize('encoding', ['raw', 'JPEG'])
def test_ours_give_batches_of_both_kinds(contenders, encoding):
    for what, size in (('training', 224), ('evaluation', 256)):
        settings = contenders[f'ours, {encoding}, {what}']
        batch = next(iter(readers.own_batches(settings)))
        assert batch['image'].shape == (8, size, size, 3)
        readers.own(settings)()


def test_tf_data_decodes_what_we_decode(contenders):
    settings = contenders['tf.data, evaluation']
    image, label = next(readers.tf_batches(settings))
    own = next(iter(readers.own_batches(contenders['ours, JPEG, evaluation'])))
    np.testing.assert_array_equal(label, own['label'])
    # Its inverse DCT is the fast one.
    assert np.abs(image.astype(int) - own['image']).mean() < 2
    image, _ = next(readers.tf_batches(contenders['tf.data, training']))
    assert image.shape == (8, 224, 224, 3) and image.dtype == np.uint8
    readers.tf_data(contenders['tf.data, training'])()


def test_accurate_tf_data_decodes_our_pixels(contenders):
    image, _ = next(readers.tf_batches(contenders['tf.data accurate, evaluation']))
    own = next(iter(readers.own_batches(contenders['ours, JPEG, evaluation'])))
    np.testing.assert_array_equal(image, own['image'])


def test_libjpeg_alone_decodes_as_many_as_are_asked_for(contenders):
    readers.decode(contenders['JPEG decoding'] | {'images': 30})()


@pytest.mark.peers
def test_pytorch_sees_the_same_photographs(contenders):
    pytest.importorskip('torch')
    folder = contenders['PyTorch, evaluation']['folder']
    own = next(iter(readers.own_batches(contenders['ours, JPEG, evaluation'])))
    whole, ten = (readers.Photographs(folder, crops) for crops in ('none', 'ten'))
    by_name = {path.name: i for i, path in enumerate(whole.paths)}
    for position in range(8):
        image, label = whole[by_name[f'{position:06}.jpg']]
        pixels = own['image'][position].transpose(2, 0, 1)
        np.testing.assert_array_equal(image.numpy(), pixels)
        assert label == own['label'][position]
        views, _ = ten[by_name[f'{position:06}.jpg']]
        assert views.shape == (10, 3, 224, 224)
        np.testing.assert_array_equal(views[4].numpy(), pixels[:, 16:240, 16:240])
        np.testing.assert_array_equal(views[9].numpy(), views[4].numpy()[..., ::-1])


@pytest.mark.peers
def test_pytorch_loads_in_its_workers(contenders):
    pytest.importorskip('torch')
    name = 'PyTorch, evaluation, TenCrop'
    measured = rounds.measure({name: contenders[name]}, 1)
    assert len(measured[name]['seconds']) == 1


def test_the_table_counts_only_what_was_made_meanwhile(contenders: dict[str, dict]):
    record = {
        name: {'settings': settings | {'batches': 10}, 'seconds': [2.0, 4.0, 1.0]}
        for name, settings in contenders.items()
    }
    record['ours, JPEG, training']['seconds'] = [1.0, 2.0, 0.5]
    rows = input_rate.report(record)[0]
    # (10 - 4) batches of 8 in one second, half of a second, two.
    assert ['ours, JPEG, training', '48 (24–96)', '2.00', '–', '2.00', '2.00'] in rows
    assert ['tf.data, training', '24 (12–48)', '–', '–', '–', '–'] in rows
    # Whole passes.
    assert ['PyTorch, evaluation', '40 (20–80)', '–', '–', '–', '–'] in rows
