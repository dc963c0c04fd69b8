"""Commands start themselves again where that gets them huge pages, and nowhere else."""

import os
from pathlib import Path

import pytest

from alexnet_jax.system import huge_pages
from tests.conftest import REPOSITORY, run

# A command as ours are, on a system whose setting is in a file of the test.
COMMAND = """
import os, sys
from pathlib import Path
from alexnet_jax.system import huge_pages
huge_pages.CHOICE = Path(os.environ['CHOICE'])
print('started', os.getpid(), flush=True)
if __name__ == '__main__':
    huge_pages.enable()
print('runs', os.getpid(), sys.argv[1:], os.environ.get('GLIBC_TUNABLES'))
"""


@pytest.fixture
def choice(tmp_path, monkeypatch):
    monkeypatch.delenv(huge_pages.VARIABLE, raising=False)
    path = tmp_path / 'enabled'
    path.write_text('always [madvise] never\n')
    monkeypatch.setattr(huge_pages, 'CHOICE', path)
    return path


def test_they_are_asked_for_where_programs_choose(choice):
    assert huge_pages.environment() == {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'}


@pytest.mark.parametrize(
    'setting', ['[always] madvise never', 'always madvise [never]']
)
def test_the_system_may_have_chosen(choice, setting):
    choice.write_text(setting)
    assert huge_pages.environment() == {}


def test_other_systems_are_left_alone(choice):
    choice.unlink()
    assert huge_pages.environment() == {}


@pytest.mark.parametrize('tunables', ['', 'glibc.malloc.check=0'])
def test_what_the_user_set_stands(choice, monkeypatch, tunables):
    monkeypatch.setenv(huge_pages.VARIABLE, tunables)
    assert huge_pages.environment() == {}


def lines_of(folder: Path, choice: Path, *command: str) -> list[list[str]]:
    (folder / 'a_command.py').write_text(COMMAND)
    path = os.pathsep.join([str(folder), str(REPOSITORY)])
    out = run(*command, PYTHONPATH=path, CHOICE=str(choice)).out
    return [line.split(maxsplit=2) for line in out.splitlines()]


def test_a_command_starts_once_more_as_the_same_process(choice, tmp_path):
    words = ['-X', 'utf8', '-m', 'a_command', '--a=b c', 'd']
    first, second, runs = lines_of(tmp_path, choice, *words)
    assert first == second
    assert runs[1] == first[1]
    assert runs[2] == "['--a=b c', 'd'] glibc.malloc.hugetlb=1"


def test_inside_another_program_it_does_not(choice, tmp_path):
    program = 'import runpy; runpy.run_module("a_command", run_name="__main__")'
    started, runs = lines_of(tmp_path, choice, '-c', program)
    assert started[0] == 'started'
    assert runs[2].endswith('None')


@pytest.mark.parametrize('module', ['main', 'evaluate'])
def test_the_commands_that_compute_do(monkeypatch, tmp_path, module):
    monkeypatch.delenv(huge_pages.VARIABLE, raising=False)
    # Python imports this at every start.
    (tmp_path / 'sitecustomize.py').write_text(
        "import os; open(os.environ['LOG'], 'a').write("
        'f\'{os.environ.get("GLIBC_TUNABLES")}\\n\')'
    )
    log = tmp_path / 'log'
    words = ('-m', f'alexnet_jax.{module}', '--help')
    assert '--workdir' in run(*words, PYTHONPATH=str(tmp_path), LOG=str(log)).out
    added = huge_pages.environment().values()
    assert log.read_text().split() == ['None', *added]
