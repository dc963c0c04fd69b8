"""The folder of half of the classes, and of few images of the others."""

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data import pipeline, prepare
from experiments import few_images


def test_halves_share_no_class_and_small_splits_hold_each_other(small, tmp_path):
    data, out = small.data, tmp_path / 'few'
    sizes = few_images.make(data, out, counts=(2, 5), seeds=2)
    base = prepare.open_prepared(data)
    even, odd = (set(base.class_names[rest::2]) for rest in (0, 1))
    found = {
        folder.name: {
            f'{path.parent.name}/{path.name}' for path in folder.glob('*/*.png')
        }
        for folder in out.iterdir()
    }
    assert {split: len(names) for split, names in found.items()} == sizes
    for split, names in found.items():
        classes = {name.split('/')[0] for name in names}
        assert classes == (even if split.startswith('pretrain') else odd)
        # Nothing that steers or reports is learnt from.
        place = split.removeprefix('pretrain_')
        place = 'train' if place.startswith(('pretrain', 'few')) else place
        assert all(name.split('/')[1].startswith(f'{place}_') for name in names)
    for seed in range(2):
        two, five = found[f'few2_s{seed}'], found[f'few5_s{seed}']
        assert len(two) == 2 * len(odd) and len(five) == 5 * len(odd) and two < five
    assert found['few5_s0'] != found['few5_s1']
    labels = [label for _, label in few_images.examples(base, data, data.train_split)]
    again = few_images.parts(np.array(labels), 'train', (5,), 1)['few5_s0']
    numbers = {
        int(name.split('_')[-1].removesuffix('.png')) for name in found['few5_s0']
    }
    assert numbers == set(again.tolist())
    for purpose in ('validation', 'test'):
        whole = len(found[purpose]) + len(found[f'pretrain_{purpose}'])
        assert whole == pipeline.num_examples(base, data[f'{purpose}_split'])


def test_an_image_keeps_its_pixels_and_a_run_reads_its_own_classes(small, tmp_path):
    data, out = small.data, tmp_path / 'few'
    few_images.make(data, out, counts=(2,), seeds=1)
    base = prepare.open_prepared(data)
    pixels = [image for image, _ in few_images.examples(base, data, data.train_split)]
    data.update(
        source='folder', data_dir=str(out), train_split='few2_s0',
        validation_split='validation', test_split='test', training_error_split='',
    )  # fmt: skip
    read = prepare.open_prepared(data)
    assert read.class_names == tuple(sorted(base.class_names[1::2]))
    assert pipeline.num_examples(read, 'few2_s0') == 2 * read.num_classes
    paths = sorted(out.glob('few2_s0/*/*.png'))
    stored = [p.tobytes() for p, _ in few_images.examples(read, data, 'few2_s0')]
    for path in paths:
        number = int(path.stem.split('_')[1])
        assert np.array_equal(np.asarray(Image.open(path)), pixels[number])
        assert pixels[number].tobytes() in stored


def test_what_it_cannot_make_is_one_line_and_leaves_nothing(small, tmp_path):
    with pytest.raises(ValueError, match='images; 100000 of each are wanted'):
        few_images.make(small.data, tmp_path / 'few', counts=(100_000,), seeds=1)
    assert not (tmp_path / 'few').exists()
    (tmp_path / 'few').mkdir()
    with pytest.raises(ValueError, match='is there already'):
        few_images.make(small.data, tmp_path / 'few')
