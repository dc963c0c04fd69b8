"""A .npy of arrays is read, and nothing in it is run."""

import pickle

import numpy as np
import pytest

from alexnet_jax.formats import numpy_pickles


@pytest.mark.parametrize('python', ['2', '3'])
def test_what_numpy_writes_is_read(python, tmp_path):
    weights = np.arange(6, dtype=np.float32).reshape(2, 3).T  # by columns
    path = tmp_path / 'a.npy'
    content = {'conv1': {'weights': weights, 'biases': np.ones(2)}}
    if python == '3':
        np.save(path, content, allow_pickle=True)
    else:  # as Python 2 pickled it: bytes are text
        whole = np.array(content, object)
        np.save(path, whole, allow_pickle=True)
        header = path.read_bytes().partition(b'\x80')[0]
        path.write_bytes(header + pickle.dumps(whole, 2).replace(b'_core', b'core'))
    found = numpy_pickles.read_npy(path)
    np.testing.assert_array_equal(found['conv1']['weights'], weights)
    np.testing.assert_array_equal(found['conv1']['biases'], np.ones(2))


class Evil:
    def __reduce__(self):
        return eval, ('1',)


LAUGHS: dict[str, object] = {}
for _ in range(10):
    LAUGHS = {f'{i}': LAUGHS for i in range(10)}
HOSTILE = {
    'code': ({'a': Evil()}, 'builtin'),
    'objects': ({'a': np.array([None])}, 'another state'),
    'integers': ({'a': np.arange(3)}, "'i8'"),
    'no array': ({'a': {'b': 'text'}}, 'holds a str'),
    'a bomb': ({f'{i}': LAUGHS for i in range(100)}, 'several places'),
}


@pytest.mark.parametrize('case', HOSTILE)
def test_what_is_no_array_is_refused(case, tmp_path):
    content, says = HOSTILE[case]
    np.save(tmp_path / 'a.npy', content, allow_pickle=True)
    with pytest.raises(ValueError, match=says) as refused:
        numpy_pickles.read_npy(tmp_path / 'a.npy')
    assert '\n' not in str(refused.value)
