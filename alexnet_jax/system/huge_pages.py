"""Huge pages for what the C library gives out, which a process must be started with.

XLA takes the scratch of a CPU step in one block, 1.4 GB for the paper's net at batch
128, and gives it back to the system after the step. The next one takes 333,000 pages
of 4 kB, each cleared again, a seventh of the step's time; of 2 MB it takes 700. Where
Linux leaves the choice to programs, glibc asks for these if `GLIBC_TUNABLES` says so
when the process starts.
"""

import os
import sys
from pathlib import Path

from alexnet_jax.system import signals

VARIABLE, SETTING = 'GLIBC_TUNABLES', 'glibc.malloc.hugetlb=1'
CHOICE = Path('/sys/kernel/mm/transparent_hugepage/enabled')


def environment() -> dict[str, str]:
    """What to add to the environment of a process that computes.

    Nothing where it has tunables already, `''` included, or where the system gives
    huge pages always or never.
    """
    try:
        programs_choose = '[madvise]' in CHOICE.read_text()
    except OSError:  # not Linux
        programs_choose = False
    if VARIABLE in os.environ or not programs_choose:
        return {}
    return {VARIABLE: SETTING}


def enable() -> None:
    """Starts this `python -m` command once more, as the same process, if that helps.

    Call it before what is slow to import, and before `signals.listen`: the thread that
    listens would end with this process's image, and a signal with it. A command that
    runs inside another program (a notebook's `%run -m`) is left as it is.
    """
    spec = sys.modules['__main__'].__spec__
    command = ['-m', spec.name] if spec else []
    words = sys.orig_argv
    started_so = any(words[i : i + 2] == command for i in range(len(words)))
    if (missing := environment()) and started_so:
        with signals.blocked():
            os.execve(
                sys.executable, [sys.executable, *words[1:]], os.environ | missing
            )
