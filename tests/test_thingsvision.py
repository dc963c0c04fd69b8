"""thingsvision takes the exported PyTorch module and extracts our taps.

It pins NumPy below 2 and torchvision 0.15.2, so it lives in an environment of its own,
which this test makes: more than five gigabytes from the package index.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax.formats import pytorch
from tests.formats import narrow, photographs, taps
from tests.reference_numpy import relative_error

VERSION = '2.7.3'
TAPS = ('conv1/linear', 'conv1/lrn', 'conv2/spatial_norm', 'conv5/pool', 'fc7/linear')
# As its documentation has it for a model of one's own.
EXTRACT = """
import sys
import numpy as np
import torch
from thingsvision import get_extractor_from_model

sys.path.insert(0, 'out')
import alexnet_torch

net = alexnet_torch.load('out/model.safetensors')
extractor = get_extractor_from_model(net, device='cpu', backend='pt')
squares = torch.tensor(np.load('squares.npy'))
batches = [net.preprocessing(part) for part in squares.split(2)]
for name in sys.argv[1:]:
    features = extractor.extract_features(
        batches=batches, module_name=name, flatten_acts=False, output_type='ndarray'
    )
    np.save(name + '.npy', features)
"""


@pytest.fixture(scope='module')
def python(tmp_path_factory) -> Path:
    """The interpreter of an environment that holds thingsvision."""
    if sys.version_info >= (3, 12):
        pytest.skip('its PyTorch 2.0.1 has wheels up to Python 3.11')
    folder = tmp_path_factory.mktemp('thingsvision')
    subprocess.run([sys.executable, '-m', 'venv', folder], check=True)
    python = folder / 'bin' / 'python'
    install = [python, '-m', 'pip', 'install', '--quiet', f'thingsvision=={VERSION}']
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f'thingsvision cannot be installed: {done.stderr[-300:]}')
    return python


@pytest.mark.installs
def test_thingsvision_extracts_our_taps(python, shared_data, tmp_path):
    weights = narrow('released_2012')
    pytorch.write(weights, tmp_path / 'out')
    squares = photographs(shared_data, weights.preprocessing.stored_size)
    np.save(tmp_path / 'squares.npy', np.moveaxis(squares, -1, 1))
    names = [tap.replace('/', '.') for tap in TAPS]
    command = [python, '-c', EXTRACT, *names]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    ours = taps(weights, squares)
    for tap, name in zip(TAPS, names, strict=True):
        theirs = np.load(tmp_path / f'{name}.npy')
        assert relative_error(theirs, ours[tap]) <= 1e-5, tap
