"""What several tests need: devices, one small run, shipped nets and commands."""

import contextlib
import copy
import dataclasses
import importlib
import io
import json
import os
import random
import runpy
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

# How many threads share a product decides how it is cut, hence its last bits. XLA takes
# one per core, or per device where there are more of those: on two cores four here, of
# four devices, and two in a command that a test starts. Runs that are compared to the
# bit need as many in both.
os.environ['NPROC'] = '4'
os.environ.pop('PJRT_NPROC', None)  # it would take precedence

# Tests and the processes they start compile the same steps; each is compiled once.
_CACHE = tempfile.TemporaryDirectory(prefix='jax_cache')
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', _CACHE.name)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')

import jax
import pytest
from absl import flags, logging
from ml_collections import ConfigDict
from PIL import Image

jax.config.update('jax_num_cpu_devices', 4)

from alexnet_jax import model, train
from alexnet_jax.configs import demo, paper
from alexnet_jax.system import signals

REPOSITORY = Path(__file__).parents[1]
SHARED_DATA = REPOSITORY.parent / 'shared' / 'data'


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The data sets that lie beside the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f'no shared data at {SHARED_DATA}')
    return SHARED_DATA


# Nets.


def load(name: str) -> ConfigDict:
    """A shipped config by its name, `file` or `file:argument`."""
    file, *argument = name.split(':')
    return importlib.import_module(f'alexnet_jax.configs.{file}').get_config(*argument)


def network_of(config: ConfigDict) -> model.Network:
    """A config's table; of ten classes where the data set has them."""
    return model.network_from_config(
        config.model, config.data.crop_size, config.model.num_classes or 10
    )


# The small run: 20 steps with dropout, crops and colour, cut by evaluations and
# checkpoints.
SMALL = {
    'model.width': 0.25,
    'train.batch_size': 32,
    'train.epochs': 0.0,
    'train.steps': 20,
    'train.log_every_steps': 5,
    'train.eval_every_epochs': 0.024,
    'train.checkpoint_every_steps': 6,
    # No error is ever so much better: stale at 12, and at 18 the rate is cut, also in
    # a run that was stopped between the two.
    'optimizer.schedule': 'plateau',
    'optimizer.plateau.patience': 2,
    'optimizer.plateau.threshold': 0.5,
    # At 0.01 a unit or pool that stands within rounding of its kink tips over at step
    # 8 on one mesh and not on another; from there the runs part by a factor a step.
    'optimizer.learning_rate': 0.001,
    'data.validation_split': 'validation[:200]',
    'data.test_split': 'test[:130]',
    'data.training_error_split': 'train[:70]',
}


@pytest.fixture(scope='session')
def prepared_dir(tmp_path_factory) -> Path:
    """Where the tests' demo images are rendered and prepared, once."""
    return tmp_path_factory.mktemp('tensorflow_datasets')


@pytest.fixture(scope='session')
def small_values(prepared_dir) -> dict[str, object]:
    """What the tests' small run overrides in the demo's config."""
    where = str(prepared_dir)
    return SMALL | {'data.data_dir': where, 'data.prepared_dir': where}


def make_small(values: Mapping[str, object]) -> ConfigDict:
    config = demo.get_config()
    config.update_from_flattened_dict(values)
    return config


@pytest.fixture
def small(small_values) -> ConfigDict:
    return make_small(small_values)


@pytest.fixture(scope='session')
def whole_run(small_values, tmp_path_factory) -> dict[str, Any]:
    """The small run, uninterrupted, on (1, 2); trained once."""
    config = make_small(small_values)
    config.mesh.data, config.mesh.tower = 1, 2
    workdir = tmp_path_factory.mktemp('whole')
    results = train.train_and_evaluate(config, workdir)
    return {'results': results, 'workdir': workdir}


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, which JSON must allow as they are."""
    text = (workdir / 'metrics.jsonl').read_text()
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


# Folders of images.


def save_pixel(path: Path, colour: int = 0) -> None:
    """An image of one pixel, which is another for each number below 256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (1, 1), (colour, colour % 7, colour % 5)).save(path)


def folder_config(tmp_path: Path, **values: object) -> ConfigDict:
    """The data of a config that reads `tmp_path/photos`, a pixel an image."""
    data = paper.get_config().data
    data.update(source='folder', data_dir=str(tmp_path / 'photos'), encoding='raw')
    data.update(prepared_dir=str(tmp_path / 'prepared'), stored_size=1, crop_size=1)
    data.update(values)
    return data


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two splits of two classes, with three images and one, at `tmp_path/photos`."""
    folder = tmp_path / 'photos'
    for number, name in enumerate(('cat', 'dog')):
        for i in range(3):
            save_pixel(folder / 'train' / name / f'{i}.png', 10 * number + i)
        save_pixel(folder / 'validation' / name / '0.png', 100 + number)
    return folder


# Commands.


def as_flags(values: Mapping[str, object], name: str = 'config') -> list[str]:
    """`--config.key=value` of each."""
    return [f'--{name}.{key}={value}' for key, value in values.items()]


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a user's mistake; a traceback has more."""
        assert self.status == 1, self
        (line,) = self.err.splitlines()
        assert line.startswith('error: '), self
        return line


def start(
    *words: object,
    cwd: Path = REPOSITORY,
    stdin: int | None = None,
    **changes: str | None,
) -> subprocess.Popen[str]:
    """Starts Python with these words in a process of its own, as a user does.

    Args:
      *words: what follows `python`.
      cwd: where.
      stdin: a pipe to it, or None.
      **changes: of the environment; None takes a variable away.
    """
    environment = os.environ | {'JAX_NUM_CPU_DEVICES': None, **changes}
    return subprocess.Popen(
        [sys.executable, '-u', *map(str, words)],
        cwd=cwd,
        env={name: value for name, value in environment.items() if value is not None},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], timeout: float = 900) -> Ended:
    """Waits for a process, which does not outlive its time.

    The time only ends what hangs: a machine may be several times slower than ours.
    """
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return Ended(process.returncode, out, err)


def run(*words: object, status: int = 0, **options: Any) -> Ended:
    """Runs Python with these words to its end, which must have this status."""
    ended = end(start(*words, **options))
    assert ended.status == status, ended.out + ended.err
    return ended


def run_here(module: str, *arguments: object) -> Ended:
    """Runs `python -m module` within this process, which has imported it all.

    For what ends before it trains, of which there are many. What only a process of its
    own can show (what libraries write to stderr, a signal) needs `run`.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        _without_our_flags(),
    ):
        # That the module is imported already.
        warnings.filterwarnings('ignore', category=RuntimeWarning, module='runpy')
        patch.chdir(REPOSITORY)
        patch.setattr(sys, 'argv', [module, *map(str, arguments)])
        patch.setenv('JAX_NUM_CPU_DEVICES', '4')  # which there are
        patch.setattr(signals, 'listen', lambda **_: None)  # they are pytest's
        status = 0
        try:
            runpy.run_module(module, run_name='__main__', alter_sys=True)
        except SystemExit as exit:
            status = exit.code or 0
            if isinstance(status, str):  # which Python prints
                print(status, file=err)
                status = 1
    return Ended(status, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _without_our_flags() -> Iterator[None]:
    """As in a new process, where a command has yet to define its flags."""
    verbosity, tables = logging.get_verbosity(), vars(flags.FLAGS)
    before = {
        name: {key: copy.copy(item) if isinstance(item, list) else item
               for key, item in value.items()}
        if isinstance(value, dict) else copy.copy(value)
        for name, value in tables.items()
    }  # fmt: skip
    for name in list(flags.FLAGS):
        module = flags.FLAGS.find_module_defining_flag(name)
        if module.startswith(('alexnet_jax', 'experiments')):
            delattr(flags.FLAGS, name)
    yield
    tables.clear()
    tables.update(before)
    logging.set_verbosity(verbosity)


# Of each of several processes, whatever the tests themselves have.
ONE_DEVICE = {'JAX_NUM_CPU_DEVICES': '1'}


def free_port() -> int:
    """A port that nobody listens on, and that the system gives to nobody meanwhile."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(('127.0.0.1', port))
            return port
