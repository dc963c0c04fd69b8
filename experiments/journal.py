"""A record that grows by a line of JSON a round, so that it goes on where it stood."""

import json
from pathlib import Path
from typing import Any

from alexnet_jax.system import files
from experiments import report
from experiments.report import Report

Line = dict[str, Any]


class Journal:
    """`<folder>/<name>`, and the table that is made of its lines."""

    def __init__(self, folder: Path, name: str = 'rounds.jsonl'):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._path = folder / name

    @property
    def lines(self) -> list[Line]:
        """The rounds so far, read anew: several processes may share the work."""
        text = self._path.read_text() if self._path.exists() else ''
        return [json.loads(line) for line in text.splitlines()]

    def append(self, line: Line, text: str = '') -> None:
        """Adds a round and prints it, or a text in its place."""
        with self._path.open('a') as file:
            file.write(json.dumps(line) + '\n')
        print(text or json.dumps(line), flush=True)

    def count(self, **values: object) -> int:
        """How many lines have these values."""
        return sum(values.items() <= line.items() for line in self.lines)

    def write_table(self, made: Report) -> None:
        """Writes `table.md` and prints it."""
        table = report.as_markdown(made) + '\n'
        files.write_atomically(self._folder / 'table.md', table)
        print(report.as_text(made))
