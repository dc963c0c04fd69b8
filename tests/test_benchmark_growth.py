"""The fits and the generated sets of the growth benchmark; nothing is timed."""

import itertools

import numpy as np
import pytest

from experiments.benchmark import fits, generated_set, input_growth, step_growth
from experiments.benchmark.contenders import generated


def test_a_line_is_recovered():
    x = np.array([32, 64, 128, 256, 512])
    exact = fits.fit_line(x, 0.25 + 0.015 * x)
    assert exact.slope == pytest.approx(0.015)
    assert exact.intercept == pytest.approx(0.25)
    assert exact.r2 == pytest.approx(1)
    square = fits.fit_line(x, x**2)
    assert square.r2 == pytest.approx(np.corrcoef(x, x**2)[0, 1] ** 2)


@pytest.mark.parametrize('power', [0.0, 0.5, 1.0])
def test_an_exponent_is_recovered(power):
    x = np.array(input_growth.RECORDS)
    assert fits.fit_exponent(x, 3e-3 * x**power) == pytest.approx(power)


def test_work_and_parameters_are_those_of_the_network():
    gflop, parameters = step_growth.network_size(1, 1.0)
    assert parameters == 60_965_224
    assert gflop == pytest.approx(4.1, rel=0.05)
    assert step_growth.network_size(64, 1.0) == (pytest.approx(64 * gflop), parameters)


def test_a_generated_set_gives_what_was_generated(tmp_path, monkeypatch):
    monkeypatch.setattr(generated, 'BATCH', 125)
    directory = generated_set.generate(tmp_path, 1000)
    assert generated_set.generate(tmp_path, 1000) == directory  # is there already
    assert [path.name for path in tmp_path.iterdir()] == ['1000']
    count = generated_set.shard_count(1000)
    assert len(list(directory.glob('*.array_record*'))) == count == 7
    written = [
        generated_set.contents(i, 1000 * (i + 1) // count - 1000 * i // count)
        for i in range(count)
    ]
    settings = {'directory': str(directory), 'examples': 1000, 'first_step': 0}
    epoch = list(itertools.islice(generated.batches(settings), 8))
    read = [
        (np.where(b['mirrored'][:, None, None, None], i[:, :, ::-1], i), b['label'])
        for b in epoch
        for i in [b['image']]
    ]
    assert rows(read) == rows(written)


def rows(parts: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[bytes, int]]:
    """Pixels and labels in an order of their own."""
    return sorted(
        (image.tobytes(), int(label))
        for images, labels in parts
        for image, label in zip(images, labels, strict=True)
    )


@pytest.mark.parametrize('make', [generated.first_batch, generated.next_batches])
def test_the_contenders_run(make, tmp_path, monkeypatch):
    monkeypatch.setattr(generated, 'REST', 0.0)
    directory = generated_set.generate(tmp_path, 1000)
    settings = {'directory': str(directory), 'examples': 1000, 'batches': 3}
    make(settings | {'first_step': 10**6})()
