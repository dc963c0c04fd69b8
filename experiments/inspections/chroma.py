"""Figure 3: which tower's first kernels are the colourful ones, and is it chance?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import alexnet_jax
from alexnet_jax import train_state
from alexnet_jax.run import pictures

PERMUTATIONS = 10_000
COLOUR = 0.5  # of a kernel's energy, off grey: with more it is a colour kernel


def measure(workdirs: Sequence[Path], changes: Mapping[str, Any]) -> dict[str, float]:
    """Compares the towers' first kernels, and what these learned since their start.

    A net of one tower is split into halves at random.
    """
    del changes  # no data are read
    (workdir,) = workdirs
    net = alexnet_jax.load(workdir, checkpoint='latest')
    first = net.network.layers[0].name
    kernels = np.asarray(net.params[first]['kernel'])
    start = train_state.initial_params(net.network, net.config.seed)[first]['kernel']
    found = compare(*dealt(chroma(kernels), net.network.towers))
    learned = compare(*dealt(chroma(kernels - np.asarray(start)), net.network.towers))
    return found | {f'learned_{name}': value for name, value in learned.items()}


def dealt(shares: np.ndarray, towers: int) -> tuple[np.ndarray, int]:
    """Kernels by tower; those of a net of one tower in two halves, at random."""
    if towers > 1:
        return shares, towers
    return np.random.default_rng(0).permutation(shares), 2


def chroma(kernels: np.ndarray) -> np.ndarray:
    """The share of each kernel's energy that is off grey, f64[F].

    Args:
      kernels: f32[h, w, 3, F], RGB.
    """
    rgb = kernels.astype(np.float64)
    energy = np.square(rgb).sum(axis=(0, 1, 2))
    grey = np.square(rgb.sum(axis=2)).sum(axis=(0, 1)) / 3  # along (1, 1, 1) / √3
    # A kernel of zeros has no colour.
    return np.where(energy > 0, 1 - grey / np.where(energy > 0, energy, 1.0), 0.0)


def compare(shares: np.ndarray, towers: int) -> dict[str, float]:
    """The towers' mean chroma against that of kernels dealt at random.

    Args:
      shares: f64[F], the first tower's first.
      towers: of equal size.
    """
    means = shares.reshape(towers, -1).mean(axis=1)
    difference = _spread(means)
    rng = np.random.default_rng(0)
    dealt = rng.permuted(np.tile(shares, (PERMUTATIONS, 1)), axis=1)
    by_chance = _spread(dealt.reshape(PERMUTATIONS, towers, -1).mean(axis=2))
    # A sum's order changes its last digit; a tie must count all the same.
    as_far = np.count_nonzero(by_chance >= difference - 1e-12)
    p = (1 + as_far) / (1 + PERMUTATIONS)
    expected = float(by_chance.mean())
    largest = float(_spread(np.sort(shares).reshape(towers, -1).mean(axis=1)))
    found = {
        'mean': float(shares.mean()),
        'greyer': float(means.min()),
        'more_colourful': float(means.max()),
        'difference': float(difference),
        'expected': expected,
        'excess': float(difference) - expected,
        'p': p,
        'significant': float(p < 0.05),
    }
    if largest > expected:
        found['separation'] = (float(difference) - expected) / (largest - expected)
    colourful = (shares > COLOUR).reshape(towers, -1).sum(axis=1)
    if colourful.any():
        found['share_of_colour'] = float(colourful[means.argmax()] / colourful.sum())
    return found


def _spread(means: np.ndarray) -> np.ndarray:
    """The largest less the smallest along the last axis."""
    return means.max(axis=-1) - means.min(axis=-1)


def draw(workdir: Path, changes: Mapping[str, Any], path: Path) -> None:
    """Draws the first kernels, tower by tower, each from the greyest on."""
    del changes
    net = alexnet_jax.load(workdir, checkpoint='latest')
    kernels = np.asarray(net.params[net.network.layers[0].name]['kernel'])
    towers = np.split(kernels, net.network.towers, axis=3)
    ordered = [tower[..., np.argsort(chroma(tower))] for tower in towers]
    grid = pictures.kernel_grid(np.concatenate(ordered, axis=3), len(ordered))
    pictures.save_png(path, grid)
