"""What commands there are: `python -m alexnet_jax`, or `alexnet-jax`.

`alexnet-jax COMMAND …` becomes `python -m alexnet_jax.COMMAND …` in the same process.
"""

import ast
import difflib
import os
import sys
from pathlib import Path


def commands() -> dict[str, str]:
    """The package's commands: name → the first line of its module's docstring.

    A command is a module of the package's top level that can be run. It is read, not
    imported, which takes seconds.
    """
    lines = {}
    for file in sorted(Path(__file__).parent.glob('[!_]*.py')):
        text = file.read_text(encoding='utf-8')
        if "\nif __name__ == '__main__':" in text:
            docstring = ast.get_docstring(ast.parse(text)) or ''
            lines[file.stem] = docstring.partition('\n')[0]
    return lines


def main() -> None:
    """Lists the commands, or becomes the one that the first argument names."""
    known = commands()
    name, *rest = sys.argv[1:] or ['--help']
    if name in known:
        command = [sys.executable, '-m', f'alexnet_jax.{name}', *rest]
        os.execv(sys.executable, command)
    if name not in ('--help', '-h', '-help', 'help'):
        near = difflib.get_close_matches(name, known, n=1)
        sys.exit(
            f'error: there is no command {name!r}'
            + (f'; the nearest is {near[0]}' if near else '')
            + f'; there are {", ".join(known)}'
        )
    print('usage: alexnet-jax COMMAND …, or python -m alexnet_jax.COMMAND …\n')
    width = max(map(len, known))
    for command, line in known.items():
        print(f'  {command:<{width}} {line}')
    print(
        '\nCOMMAND --help says what each takes. The experiments (ablations, sweeps,\n'
        'benchmarks) need the checkout: see experiments/README.md there.'
    )


if __name__ == '__main__':
    main()
