"""From the command to the first step: its phases, and the programs that are kept."""

import os
import re
from pathlib import Path

import jax
import pytest

from alexnet_jax.run import progress
from alexnet_jax.system import compilation_cache
from experiments.benchmark import startup
from tests.conftest import as_flags, read_metrics, run

TIMES = ('train/images_per_second', 'train/seconds_per_step')
TIMES += ('train/input_wait_fraction',)


def first_step(values: dict, workdir: Path, **environment: str) -> tuple[str, str]:
    """What a start prints, as its user runs it."""
    done = run(
        *('-m', 'alexnet_jax.main', '--config=demo', *as_flags(values)),
        *('--stop_at_step=1', f'--workdir={workdir}'),
        JAX_COMPILATION_CACHE_DIR=None,
        # A machine that compiles these in half a second would not keep them.
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0',
        JAX_DEBUG_LOG_MODULES='jax._src.compiler',
        **environment,
    )
    return done.out, done.err


def numbers(workdir: Path) -> list[dict[str, float]]:
    return [
        {name: value for name, value in line.items() if name not in TIMES}
        for line in read_metrics(workdir)
    ]


def hits(errors: str) -> set[str]:
    found = re.findall(r"cache hit for '(jit_\w+)'", errors, re.I)
    return set(found) & {'jit_train_step', 'jit__new_state'}


@pytest.mark.long
def test_a_second_start_reads_what_the_first_compiled(small_values, tmp_path):
    cache = tmp_path / 'cache'
    where = {'XDG_CACHE_HOME': str(cache)}
    out, err = first_step(small_values, tmp_path / 'cold', **where)
    assert hits(err) == set()
    ((total, line),) = re.findall(r'^first step after ([\d.]+) s:\n(.*)', out, re.M)
    phases = startup.phases(line)
    expected = ('imports', 'data', 'state', 'batch', 'compile', 'step')
    assert tuple(phases) == expected
    assert sum(phases.values()) == pytest.approx(float(total), abs=0.05)

    (step,) = (cache / 'alexnet_jax' / 'compiled').glob('jit_train_step-*')
    _, err = first_step(small_values, tmp_path / 'warm', **where)
    assert hits(err) == {'jit_train_step', 'jit__new_state'}
    assert numbers(tmp_path / 'warm') == numbers(tmp_path / 'cold')

    # As a kill in the middle of writing leaves it.
    step.write_bytes(step.read_bytes()[: step.stat().st_size // 2])
    _, err = first_step(small_values, tmp_path / 'damaged', **where)
    assert hits(err) == {'jit__new_state'}
    assert numbers(tmp_path / 'damaged') == numbers(tmp_path / 'cold')


@pytest.fixture
def no_cache_yet(monkeypatch):
    """As in a new process that has no word of the environment about the cache."""
    names = (
        'jax_compilation_cache_dir',
        'jax_persistent_cache_min_compile_time_secs',
        'jax_enable_compilation_cache',
    )
    before = {name: jax.config.values[name] for name in names}
    jax.config.update('jax_compilation_cache_dir', None)
    monkeypatch.delenv('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS')
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_cache_is_the_users_own(no_cache_yet, tmp_path, monkeypatch):
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.setenv('HOME', str(tmp_path))
    compilation_cache.enable()
    expected = tmp_path / '.cache' / 'alexnet_jax' / 'compiled'
    assert jax.config.jax_compilation_cache_dir == str(expected)
    assert expected.stat().st_mode & 0o077 == 0
    seconds = jax.config.jax_persistent_cache_min_compile_time_secs
    assert seconds == compilation_cache.MIN_SECONDS


def test_a_cache_that_cannot_be_written_is_done_without(
    no_cache_yet, tmp_path, monkeypatch
):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    compilation_cache.enable()
    assert jax.config.jax_compilation_cache_dir is None
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(os, 'access', lambda *_: False)
    compilation_cache.enable()
    assert jax.config.jax_compilation_cache_dir is None


def test_what_the_user_says_about_jaxs_cache_stands(
    no_cache_yet, tmp_path, monkeypatch
):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'ours'))
    jax.config.update('jax_compilation_cache_dir', str(tmp_path / 'theirs'))
    compilation_cache.enable()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / 'theirs')
    jax.config.update('jax_compilation_cache_dir', None)
    jax.config.update('jax_enable_compilation_cache', False)
    compilation_cache.enable()
    assert jax.config.jax_compilation_cache_dir is None
    assert not list(tmp_path.iterdir())


def test_phases_add_up_and_are_read_back(monkeypatch):
    times = iter([3.0, 3.25, 7.0])
    monkeypatch.setattr(progress.time, 'perf_counter', lambda: next(times))
    measured = progress.Startup(started=1.0)
    for phase in ('imports', 'data', 'step'):
        measured.end(phase)
    total, phases = measured.lines().splitlines()
    assert total == 'first step after 6.00 s:'
    assert phases.startswith('  imports 2.00, ')
    read = startup.phases(phases)
    assert read == {'imports': 2.0, 'data': 0.25, 'step': 3.75}
