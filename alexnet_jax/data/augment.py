"""What a network is shown of stored squares: random crops in training, views after it.

What is random about a training batch is a pure function of (seed, step).

Everything is drawn for the whole global batch, so the row at position r is the same
whatever the mesh, the number of processes and the rows a process asks for.
"""

import numpy as np
from ml_collections import ConfigDict


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


def per_chunk(draws: np.ndarray, n: int, chunk: int) -> np.ndarray:
    """Repeats each draw for `chunk` rows in a row: n rows of ceil(n / chunk) draws.

    The released pipeline drew crop and mirror once for 32 images
    (convdata_jpeg.py, `crop_chunk`).
    """
    return np.repeat(draws[: -(-n // chunk)], chunk, axis=0)[:n]


# Unit vectors p as columns and standard deviations σ in grey levels, RGB, largest
# first: Krizhevsky's own, as shipped with cuda-convnet2 (make-data/input_meta) …
KRIZHEVSKY = (
    np.array(
        [
            [-0.56351045, -0.71257945, 0.41795513],
            [-0.57618440, -0.02354167, -0.81698062],
            [-0.59200296, 0.70119634, 0.39731118],
        ]
    ),
    np.array([121.78006099, 37.09388853, 19.72083305]),
)
# … and those that most ports share (fb.resnet.torch), whose eigenvalues are of pixels
# between 0 and 1.
COMMUNITY = (
    np.array(
        [
            [-0.5675, 0.7192, 0.4009],
            [-0.5808, -0.0045, -0.8140],
            [-0.5836, -0.6948, 0.4203],
        ]
    ),
    255.0 * np.sqrt([0.2175, 0.0188, 0.0045]),
)
COLOUR_FORMS = ('paper', 'deviation', 'released')
COLOUR_CONSTANTS = ('data', 'krizhevsky', 'community')


def colour_steps(form: str, component_std: np.ndarray) -> np.ndarray:
    """Grey levels, f64[3], along each component that a draw of 1 stands for.

    `'paper'`: the eigenvalue λ, as §4.1 says. On 0–255 pixels its 0.1 λ would be 1,483
    grey levels; the text is possible on pixels between 0 and 1, where λ = (σ / 255)².
    `'deviation'` and `'released'`: the standard deviation σ = sqrt(λ).
    """
    return component_std**2 / 255.0 if form == 'paper' else component_std


def colour_gain(form: str, scale: float) -> float:
    """What multiplies image and shift: `'released'` divides by 1 + scale, as 2012."""
    return 1.0 / (1.0 + scale) if form == 'released' else 1.0


def colour_shifts(
    rng: np.random.Generator,
    n: int,
    components: np.ndarray,
    steps: np.ndarray,
    scale: float,
) -> np.ndarray:
    """Shifts f32[n,3] of R, G and B: the sum over i of pᵢ stepᵢ N(0, scale) (§4.1).

    Args:
      rng: generator of the step.
      n: number of images.
      components: unit vectors p of the PCA of RGB as columns, [3,3].
      steps: grey levels along each of them, [3]; see `colour_steps`.
      scale: standard deviation of the noise; 0.1 in the paper.
    """
    noise = rng.standard_normal((n, 3)) * scale * steps
    return (noise @ components.T).astype(np.float32)


def centre_offset(stored: int, crop: int) -> int:
    """Top and left of the central crop."""
    return (stored - crop) // 2


def ten_views(stored: int, crop: int) -> list[tuple[int, int, bool]]:
    """The corners and the centre, each with its mirror: (row, column, mirrored) (§4.1).

    The released source's offsets: (0, 0), (0, 32), (16, 16), (32, 0), (32, 32).
    """
    end, centre = stored - crop, centre_offset(stored, crop)
    corners = [(0, 0), (0, end), (centre, centre), (end, 0), (end, end)]
    return [(*corner, mirrored) for corner in corners for mirrored in (False, True)]


def mean_to_subtract(mean_image: np.ndarray, data: ConfigDict) -> np.ndarray:
    """What `step.subtract_mean` takes from the crops.

    As in 2012 the centre of the mean image, f32[crop, crop, 3], from every crop
    wherever it lies; or all of it, f32[1, stored, stored, 3], for the part under each;
    or its mean colour everywhere, f32[crop, crop, 3] (torchvision).

    Args:
      mean_image: f32[stored, stored, 3].
      data: config.data.
    """
    if data.mean == 'crop':
        return mean_image[None]
    if data.mean == 'colour':
        colour = mean_image.mean((0, 1), np.float64).astype(np.float32)
        return np.tile(colour, (data.crop_size, data.crop_size, 1))
    start = centre_offset(data.stored_size, data.crop_size)
    stop = start + data.crop_size
    return mean_image[start:stop, start:stop]
