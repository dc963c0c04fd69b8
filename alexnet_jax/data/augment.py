"""What is random about a training batch, as pure functions of (seed, step).

Everything is drawn for the whole global batch, so the row at position r is the same
whatever the mesh, the number of processes and the rows a process asks for.
"""

import numpy as np


def generator(seed: int, step: int) -> np.random.Generator:
    """The generator of one step's draws."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, step])))


def crop_offsets(
    rng: np.random.Generator, n: int, stored: int, crop: int
) -> np.ndarray:
    """Top-left corners int64[n,2], uniform over all (stored - crop + 1)² of them.

    The paper counts 32² offsets between 256 and 224 pixels (§4.1); there are 33².
    """
    return rng.integers(0, stored - crop + 1, (n, 2))


def mirrors(rng: np.random.Generator, n: int) -> np.ndarray:
    """bool[n], true for the images to be mirrored left to right: one in two."""
    return rng.random(n) < 0.5


def colour_shifts(
    rng: np.random.Generator,
    n: int,
    components: np.ndarray,
    component_std: np.ndarray,
    scale: float,
) -> np.ndarray:
    """Shifts float32[n,3] of R, G and B: the sum over i of pᵢ σᵢ N(0, scale) (§4.1).

    Args:
      rng: generator of the step.
      n: number of images.
      components: unit vectors p of the PCA of RGB as columns, [3,3].
      component_std: standard deviation σ of the pixels along each of them, [3].
      scale: standard deviation of the noise in units of σ; 0.1 in the paper.
    """
    noise = rng.standard_normal((n, 3)) * scale * component_std
    return (noise @ components.T).astype(np.float32)


def centre_offset(stored: int, crop: int) -> int:
    """Top and left of the central crop."""
    return (stored - crop) // 2
