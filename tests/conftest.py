"""Four CPU devices for every mesh of the tests and the shared data."""

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

# Tests and the processes they start compile the same steps; each is compiled once.
_CACHE = tempfile.TemporaryDirectory(prefix='jax_cache')
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', _CACHE.name)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.3')

import jax
import pytest

jax.config.update('jax_num_cpu_devices', 4)

REPOSITORY = Path(__file__).parents[1]
SHARED_DATA = REPOSITORY.parent / 'shared' / 'data'
sys.path.insert(0, str(REPOSITORY))


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The data sets that lie beside the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f'no shared data at {SHARED_DATA}')
    return SHARED_DATA
