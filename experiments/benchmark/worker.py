"""One contender of a benchmark in a process of its own, driven over its pipes.

`rounds.py` starts one of these per contender and asks them in turn for one repetition
each. The settings come as JSON in the first line: `contender`, the function that makes
the repetition, as `module.function` of `contenders/`; `cores`, those it may use;
`settles`, for one more repetition before each that counts, as if it had not waited for
the others (a virtual machine's host takes back memory that lies free for long);
`huge_pages`, to be started as our commands are; and what that function reads. Then a
line per repetition goes in and one of JSON comes out.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

Settings = dict[str, Any]
Repetition = Callable[[], object]  # runs once and returns when it is done


def start_jax(settings: Settings) -> ModuleType:
    """Imports jax for `platform` (the CPU if it is not given) with `devices`."""
    # Several contenders share an accelerator.
    os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'
    import jax

    jax.config.update('jax_platforms', settings.get('platform', 'cpu'))
    jax.config.update('jax_num_cpu_devices', settings.get('devices', 1))
    return jax


def peak_bytes() -> int:
    """The most memory this process held."""
    # Not getrusage, whose maximum starts at what the parent process had.
    lines = Path('/proc/self/status').read_text().splitlines()
    peak = next(line for line in lines if line.startswith('VmHWM'))
    return 1024 * int(peak.split()[1])


def main() -> None:
    """Makes the contender, and runs it once for every line that comes in."""
    settings = json.loads(sys.stdin.readline())
    # Before a library counts the cores and starts its threads.
    os.sched_setaffinity(0, settings['cores'])
    # The pipe is ours alone: what libraries print goes where errors go.
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)

    def answer(start: float) -> None:
        seconds = time.perf_counter() - start
        text = json.dumps({'seconds': seconds, 'peak_bytes': peak_bytes()})
        print(text, file=answers)
        answers.flush()

    module, _, name = settings['contender'].partition('.')
    start = time.perf_counter()
    found = importlib.import_module(f'experiments.benchmark.contenders.{module}')
    repetition = getattr(found, name)(settings)
    repetition()
    answer(start)
    for _ in sys.stdin:
        if settings.get('settles'):
            repetition()
        start = time.perf_counter()
        repetition()
        answer(start)


if __name__ == '__main__':
    main()
