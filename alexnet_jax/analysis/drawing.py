"""What all pictures share: matplotlib, which is optional, and a plain style.

Colours differ in lightness, so that a picture can be read in grey.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DARK, LIGHT, INK, RULE = '#1f4e79', '#b3c6da', '#2d3748', '#cbd5e0'
SUFFIXES = ('.png', '.svg', '.pdf')


def check(path: Path) -> None:
    """Refuses a picture that could not be drawn or written, before the work.

    Raises:
      ValueError: one line: matplotlib is missing, or the path is wrong.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f'{path}: a picture ends with {", ".join(SUFFIXES)}')
    if not path.absolute().parent.is_dir():
        raise ValueError(f'{path}: its folder is not there')
    figure(1, 1)


def figure(width: float, height: float) -> 'Figure':
    """An empty figure; width and height in inches.

    Raises:
      ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends import backend_agg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ValueError(
            "pictures need matplotlib; install it with: pip install -e '.[figures]' -c "
            'constraints.txt (a checkout) or pip install matplotlib'
        ) from None
    new = Figure(figsize=(width, height), dpi=160, layout='constrained')
    backend_agg.FigureCanvasAgg(new)
    return new


def plain(axes: 'Axes') -> None:
    """Takes the frame and the ticks' marks away."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)


def shortened(text: str, length: int) -> str:
    """A text of at most `length` characters."""
    return text if len(text) <= length else text[: length - 1] + '…'


def show_image(axes: 'Axes', pixels: Any) -> None:
    """Shows u8[H, W, 3] without axes; few pixels stay pixels."""
    axes.imshow(pixels, interpolation='nearest' if len(pixels) < 96 else 'antialiased')
    axes.set_axis_off()
