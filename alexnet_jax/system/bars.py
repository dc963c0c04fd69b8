"""Progress bars: on a terminal they move, in a log they add a line now and then."""

import sys


def interval() -> float:
    """Seconds between two states of a bar, for tqdm's `mininterval`."""
    return 0.5 if sys.stderr.isatty() else 30.0
