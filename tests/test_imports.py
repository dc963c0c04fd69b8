"""Imports run one way, flags stay in the commands, and no module grows out of hand."""

import ast
import functools
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / 'alexnet_jax'
# Each level may import itself and those before it. A new module must be given its
# place here; `data` stands for all of `data/`.
CONFIG = [path.stem for path in PACKAGE.glob('config*.py')]
LEVELS = [
    ('what knows nothing of a network', ['system', 'randomness', 'windows', 'cpu']),
    ('operations', ['layers', 'layer_steps']),
    ('the network', ['model']),
    ('data', ['data']),
    (
        'one step',
        ['mesh', 'optimizer', 'metrics', 'train_state', 'step', 'taps', *CONFIG],
    ),
    ('files of weights', ['formats']),
    ('the command line', ['system/command_line', 'system/config_arguments']),
    ('a run', ['run', 'summary', 'memory', 'build']),
    ('what is done with a net', ['analysis', 'validation', 'train']),
    ('replay', ['replay']),
    (
        'commands',
        [
            'main',
            'prepare',
            'evaluate',
            'predict',
            'export_workdir',
            'features',
            'neighbours',
            'weights',
            'figures',
        ],
    ),
]
# Of `data/`, which could serve any network.
BELOW_DATA = {'data', 'randomness', 'system'}
LINES = {'model': 420, 'layers': 350, 'step': 340}
MOST_LINES = 330


def module_files() -> dict[str, Path]:
    """`run/checkpoint` and its file, for every module but the packages' own."""
    return {
        path.relative_to(PACKAGE).with_suffix('').as_posix(): path
        for path in sorted(PACKAGE.rglob('*.py'))
        if not path.name.startswith('_')
    }


MODULES = module_files()


def level(module: str) -> int:
    """By the module's own name, or by that of its folder."""
    names = [names for _, names in LEVELS]
    for name in (module, module.split('/')[0]):
        for number, members in enumerate(names):
            if name in members:
                return number
    raise AssertionError(f'{module} has no level in LEVELS')


@functools.cache
def imports(path: Path) -> set[str]:
    """Every module that a file imports, also within its functions, by dotted name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'{path}: imports are absolute'
            found |= {f'{node.module}.{alias.name}' for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    """The modules of the package among them, as MODULES names them."""
    found = set()
    for name in imports(path):
        words = name.split('.')
        if words[0] == 'alexnet_jax':
            # `model.Network` is of `model`, `configs.paper` of no module here.
            candidates = ('/'.join(words[1:end]) for end in (len(words), -1))
            found |= {name for name in candidates if name in MODULES}
    return found


def is_command(path: Path) -> bool:
    return "\nif __name__ == '__main__':" in path.read_text()


def test_a_module_imports_its_own_level_and_those_below():
    upwards = [
        f'{module} imports {other}'
        for module, path in MODULES.items()
        for other in ours(path)
        if level(other) > level(module)
    ]
    assert not upwards


def test_no_modules_import_each_other():
    graph = {module: ours(path) - {module} for module, path in MODULES.items()}
    while free := [module for module, below in graph.items() if not below]:
        for module in free:
            del graph[module]
        graph = {module: below - set(free) for module, below in graph.items()}
    assert not graph


def test_data_imports_nothing_above_itself():
    above = {
        f'{module} imports {other}'
        for module, path in MODULES.items()
        for other in ours(path)
        if module.startswith('data/') and other.split('/')[0] not in BELOW_DATA
    }
    assert not above


def test_only_commands_and_the_command_line_know_flags():
    knowing = {
        module
        for module, path in MODULES.items()
        if imports(path) & {'absl.flags', 'absl.app', 'argparse'}
    }
    commands = {module for module, path in MODULES.items() if is_command(path)}
    assert knowing <= commands | {'system/command_line', 'system/config_arguments'}
    assert {'main', 'prepare', 'evaluate'} <= commands & knowing


def test_a_module_is_read_in_one_sitting():
    lines = {
        module: len(path.read_text().splitlines()) for module, path in MODULES.items()
    }
    long = {m: n for m, n in lines.items() if n > LINES.get(m, MOST_LINES)}
    assert not long
