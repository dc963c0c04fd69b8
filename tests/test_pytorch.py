"""alexnet_torch, the module that is written beside the weights, is our networks."""

import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax.formats import networks, pytorch, registry
from alexnet_jax.formats import safetensors as safetensors_file
from tests.conftest import run, run_here
from tests.formats import bit_equal, make_weights, narrow, photographs, taps
from tests.reference_numpy import relative_error

TOLERANCE = 1e-5


@pytest.mark.parametrize('name', ['columns', 'cuda_convnet:conv_local_11pct'])
def test_the_folder_comes_back_bit_for_bit(name, tmp_path):
    weights = narrow(name)
    written = registry.write(weights, tmp_path / 'out', 'pytorch')
    assert [path.name for path in written] == ['model.safetensors', 'alexnet_torch.py']
    for path in (tmp_path / 'out', written[0]):
        again = registry.read(path, 'pytorch')
        assert bit_equal(again, weights) and again.network == weights.network
        assert again.class_names == weights.class_names
    (tmp_path / 'out' / '__pycache__').mkdir()  # of an import
    assert registry.write(weights, tmp_path / 'out', 'pytorch') == written
    (tmp_path / 'out' / 'mine.txt').write_text('')
    with pytest.raises(ValueError, match='out has other files'):
        registry.write(weights, tmp_path / 'out', 'pytorch')
    with pytest.raises(ValueError, match='out is a folder, and safetensors is a file'):
        registry.write(weights, tmp_path / 'out', 'safetensors')
    with pytest.raises(ValueError, match='is a file, and pytorch is a folder'):
        registry.write(weights, written[0], 'pytorch')


@pytest.mark.parametrize(
    ('key', 'value', 'says'),
    [
        ('alexnet_torch', None, 'was not written for'),
        ('network', '{"layers": []}', 'network'),
        ('preprocessing', '{"crop_size": 1000000000000}', 'crop_size'),
        ('digest', '"0"', 'digest'),
    ],
)
def test_a_hostile_folder_is_refused_in_one_line(key, value, says, tmp_path):
    pytorch.write(make_weights('caffe', width=0.03125, fc=4), tmp_path / 'out')
    file = tmp_path / 'out' / 'model.safetensors'
    arrays, metadata = safetensors_file.read_arrays(file)
    metadata = {k: v for k, v in (metadata | {key: value}).items() if v is not None}
    safetensors_file.write_arrays(arrays, metadata, file)
    assert says in run_here('alexnet_jax.weights', 'inspect', tmp_path / 'out').error


def module_of(folder: Path) -> types.ModuleType:
    """The very file that was written."""
    file = folder / 'alexnet_torch.py'
    spec = importlib.util.spec_from_file_location('alexnet_torch', file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.peers
@pytest.mark.parametrize('name', networks.NAMES)
def test_hooks_reach_every_tap_by_its_name(name, shared_data, tmp_path):
    torch = pytest.importorskip('torch')
    weights = narrow(name)
    pytorch.write(weights, tmp_path / 'out')
    net = module_of(tmp_path / 'out').load(tmp_path / 'out' / 'model.safetensors')
    assert not net.training and net.class_names == list(weights.class_names)
    squares = photographs(shared_data, weights.preprocessing.stored_size)
    ours = taps(weights, squares)
    theirs = {}
    for tap in ours.keys() - {'logits'}:
        net.get_submodule(tap.replace('/', '.')).register_forward_hook(
            lambda module, inputs, output, tap=tap: theirs.update({tap: output})
        )
    with torch.no_grad():
        x = net.preprocessing(torch.tensor(np.moveaxis(squares, -1, 1).copy()))
        theirs['logits'] = net(x)
    assert theirs['logits'].std() > 0.01
    # After the whole pass, so that a step that changed its input in place would show.
    for tap, value in ours.items():
        assert relative_error(theirs[tap], value) <= TOLERANCE, tap


@pytest.mark.peers
def test_it_trains_like_the_table_says(tmp_path):
    """Dropout of 2012 masks in training without a factor; others are PyTorch's own."""
    torch = pytest.importorskip('torch')
    weights = make_weights('caffe', width=0.03125, fc=64)
    pytorch.write(weights, tmp_path / 'caffe')
    module = module_of(tmp_path / 'caffe')
    x = torch.ones(4, 1000)
    kept = module.Dropout2012(0.25)(x)
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert kept.mean() == pytest.approx(0.75, abs=0.05)
    net = module.load(tmp_path / 'caffe' / 'model.safetensors').train()
    assert isinstance(net.fc6.dropout, torch.nn.Dropout)
    net(torch.randn(2, 3, 227, 227)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'alexnet_jax', 'jax', 'safetensors', 'torchvision'}:
            raise ModuleNotFoundError(f'{name} is blocked in this test')

sys.meta_path.insert(0, Blocked())
sys.path.insert(0, '.')
import torch
import alexnet_torch

net = alexnet_torch.load('model.safetensors')
squares = torch.zeros(1, 3, 256, 256, dtype=torch.uint8)
print(list(net(net.preprocessing(squares)).shape))
"""


@pytest.mark.peers
def test_the_module_needs_torch_alone(tmp_path):
    pytest.importorskip('torch')
    pytorch.write(make_weights('caffe', width=0.03125, fc=4), tmp_path / 'out')
    assert run('-c', BLOCKED, cwd=tmp_path / 'out').out.strip() == '[1, 10]'


@pytest.mark.peers
def test_the_module_refuses_what_is_cut_short(tmp_path):
    pytest.importorskip('torch')
    (file, _) = pytorch.write(
        make_weights('caffe', width=0.03125, fc=4), tmp_path / 'out'
    )
    module, content = module_of(tmp_path / 'out'), file.read_bytes()
    for part in (0, 5, 100, len(content) - 4):
        file.write_bytes(content[:part])
        with pytest.raises(ValueError, match=r'cut short|no file'):
            module.load(file)
    header = {'w': {'dtype': 'F32', 'shape': [10**12], 'data_offsets': [0, 4 * 10**12]}}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, 'little') + text + bytes(4))
    with pytest.raises(ValueError, match='cut short'):
        module.load(file)
    assert 'alexnet_torch' not in sys.modules
