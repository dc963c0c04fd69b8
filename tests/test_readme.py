"""Every command of the pages names what exists, and their Python runs."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

import alexnet_jax
from alexnet_jax import config as config_lib
from alexnet_jax.configs import paper
from alexnet_jax.system import config_arguments
from experiments import ablations

REPOSITORY = Path(__file__).parents[1]
PAGES = {
    page.name: page.read_text()
    for page in [REPOSITORY / 'README.md', *sorted((REPOSITORY / 'docs').glob('*.md'))]
}
README = PAGES['README.md']
COMMANDS = dict.fromkeys(
    line.split('#')[0].strip()
    for text in PAGES.values()
    for block in re.findall(r'```sh\n(.*?)```', text, re.DOTALL)
    for line in block.replace('\\\n', ' ').splitlines()
    if line.strip()
)
TESTS = {
    name
    for file in (REPOSITORY / 'tests').glob('test_*.py')
    for name in (file.stem, *re.findall(r'^def (test_\w+)', file.read_text(), re.M))
}
KEYS = {f'config.{key}' for key, _ in config_lib.flat(paper.get_config())}


@pytest.mark.parametrize('command', COMMANDS)
def test_command_names_what_exists(command, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    words = shlex.split(command)
    if words[0] == 'make':
        assert re.search(rf'^{words[1]}:', (REPOSITORY / 'Makefile').read_text(), re.M)
    if '-m' in words and 'venv' not in words:
        assert importlib.util.find_spec(words[words.index('-m') + 1])
    for word in words:
        if match := re.fullmatch(r'--(config|base)=(.*)', word):
            config_arguments.load(config_arguments.to_file(match[2]))
        elif match := re.fullmatch(r'--(config\.[\w.]+)=.*', word):
            assert match[1] in KEYS
    if 'experiments.sweep' in words:
        names = words[words.index('experiments.sweep') + 1 :]
        assert {n for n in names if not n.startswith('-')} <= set(ablations.ABLATIONS)


@pytest.mark.parametrize('page', PAGES)
def test_overrides_files_tests_and_links_in_the_text_exist(page):
    text = PAGES[page]
    for name in re.findall(r'`(\w+)\.py:', text):
        pytest.fail(f'{name}.py:… is no config; {name}:… is')
    for key in re.findall(r'--(config\.[a-z\d_.]+)=', text):
        assert key in KEYS, key
    for path in re.findall(r'`((?:alexnet_jax|configs|experiments)/[\w/]+\.py)`', text):
        assert (REPOSITORY / path).is_file(), path
    for name in set(re.findall(r'`(test_\w+)`', text)) - {'test_x'}:
        assert name in TESTS, name
    folder = REPOSITORY if page == 'README.md' else REPOSITORY / 'docs'
    for name in re.findall(r'\]\((?!http)([^)#]+)[^)]*\)', text):
        assert (folder / name).exists(), name


def test_the_python_of_the_readme_runs(capsys):
    (code,) = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out.split('\n')[0] == (
        '(1, 55, 55, 96) (1, 6, 6, 256) (1, 1000)'
    )


def test_the_package_names_each_of_its_modules():
    named = set(re.findall(r'^([a-z_]+) ', alexnet_jax.__doc__ or '', re.M))
    there = {
        path.stem
        for path in (REPOSITORY / 'alexnet_jax').iterdir()
        if not path.stem.startswith('_') and path.suffix in ('', '.py')
    }
    assert there | {'configs'} == named


def test_citation_has_the_packages_version():
    text = (REPOSITORY / 'CITATION.cff').read_text()
    assert f'\nversion: {alexnet_jax.__version__}\n' in text
