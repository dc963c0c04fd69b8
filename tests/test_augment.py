"""Crops, mirrors and colour noise: distributions and published constants."""

import numpy as np
import pytest

from alexnet_jax import randomness
from alexnet_jax.data import augment


def test_crops_and_mirrors_are_uniform_over_all_2178():
    """A chi-square test at 1 in 1,000; the draws are fixed by their seed."""
    n = 100 * 2178
    rng = randomness.generator(0, 'augmentation', 0)
    rows, columns = augment.crop_offsets(rng, n, 256, 224).T
    mirrored = augment.mirrors(rng, n)
    counts = np.bincount((rows * 33 + columns) * 2 + mirrored)
    assert len(counts) == 33 * 33 * 2
    chi_square = ((counts - 100.0) ** 2 / 100.0).sum()
    # 2,177 degrees of freedom: mean 2,177, standard deviation 66; ± 3.3 of them.
    assert 2177 - 3.3 * 66 < chi_square < 2177 + 3.3 * 66


def test_colour_shift_has_the_covariance_of_the_pixels_times_the_scale_squared():
    components = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    std = np.array([50.0, 10.0, 2.0])
    shifts = augment.colour_shifts(
        randomness.generator(1, 'augmentation', 2), 200_000, components, std, 0.1
    )
    expected = components @ np.diag((0.1 * std) ** 2) @ components.T
    np.testing.assert_allclose(np.cov(shifts.T), expected, atol=0.25)
    assert np.abs(shifts.mean(0)).max() < 0.05


def test_centre_offset():
    assert augment.centre_offset(256, 224) == 16
    assert augment.centre_offset(32, 27) == 2


def test_ten_views_are_the_released_offsets_and_their_mirrors():
    offsets = [(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)]
    views = augment.ten_views(256, 224)
    assert sorted(views) == sorted((*o, m) for o in offsets for m in (False, True))
    assert len(set(views)) == 10


@pytest.mark.parametrize('constants', [augment.KRIZHEVSKY, augment.COMMUNITY])
def test_published_components_are_orthonormal_and_the_largest_is_brightness(constants):
    components, deviations = constants
    np.testing.assert_allclose(components.T @ components, np.eye(3), atol=2e-3)
    assert list(deviations) == sorted(deviations, reverse=True)
    assert (components[:, 0] < 0).all()  # all of R, G and B together


def test_magnitudes_of_the_three_forms_in_grey_levels():
    """The noise's deviation along the first component, in grey levels."""
    of = {
        (form, name): 0.1 * augment.colour_steps(form, constants[1])[0]
        for form in augment.COLOUR_FORMS
        for name, constants in (
            ('krizhevsky', augment.KRIZHEVSKY),
            ('community', augment.COMMUNITY),
        )
    }
    assert of['released', 'krizhevsky'] == pytest.approx(12.2, abs=0.05)
    assert of['paper', 'community'] == pytest.approx(5.5, abs=0.05)
    assert of['paper', 'krizhevsky'] == pytest.approx(5.8, abs=0.05)
    # Krizhevsky's variances over 255².
    variances = augment.colour_steps('paper', augment.KRIZHEVSKY[1]) / 255
    np.testing.assert_allclose(variances, [0.22807, 0.02116, 0.00598], atol=1e-5)


def test_the_deviation_form_moves_red_green_and_blue_by_7_grey_levels_and_a_half():
    components, deviations = augment.KRIZHEVSKY
    steps = augment.colour_steps('deviation', deviations)
    shifts = augment.colour_shifts(
        np.random.default_rng(0), 400_000, components, steps, 0.1
    )
    np.testing.assert_allclose(shifts.std(axis=0), [7.4, 7.2, 7.7], atol=0.05)


def test_only_the_released_form_divides_the_image():
    assert augment.colour_gain('deviation', 0.1) == 1.0
    assert augment.colour_gain('released', 0.1) == pytest.approx(1 / 1.1)
    assert augment.colour_gain('paper', 0.1) == 1.0
    assert augment.colour_gain('released', 0.0) == 1.0  # no noise, no division
