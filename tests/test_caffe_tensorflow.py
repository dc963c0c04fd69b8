"""caffe-tensorflow's .npy as numpy pickles it, and pickles that are programs."""

import io
import os
import pickle
import struct

import numpy as np
import pytest

from alexnet_jax.formats import numpy_pickles, registry
from tests.conftest import run_here
from tests.formats import make_weights


def layers_of(weights, as_list: bool) -> dict:
    """BGR, fc6's rows by (row, column, channel)."""
    towers, made = weights.network.towers, {}
    for name, params in weights.params.items():
        kernel = params['kernel']
        if name == 'conv1':
            kernel = kernel[:, :, ::-1]
        if name == 'fc6':
            own = kernel.reshape(towers, 36, -1, kernel.shape[-1])
            kernel = own.transpose(1, 0, 2, 3).reshape(kernel.shape)
        pair = [np.ascontiguousarray(kernel), params['bias']]
        made[name] = pair if as_list else dict(zip(('weights', 'biases'), pair))  # noqa: B905
    return made


def npy(content: bytes) -> bytes:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header = header.ljust(117) + b'\n'
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header + content


@pytest.mark.parametrize('as_list', [True, False])
@pytest.mark.parametrize('protocol', [2, 3, 4])
def test_what_numpy_pickles_is_read_to_the_bit(tmp_path, as_list, protocol):
    weights = make_weights('caffe', width=1 / 32, fc=8)
    path = tmp_path / 'bvlc_alexnet.npy'
    layers = layers_of(weights, as_list)
    path.write_bytes(npy(pickle.dumps(np.array(layers, object), protocol)))
    if protocol == 4:
        np.save(path, np.array(layers, object), allow_pickle=True)
    again = registry.read(path)
    assert again.digest == weights.digest and again.network == weights.network
    assert registry.read(path, network='caffenet').digest == weights.digest


def test_numpy_reads_what_is_written_as_caffe_tensorflow_makes_it(tmp_path):
    weights = make_weights('caffenet', width=1 / 32, fc=8)
    path = tmp_path / 'net.npy'
    assert registry.write(weights, path) == [path]
    assert registry.read(path, network='caffenet').digest == weights.digest
    found, wanted = np.load(path, allow_pickle=True).item(), layers_of(weights, False)
    assert list(found) == list(wanted)
    for name, layer in wanted.items():
        assert found[name].keys() == layer.keys()
        for key, value in layer.items():
            np.testing.assert_array_equal(found[name][key], value)


def test_what_python_2_wrote_is_read_to_the_bit(tmp_path):
    """Its bytes are texts, its dtype has no `False`: opcodes U and T, as it wrote."""
    values = np.arange(6, dtype='<f4').reshape(2, 3)
    array = (
        b'cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85'
        b'U\x01b\x87R(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R'
        b'(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89'
        b'T\x18\x00\x00\x00' + values.tobytes() + b'tb'
    )
    path = tmp_path / 'a.npy'
    path.write_bytes(npy(b'\x80\x02}U\x05conv1]' + array + b'as.'))
    (found,) = numpy_pickles.read_npy(path)['conv1']
    np.testing.assert_array_equal(found, values)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


def huge(count: int) -> bytes:
    return (
        b'\x80\x02}U\x05conv1]cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n'
        b'K\x00\x85U\x01b\x87R(K\x01' + pickle.dumps(count, 2)[2:-1] + b'\x85cnumpy\n'
        b'dtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff'
        b'K\x00tb\x89U\x04abcdtbas.'
    )


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        (b'', 'no .npy'),
        (npy(b''), 'no dict of arrays'),
        (npy(huge(10**12)), 'claims 1000000000000 numbers'),
        (npy(b'cos\nsystem\n(S"true"\ntR.'), "names 'os system'"),
        (npy(b'\x80\x04\x8c\x08builtins\x8c\x04eval\x93.'), "names 'builtins eval'"),
        (npy(b'(' * 200_000 + b'.'), 'no dict of arrays'),
        (npy(b'\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.'), 'no dict of arrays'),
        (npy(b'r\xff\xff\xff\x7f.'), 'no dict of arrays'),
        (npy(b'P1\n.'), 'PERSID is not allowed'),
        (npy(b'}}s.'), 'no dict of arrays'),
        (npy(b']q\x00h\x00a.'), 'several places'),
        (npy(b'}U\x05../..Ns.'), 'holds a NoneType'),
        (b'\x93NUMPY\x01\x00\xff\xff', 'no .npy'),
    ],
)
def test_programs_and_claims_are_refused_in_one_line(tmp_path, content, says):
    path = tmp_path / 'a.npy'
    path.write_bytes(content)
    assert says in run_here('alexnet_jax.weights', 'inspect', path).error


def test_nothing_of_a_pickle_runs(tmp_path):
    touched = tmp_path / 'touched'
    for protocol in range(5):
        path = tmp_path / f'{protocol}.npy'
        path.write_bytes(npy(pickle.dumps({'conv1': Evil(touched)}, protocol)))
        with pytest.raises(ValueError, match='not allowed'):
            registry.read(path)
    assert not touched.exists()
    pickle.loads(pickle.dumps(Evil(touched)))  # which it would
    assert touched.exists()


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = io.BytesIO()
    weights = make_weights('caffe', width=1 / 32, fc=8)
    np.save(whole, np.array(layers_of(weights, True), object), allow_pickle=True)
    path = tmp_path / 'a.npy'
    for length in np.linspace(0, len(whole.getvalue()) - 2, 40, dtype=int):
        path.write_bytes(whole.getvalue()[:length])
        with pytest.raises(ValueError, match=r'a\.npy'):
            registry.read(path)
