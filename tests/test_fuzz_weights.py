"""The fuzzer finds what it is for, and its record's table is that of its numbers."""

import pytest

from alexnet_jax.formats import registry
from alexnet_jax.system import files
from experiments import fuzz_weights


def test_readers_refuse_in_one_line_or_read(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz_weights, 'RECORD', tmp_path)
    record = {}
    for name in fuzz_weights._PIECES:
        fuzz_weights.fuzz(name, 60, tmp_path, record)
    for name, done in record.items():
        assert done['inputs'] == done['refused'] + done['read'] == 60, name
        assert not done['faults']


def test_a_reader_that_fails_otherwise_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz_weights, 'RECORD', tmp_path)

    def broken(path, format):
        raise KeyError('a')

    record = {}
    real = fuzz_weights.seeds(tmp_path)
    monkeypatch.setattr(fuzz_weights, 'seeds', lambda folder: real)
    monkeypatch.setattr(registry, 'read', broken)
    fuzz_weights.fuzz('caffe', 3, tmp_path, record)
    assert len(record['caffe']['faults']) == 3
    assert record['caffe']['faults'][0]['why'] == "KeyError: 'a'"


def test_the_table_is_that_of_the_record():
    record = files.read_json(fuzz_weights.RECORD / 'record.json')
    if record is None:
        pytest.skip('nothing recorded')
    assert (fuzz_weights.RECORD / 'table.md').read_text() == fuzz_weights.table(record)
