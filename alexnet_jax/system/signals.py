"""SIGTERM and Ctrl-C: asked politely once, obeyed at once the second time."""

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT, so that a loop can checkpoint before it stops.

    A second signal ends the program at once.
    """
    caught: list[int] = []

    def note(number: int, _: object) -> None:
        if caught:
            raise SystemExit(128 + number)
        caught.append(number)

    previous = {n: signal.signal(n, note) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
