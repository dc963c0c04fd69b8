"""The wheel, built and installed into an empty environment and used in an empty folder.

No network: pip builds and installs with what is here, and the environment sees the
packages of this one, without its editable installation of alexnet_jax.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import alexnet_jax

REPOSITORY = Path(__file__).parents[1]
PIP = [sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check']
OWN_CONFIG = """
from alexnet_jax.configs import demo


def get_config():
    config = demo.get_config()
    config.model.width = 0.25
    config.train.epochs, config.train.steps = 0.0, 2
    return config
"""


def call(*words: str, cwd: Path, status: int = 0, **environment: str) -> str:
    inherited = {
        name: value for name, value in os.environ.items() if name != 'PYTHONPATH'
    }
    done = subprocess.run(
        words,
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, because setuptools builds in the source folder."""
    source = tmp_path_factory.mktemp('source')
    for name in ('pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(REPOSITORY / name, source)
    for name in ('alexnet_jax', 'configs', 'experiments'):
        # Another process may write its bytecode there meanwhile.
        ignored = shutil.ignore_patterns('__pycache__')
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignored)
    out = tmp_path_factory.mktemp('wheel')
    options = ('--no-deps', '--no-build-isolation', '--no-index')
    call(*PIP, 'wheel', '.', *options, f'--wheel-dir={out}', cwd=source)
    (file,) = out.glob('*.whl')
    return file


@pytest.fixture(scope='module')
def bin_folder(wheel, tmp_path_factory) -> Path:
    """`bin/` of an environment that holds the wheel, and sees what it depends on."""
    environment = tmp_path_factory.mktemp('environment')
    call(sys.executable, '-m', 'venv', '--without-pip', '.', cwd=environment)
    (site,) = environment.glob('lib/python*/site-packages')
    # What such a file names is on the path, but its own .pth files are not read, which
    # are the editable installation.
    (site / 'here.pth').write_text(
        '\n'.join(path for path in sys.path if 'site-packages' in path)
    )
    python = environment / 'bin' / 'python'
    install = [*PIP, '--python', str(python), 'install', '--no-deps', '--no-index']
    call(*install, '--ignore-installed', str(wheel), cwd=environment)
    return environment / 'bin'


def test_the_wheel_is_whole_and_has_no_experiments(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (file,) = (n for n in names if n.endswith('METADATA'))
        metadata = archive.read(file).decode()
    assert f'\nVersion: {alexnet_jax.__version__}\n' in metadata
    assert (
        metadata.count('\nProject-URL: ') >= 2 and 'License-File: LICENSE' in metadata
    )
    for folder, place in (('alexnet_jax', ''), ('configs', 'alexnet_jax/')):
        files = {
            f'{place}{path.relative_to(REPOSITORY)}'
            for path in (REPOSITORY / folder).rglob('*')
            if path.suffix == '.py' or path.name == 'py.typed'
        }
        assert files <= names, files - names
    assert 'alexnet_jax/py.typed' in names
    assert not [n for n in names if n.startswith(('experiments', 'tests', 'configs'))]


@pytest.mark.long
def test_it_runs_in_an_empty_folder(
    bin_folder, prepared_dir, small_values, tmp_path, whole_run
):
    # `whole_run` has rendered the data set that is read here.
    python, script = str(bin_folder / 'python'), str(bin_folder / 'alexnet-jax')
    # Where it is, that it is not the checkout, and what it does not bring.
    code = 'import alexnet_jax, alexnet_jax.configs as c, importlib.util as u'
    code += '; print(alexnet_jax.__version__, c.__file__, u.find_spec("experiments"))'
    said = call(python, '-c', code, cwd=tmp_path).split()
    assert said[0] == alexnet_jax.__version__ and said[2] == 'None'
    assert Path(said[1]).is_relative_to(bin_folder.parent)

    listing = call(script, cwd=tmp_path)
    assert listing == call(python, '-m', 'alexnet_jax', cwd=tmp_path)
    commands = re.findall(r'^  (\w+) ', listing, re.M)
    assert {'main', 'evaluate', 'figures'} <= set(commands)
    assert '60,965,224' in call(
        script, 'main', '--config=paper', '--summary', cwd=tmp_path
    )

    (tmp_path / 'mine.py').write_text(OWN_CONFIG)
    where = [
        f'--config.data.data_dir={prepared_dir}',
        f'--config.data.prepared_dir={prepared_dir}',
    ]
    out = call(script, 'main', '--config=mine.py', *where, cwd=tmp_path)
    assert 'the last: validation' in out
    run = tmp_path / 'runs' / 'mine'
    assert json.loads((run / 'provenance.json').read_text())['starts'][0]['git'] is None
    out = call(script, 'evaluate', f'--workdir={run}', cwd=tmp_path)
    assert 'mine (step 2)' in out
    # Python keeps what it compiled of one's own config beside it.
    made = {path.name for path in tmp_path.iterdir()} - {'__pycache__'}
    assert made == {'mine.py', 'runs'}


@pytest.mark.long
def test_every_command_of_it_runs_in_an_empty_folder(bin_folder, tmp_path):
    script = str(bin_folder / 'alexnet-jax')
    for command in re.findall(r'^  (\w+) ', call(script, cwd=tmp_path), re.M):
        assert 'usage: ' in call(script, command, '--help', cwd=tmp_path), command
    home = {'HOME': str(tmp_path / 'home'), 'TFDS_DATA_DIR': str(tmp_path / 'tfds')}
    values = ['--config.data.stored_size=28', '--config.data.encoding=raw']
    out = call(
        script, 'prepare', '--source=rendered_shapes', *values, cwd=tmp_path, **home
    )
    assert 'classes: 10' in out
    small = ['--config.train.epochs=0', '--config.train.steps=2']
    out = call(script, 'main', '--config=demo', *small, cwd=tmp_path, **home)
    assert 'the last: validation' in out
    assert (tmp_path / 'runs' / 'demo' / 'result.json').is_file()
