"""SIGTERM and Ctrl-C: one line and the right status, in whatever a command is doing.

Python runs its handlers in the main thread and between two of its instructions: not
while XLA compiles there, and an exception that one raises is lost in a destructor or
turned into an ImportError. So the handler of a command does nothing; the kernel's
notice goes through a pipe to a thread, which ends the process, or tells the training
loop, which saves a checkpoint first.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

NUMBERS = (signal.SIGINT, signal.SIGTERM)


def _nothing() -> None:
    pass


_listening = False
_goes_on = False  # the same command, from what is saved
_caught: list[int] | None = None  # of the loop that saves before it stops
_leave: Callable[[], None] = _nothing  # what that loop does at a second signal


def listen(*, goes_on: bool = False) -> None:
    """From now on a signal ends this command in one line, with 128 + its number.

    Call it first of all but for `huge_pages.enable`, and again after what installs
    handlers of its own.

    Args:
      goes_on: the same command goes on where it stood, which the line then says.
    """
    global _listening, _goes_on
    _goes_on = _goes_on or goes_on
    if not _listening:  # before there is a handler, which alone would lose a signal
        read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(read,), daemon=True).start()
        _listening = True
    for number in NUMBERS:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)  # see `blocked`


def listen_again() -> None:
    """Takes the signals back from a library, if they were listened to."""
    if _listening:
        listen()


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Holds signals back from this thread and from processes that it starts.

    A process that is started so has them blocked until it calls `listen`; none comes
    to it while Python itself starts. In this process other threads still get them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)


@contextlib.contextmanager
def caught_signals(leave: Callable[[], None] = _nothing) -> Iterator[list[int]]:
    """Collects signals, so that a loop can checkpoint before it stops.

    A second signal ends the program at once. Outside a command, in a notebook or a
    test, it takes the signals itself, if it may: in the main thread.

    Args:
      leave: called at the second signal, in whatever thread notices it; the loop itself
        then runs no further, not even its `finally`.
    """
    global _caught, _leave
    caught: list[int] = []
    if _listening:
        _caught, _leave = caught, leave
        try:
            yield caught
        finally:
            _caught, _leave = None, _nothing
        return
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, _: object) -> None:
        if caught:
            leave()
            raise SystemExit(128 + number)
        caught.append(number)

    previous = {n: signal.signal(n, note) for n in NUMBERS}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _watch(read: int) -> None:
    while True:
        for number in os.read(read, 64):
            if number not in NUMBERS:
                continue
            if _caught is not None and not _caught:
                _caught.append(number)
            else:
                _leave()
                _end(number)


def _end(number: int) -> None:
    """Leaves at once; what is on the disk is whole at every instant."""
    again = ' again' if _caught else ''
    with contextlib.suppress(OSError, ValueError):
        # Not through sys.stderr, whose lock the main thread may hold.
        then = '; the same command goes on from what is saved' if _goes_on else ''
        os.write(2, f'signal {number}{again}: stopped{then}\n'.encode())
    # Not imported for this alone.
    if 'multiprocessing' in sys.modules:
        children = sys.modules['multiprocessing'].active_children()
        # Else the main thread may wake as a worker ends, and leave before this does.
        sys.setswitchinterval(60)
        for child in children:
            child.kill()
    os._exit(128 + number)
