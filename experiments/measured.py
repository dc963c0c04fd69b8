"""What inspections found in a cell's net, kept beside its checkpoint.

<cell>/measured.json: {inspection: {"commit": …, "numbers": {name: value}}}
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alexnet_jax.system import files

FILE = 'measured.json'


def read(workdir: Path) -> dict[str, Any]:
    """By inspection; a file that is not there or torn has none."""
    found = files.read_json(workdir / FILE)
    return found if isinstance(found, dict) else {}


def add(
    workdir: Path, inspection: str, numbers: Mapping[str, float], commit: str
) -> None:
    """Keeps what an inspection found."""
    numbers = {name: float(value) for name, value in numbers.items()}
    files.write_json(
        workdir / FILE,
        read(workdir) | {inspection: {'commit': commit, 'numbers': numbers}},
    )


def of_run(workdir: Path) -> tuple[dict[str, float], str]:
    """All numbers as `<inspection>/<name>`, and the commits that measured them."""
    found = read(workdir)
    numbers = {
        f'{inspection}/{name}': value
        for inspection, of in sorted(found.items())
        for name, value in of['numbers'].items()
    }
    commits = dict.fromkeys(of['commit'] for of in found.values())
    return numbers, ', '.join(commits)
