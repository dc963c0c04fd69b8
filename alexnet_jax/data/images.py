"""One image file to the pixels that are stored: decoded, made square, encoded."""

import dataclasses
import io

import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageOps, UnidentifiedImageError

ENCODINGS = ('raw', 'jpeg')
FITS = ('crop', 'warp')
# 256×256 photographs at quality 95 take about 50 kB, a quarter of their pixels.
JPEG_FRACTION = 0.25


@dataclasses.dataclass(frozen=True)
class Stored:
    """How images are stored."""

    size: int  # side of the square
    fit: str  # one of FITS
    encoding: str  # one of ENCODINGS
    jpeg_quality: int

    @property
    def record_bytes(self) -> float:
        """Bytes of a record, estimated."""
        return self.size**2 * 3 * (JPEG_FRACTION if self.encoding == 'jpeg' else 1.0)


def stored(data: ConfigDict) -> Stored:
    """How config.data wants images stored."""
    return Stored(data.stored_size, data.fit, data.encoding, data.jpeg_quality)


def square(encoded: bytes, size: int, fit: str = 'crop') -> Image.Image:
    """Decodes any image to RGB and makes a square of it.

    Args:
      encoded: a file of any format that Pillow reads.
      size: side of the square.
      fit: 'crop' brings the short side to `size` and keeps the central square; 'warp'
        brings both sides to `size`.
    """
    image = Image.open(io.BytesIO(encoded))
    # A JPEG decodes at 1/2, 1/4 or 1/8 while that leaves twice the pixels needed.
    image.draft(None, (2 * size, 2 * size))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I'):  # 16 bits; Pillow would clip them, not scale
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == 'P':
        # Its transparent colours count like the others, here as in RGBA.
        image.info.pop('transparency', None)
    return resized(image.convert('RGB'), size, fit)


def resized(image: Image.Image, size: int, fit: str = 'crop') -> Image.Image:
    """Makes a square of an RGB image, as `square` does once it is decoded."""
    if fit == 'warp':
        return image.resize((size, size), Image.Resampling.BICUBIC)
    side = min(image.size)
    # On whole pixels, so that nothing is resampled where the size is right already.
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box)


def encode(encoded: bytes, stored: Stored) -> tuple[np.ndarray | bytes, np.ndarray]:
    """The square as it is stored, pixels or JPEG, and its pixels uint8[S,S,3]."""
    image = square(encoded, stored.size, stored.fit)
    if stored.encoding == 'raw':
        pixels = np.asarray(image)
        return pixels, pixels
    original = Image.open(io.BytesIO(encoded))
    untouched = (
        original.format == 'JPEG'
        and original.mode == 'RGB'
        and original.size == (stored.size, stored.size)
        and original.getexif().get(0x0112, 1) == 1  # not rotated
    )
    if not untouched:
        buffer = io.BytesIO()
        image.save(buffer, 'JPEG', quality=stored.jpeg_quality)
        encoded = buffer.getvalue()
    return encoded, np.asarray(Image.open(io.BytesIO(encoded)))


def why_undecodable(error: Exception) -> str:
    """What a decoder says about a damaged file, in one line."""
    if isinstance(error, UnidentifiedImageError):  # whose text is an address
        return 'no image format that Pillow knows'
    return ' '.join(str(error).split())[:200] or type(error).__name__
