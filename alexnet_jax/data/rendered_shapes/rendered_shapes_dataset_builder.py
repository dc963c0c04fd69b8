"""The demo set: ten shapes rendered on 32×32 pixels, in need of no download.

A shape is a signed distance function (negative inside, 1 = the shape's radius), so
that its antialiased coverage is one clip. Colour, texture, clutter, scale, position
and rotation vary from image to image and say nothing about the class.
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

SIZE = 32
SEED = 2012
CLASS_NAMES = (
    'disk', 'ring', 'square', 'triangle', 'star',
    'plus', 'crescent', 'heart', 'arrow', 'bars',
)  # fmt: skip
SPLIT_SIZES = {'train': 8000, 'validation': 1000, 'test': 1000}


class Builder(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the ten rendered shapes."""

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES: ClassVar = {'1.0.0': 'Ten shapes, 8,000 + 1,000 + 1,000 images.'}
    pkg_dir_path = None  # nothing beside the code; TFDS would look for metadata files

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description='Ten shapes of random colour, texture, scale and position.',
            features=tfds.features.FeaturesDict(
                {
                    'image': tfds.features.Image(
                        shape=(SIZE, SIZE, 3), encoding_format='png'
                    ),
                    'label': tfds.features.ClassLabel(names=list(CLASS_NAMES)),
                }
            ),
            supervised_keys=('image', 'label'),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(split) for split in SPLIT_SIZES}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        images, labels = render_split(split)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield i, {'image': image, 'label': int(label)}


def render_split(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8[N,32,32,3] and labels int64[N], equally many of each class."""
    key = [SEED, list(SPLIT_SIZES).index(split)]
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    labels = rng.permutation(np.arange(SPLIT_SIZES[split]) % len(CLASS_NAMES))
    return render(labels, rng), labels


def render(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One image uint8[32,32,3] per label; all but the shape is drawn by `rng`."""
    n = len(labels)
    background_colour, foreground_colour = _contrasting_colours(rng, n)
    image = _textured(rng, background_colour)
    image = _blend(image, _line(rng, n), rng.uniform(0, 255, (n, 3)))
    image = _blend(image, _blob(rng, n), rng.uniform(0, 255, (n, 3)))
    # A piece of some other shape, small and cut by the border.
    place = rng.uniform(0, SIZE, (n, 2))
    place[np.arange(n), rng.integers(0, 2, n)] = rng.choice([0, SIZE], n)
    image = _blend(
        image,
        _shape(
            rng.permutation(labels), place, rng.uniform(3, 5, n), _angle(rng, n, np.pi)
        ),
        rng.uniform(0, 255, (n, 3)),
    )
    radius = rng.uniform(9, 13, n)
    centre = SIZE / 2 + rng.uniform(-1, 1, (n, 2)) * (SIZE / 2 - 1 - radius)[:, None]
    coverage = _shape(labels, centre, radius, _angle(rng, n, 0.35))
    image += coverage[..., None] * (_textured(rng, foreground_colour) - image)
    thin_line = _line(rng, n, width=(0.4, 0.8))  # in front of the shape
    image = _blend(image, thin_line, rng.uniform(0, 255, (n, 3)))
    noise = rng.standard_normal(image.shape, np.float32)
    image += noise * rng.uniform(0, 10, (n, 1, 1, 1)).astype(np.float32)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def signed_distance(name: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance (or a close bound of it) to a shape of radius about 1."""
    r = np.hypot(u, v)
    if name == 'disk':
        return r - 0.9
    if name == 'ring':
        return np.abs(r - 0.7) - 0.25
    if name == 'square':
        return np.maximum(np.abs(u), np.abs(v)) - 0.75
    if name == 'triangle':
        return np.maximum(v - 0.5, np.abs(u) * 0.866 - v * 0.5 - 0.5)
    if name == 'star':
        # One half of one point, by symmetry; its edge runs from the tip (1, 0) to the
        # notch of radius 0.42 at 36°.
        sector = np.pi / 5
        angle = np.abs((np.arctan2(u, v) + sector) % (2 * sector) - sector)
        x, y = r * np.cos(angle), r * np.sin(angle)
        edge = np.array([0.42 * np.cos(sector) - 1, 0.42 * np.sin(sector)])
        normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
        return (x - 1) * normal[0] + y * normal[1]
    if name == 'plus':
        a, b = np.abs(u), np.abs(v)
        return np.minimum(np.maximum(a - 1, b - 0.3), np.maximum(a - 0.3, b - 1))
    if name == 'crescent':
        return np.maximum(r - 0.95, 0.8 - np.hypot(u - 0.5, v))
    if name == 'heart':
        # A square on its corner and a disk on each of its two upper sides.
        a, b = (u + v - 0.15) * 0.7071, (u - v + 0.15) * 0.7071
        square = np.maximum(np.abs(a), np.abs(b)) - 0.55
        disks = np.hypot(np.abs(u) - 0.389, v - 0.15 + 0.389) - 0.55
        return np.minimum(square, disks)
    if name == 'arrow':
        shaft = np.maximum(np.abs(v) - 0.2, np.abs(u + 0.4) - 0.6)
        head = np.maximum(-u, np.abs(v) * 0.7071 + u * 0.7071 - 0.66)
        return np.minimum(shaft, head)
    if name == 'bars':
        return np.maximum(np.abs(np.abs(v) - 0.55) - 0.25, np.abs(u) - 0.85)
    raise ValueError(f'unknown shape {name!r}; one of {", ".join(CLASS_NAMES)}')


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres x[1,1,32], y[1,32,1]."""
    axis = np.arange(SIZE, dtype=np.float32) + 0.5
    return axis[None, None, :], axis[None, :, None]


def _column(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)[:, None, None]


def _angle(rng: np.random.Generator, n: int, limit: float) -> np.ndarray:
    return rng.uniform(-limit, limit, n)


def _shape(
    labels: np.ndarray, centre: np.ndarray, radius: np.ndarray, angle: np.ndarray
) -> np.ndarray:
    """Coverage float32[N,32,32] of each label's shape."""
    x, y = _grid()
    coverage = np.empty((len(labels), SIZE, SIZE), np.float32)
    for label, name in enumerate(CLASS_NAMES):
        rows = np.flatnonzero(labels == label)
        dx, dy = x - _column(centre[rows, 0]), y - _column(centre[rows, 1])
        c, s = _column(np.cos(angle[rows])), _column(np.sin(angle[rows]))
        r = _column(radius[rows])
        distance = signed_distance(name, (c * dx + s * dy) / r, (c * dy - s * dx) / r)
        coverage[rows] = np.clip(0.5 - distance * r, 0, 1)
    return coverage


def _line(
    rng: np.random.Generator, n: int, width: tuple[float, float] = (0.6, 1.6)
) -> np.ndarray:
    x, y = _grid()
    angle = _angle(rng, n, np.pi)
    px, py = rng.uniform(0, SIZE, (2, n))
    c, s = _column(np.cos(angle)), _column(np.sin(angle))
    distance = np.abs((x - _column(px)) * s - (y - _column(py)) * c)
    return np.clip(0.5 + _column(rng.uniform(*width, n)) / 2 - distance, 0, 1)


def _blob(rng: np.random.Generator, n: int) -> np.ndarray:
    x, y = _grid()
    px, py = rng.uniform(0, SIZE, (2, n))
    distance = np.hypot(x - _column(px), y - _column(py))
    return np.clip(0.5 + _column(rng.uniform(1, 3, n)) - distance, 0, 1)


def _blend(image: np.ndarray, coverage: np.ndarray, colour: np.ndarray) -> np.ndarray:
    colour = colour.astype(np.float32)[:, None, None, :]
    return image + coverage[..., None] * (colour - image)


def _contrasting_colours(
    rng: np.random.Generator, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two colours float64[N,3] per image, at least 130 grey levels apart (Euclid).

    The second, the shape's, is the brighter one in four images of five.
    """
    first, second = rng.uniform(20, 235, (2, n, 3))
    while (near := np.linalg.norm(first - second, axis=1) < 130).any():
        first[near], second[near] = rng.uniform(20, 235, (2, near.sum(), 3))
    swap = (first.sum(1) > second.sum(1)) == (rng.random(n) < 0.8)
    first[swap], second[swap] = second[swap], first[swap]
    return first, second


def _textured(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """Images float32[N,32,32,3]: a gradient and grating, checks or coarse noise."""
    n = len(colour)
    x, y = _grid()
    angle = _angle(rng, n, np.pi)
    c, s = _column(np.cos(angle)), _column(np.sin(angle))
    gradient = (c * (x - SIZE / 2) + s * (y - SIZE / 2)) / SIZE
    angle, phase = _angle(rng, n, np.pi), rng.uniform(0, 2 * np.pi, n)
    c, s = _column(np.cos(angle)), _column(np.sin(angle))
    frequency = _column(rng.uniform(0.4, 1.6, n))
    waves = [
        np.sin(frequency * (c * x + s * y) + _column(phase)),
        np.sin(frequency * (s * x - c * y)),
    ]
    noise = rng.normal(0, 0.7, (n, SIZE // 4, SIZE // 4)).repeat(4, 1).repeat(4, 2)
    kind = rng.integers(0, 3, n)[:, None, None]
    pattern = np.where(kind == 0, waves[0], np.sign(waves[0] * waves[1]))
    pattern = np.where(kind == 1, noise, pattern)
    amplitude = rng.uniform(0, 20, (n, 1, 1, 1)) * rng.uniform(-1, 1, (n, 1, 1, 3))
    slope = rng.uniform(-40, 40, (n, 1, 1, 3))
    image = amplitude.astype(np.float32) * pattern.astype(np.float32)[..., None]
    image += slope.astype(np.float32) * gradient[..., None]
    return image + colour.astype(np.float32)[:, None, None, :]
