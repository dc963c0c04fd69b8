"""The exported program predicts as we do, where this package is not."""

import json

import jax
import numpy as np
import pytest
from jax import export

from alexnet_jax.formats import jax_export, networks, registry
from tests.conftest import run, run_here
from tests.formats import make_weights, narrow, photographs, taps
from tests.reference_numpy import relative_error

RUN = ('released_2012', 'cuda_convnet:conv_local_11pct')
ELSEWHERE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'alexnet_jax', 'flax', 'ml_collections'}:
            raise ModuleNotFoundError(f'{name} is blocked in this test')

sys.meta_path.insert(0, Blocked())
import jax.export
import numpy as np

for name in sys.argv[1:]:
    content = open(f'{name}.jax_export', 'rb').read()
    prediction = jax.export.deserialize(content)
    squares = np.load(f'{name}.npy')
    for count in (1, len(squares)):
        np.save(f'{name}.{count}.npy', prediction.call(squares[:count]))
print('predicted')
"""


def test_it_predicts_without_this_package(shared_data, tmp_path):
    names = [f'net{i}' for i in range(len(RUN))]
    expected = {}
    for name, network in zip(names, RUN, strict=True):
        weights = narrow(network)
        squares = photographs(shared_data, weights.preprocessing.stored_size)
        np.save(tmp_path / f'{name}.npy', squares)
        written = registry.write(weights, tmp_path / f'{name}.jax_export')
        said = json.loads(written[1].read_text())
        assert said['class_names'] == list(weights.class_names)
        expected[name] = jax.nn.softmax(taps(weights, squares)['logits'])
    assert run('-c', ELSEWHERE, *names, cwd=tmp_path).out.strip() == 'predicted'
    for name, probabilities in expected.items():
        assert probabilities.max() < 0.999  # else the softmax hides the logits
        for count in (1, len(probabilities)):
            theirs = np.load(tmp_path / f'{name}.{count}.npy')
            assert relative_error(theirs, probabilities[:count]) <= 1e-5


@pytest.mark.parametrize('name', networks.NAMES)
def test_every_network_is_exported_for_every_platform(name):
    exported = jax_export.program(narrow(name))
    assert exported.platforms == ('cpu', 'cuda', 'tpu')
    assert not isinstance(exported.in_avals[0].shape[0], int)


@pytest.mark.parametrize('name', ['released_2012', 'cuda_convnet:18pct'])
def test_the_forms_for_a_cpu_are_not_in_it(name, monkeypatch):
    """The same program comes from a CPU, which has such forms, and from a TPU."""

    def operations() -> list[str]:
        lines = jax_export.program(weights).mlir_module().splitlines()
        return [line for line in lines if not line.startswith('#loc')]

    weights = make_weights(name, width=0.125, fc=4)
    on_cpu = operations()
    monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
    assert operations() == on_cpu


def test_it_is_not_read_back(tmp_path):
    (path, _) = jax_export.write(
        make_weights('caffe', width=0.03125, fc=4), tmp_path / 'a.jax_export'
    )
    assert export.deserialize(bytearray(path.read_bytes())).nr_devices == 1
    words = ('alexnet_jax.weights', 'export', path, f'--out={tmp_path / "a.npy"}')
    assert 'jax_export is not read here' in run_here(*words).error


def test_inspect_says_what_a_program_takes_and_gives(tmp_path):
    weights = make_weights('caffe', width=1 / 32, classes=7, fc=4)
    path, said = jax_export.write(weights, tmp_path / 'a.jax_export')
    inspect = ('alexnet_jax.weights', 'inspect', path)
    done = run_here(*inspect)
    assert 'takes: squares uint8[N, 256, 256, 3]' in done.out, done
    assert 'gives: probabilities float32[N, 7]' in done.out
    assert weights.digest in done.out and 'for cpu, cuda, tpu' in done.out
    (row,) = [line for line in done.out.splitlines() if 'fc8/kernel' in line]
    assert row.split() == ['fc8/kernel', '2×7']
    stated = json.loads(said.read_text())
    for change, words in (
        ({'classes': 10**12}, "'classes' is '1000000000000'"),
        ({'platforms': 'cpu'}, "'platforms' is 'cpu'"),
        ({'sha256': '0' * 64}, 'is not the program'),
    ):
        said.write_text(json.dumps(stated | {'program': stated['program'] | change}))
        assert words in run_here(*inspect).error
    said.write_text('[' * 100_000)
    assert 'nested' in run_here(*inspect).error
    said.unlink()
    assert 'a.jax_export.json' in run_here(*inspect).error
