"""metrics.jsonl, TensorBoard events, config.json and provenance.json."""

import json
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.run import provenance, writers
from tests.conftest import read_metrics, run


@pytest.fixture
def no_tensorboard(monkeypatch):
    """Takes the events instead of clu; returns the list of calls."""
    calls = []

    class Recorder:
        def __getattr__(self, name):
            return lambda *args: calls.append((name, *args))

    monkeypatch.setattr(writers, '_summary_writer', lambda workdir: Recorder())
    return calls


def test_one_line_per_call_readable_at_once(tmp_path, no_tensorboard):
    with writers.MetricWriter(tmp_path, is_writer=True, resume_step=None) as writer:
        writer.scalars(1, {'train/loss': jnp.float32(2.5), 'n': np.int64(3)})
        assert read_metrics(tmp_path) == [{'step': 1, 'train/loss': 2.5, 'n': 3.0}]
        values = {'a': float('nan'), 'b': float('-inf'), 'c': np.float32('inf')}
        writer.scalars(2, values)
        assert read_metrics(tmp_path)[1] == {'step': 2, 'a': None, 'b': None, 'c': None}
    methods = [call[0] for call in no_tensorboard]
    assert methods.count('write_scalars') == 2
    assert methods[-1] == 'close'


@pytest.mark.parametrize(
    ('resume_step', 'kept'),
    [(None, []), (0, [0]), (2, [0, 1, 2, 2]), (9, [0, 1, 2, 2, 3])],
)
def test_lines_after_the_resumed_step_are_dropped(
    tmp_path, no_tensorboard, resume_step, kept
):
    text = ''.join(f'{{"step": {step}, "x": 1.0}}\n' for step in (0, 1, 2, 2, 3))
    (tmp_path / 'metrics.jsonl').write_text(text + '{"step": 1, "x": 0.2')  # torn
    with writers.MetricWriter(
        tmp_path, is_writer=True, resume_step=resume_step
    ) as writer:
        writer.scalars(7, {'x': 2.0})
    assert [line['step'] for line in read_metrics(tmp_path)] == [*kept, 7]
    assert [path.name for path in tmp_path.iterdir()] == ['metrics.jsonl']


def test_only_the_writer_writes(tmp_path):
    with writers.MetricWriter(tmp_path, is_writer=False, resume_step=None) as writer:
        writer.scalars(1, {'x': 1.0})
        writer.images(1, {'x': np.zeros((1, 2, 2, 3), np.uint8)})
        writer.histograms(1, {'x': np.zeros(3)})
        writer.hparams({'x': 1})
    assert list(tmp_path.iterdir()) == []


def test_arrays_are_those_of_the_call(tmp_path, no_tensorboard):
    image = np.zeros((1, 2, 2, 3), np.uint8)
    with writers.MetricWriter(tmp_path, is_writer=True, resume_step=None) as writer:
        writer.images(1, {'x': image})
        image[:] = 255
        writer.histograms(1, {'x': np.array([1.0, np.nan]), 'y': np.array([np.inf])})
    written = {call[0]: call[2] for call in no_tensorboard if len(call) > 2}
    assert not written['write_images']['visual/x'].any()
    assert {k: v.tolist() for k, v in written['write_histograms'].items()} == {
        'weights/x': [1]
    }


def test_histograms_of_large_arrays_are_of_a_sample(tmp_path, no_tensorboard):
    # TensorFlow takes 240 bytes for each value.
    values = np.random.default_rng(0).normal(3.0, 2.0, (2000, 1000))
    with writers.MetricWriter(tmp_path, is_writer=True, resume_step=None) as writer:
        writer.histograms(1, {'fc6/kernel': values})
    ((_, _, written),) = [c for c in no_tensorboard if c[0] == 'write_histograms']
    sample = written['weights/fc6/kernel']
    assert sample.shape == (writers.HISTOGRAM_SAMPLE,)
    assert (sample.mean(), sample.std()) == pytest.approx((3.0, 2.0), abs=0.03)


def test_step_cannot_be_a_metric(tmp_path, no_tensorboard):
    with (
        writers.MetricWriter(tmp_path, is_writer=True, resume_step=None) as writer,
        pytest.raises(ValueError, match="named 'step'"),
    ):
        writer.scalars(1, {'step': 2.0})


@pytest.mark.parametrize('when', ['open', 'write_scalars', 'close'])
def test_an_error_of_the_thread_is_raised(tmp_path, monkeypatch, when):
    class Broken:
        def __getattr__(self, name):
            def call(*_):
                if name == when:
                    raise OSError('no space left')

            return call

    def open_writer(workdir):
        if when == 'open':
            raise OSError('no space left')
        return Broken()

    monkeypatch.setattr(writers, '_summary_writer', open_writer)
    writer = writers.MetricWriter(tmp_path, is_writer=True, resume_step=None)

    def write() -> None:
        for step in range(1000):  # more than the queue holds: it must not block
            writer.scalars(step, {'x': 1.0})
        writer.close()

    with pytest.raises(ValueError, match=r'could not be written.*no space left'):
        write()
    writer.close()  # again is harmless
    assert not writer._thread.is_alive()


def test_tensorboard_reads_everything_back(tmp_path):
    from tensorboard.backend.event_processing import event_accumulator

    rng = np.random.default_rng(0)
    with writers.MetricWriter(tmp_path, is_writer=True, resume_step=None) as writer:
        for step in (1, 2):
            values = {'train/loss': 1 / step, 'test/loss': 1.0, 'bad': float('nan')}
            writer.scalars(step, values)
        writer.images(2, {'kernels': rng.integers(0, 255, (2, 8, 9, 3), np.uint8)})
        writer.histograms(2, {'conv1/kernel': jnp.ones((5, 5), jnp.bfloat16)})
        writer.hparams({'a.b': 1, 'c': (1, 2), 'd': None, 'e': True, 'f': 'x'})
    events = event_accumulator.EventAccumulator(
        str(tmp_path), size_guidance={event_accumulator.TENSORS: 0}
    )
    events.Reload()
    tags = set(events.Tags()['tensors'])
    assert {'train/loss', 'bad', 'visual/kernels', 'weights/conv1/kernel'} <= tags
    # TensorBoard's order: training and validation before all else.
    groups = sorted({tag.split('/')[0] for tag in tags} - {'bad', '_hparams_'})
    assert groups[0] == 'train' and groups[-1] == 'withheld_test'
    assert [e.step for e in events.Tensors('train/loss')] == [1, 2]
    metadata = events.summary_metadata['_hparams_/session_start_info']
    # The row of the HParams tab is named as the workdir.
    assert tmp_path.name.encode() in metadata.plugin_data.content


def test_importing_the_module_does_not_import_tensorflow():
    code = (
        'import sys, alexnet_jax.run.writers, alexnet_jax.run.pictures;'
        'print([m for m in ("tensorflow", "clu", "matplotlib") if m in sys.modules])'
    )
    assert run('-c', code).out.strip() == '[]'


def test_config_is_written_whole(tmp_path):
    provenance.write_config(tmp_path, {'seed': 0, 'model': {'layers': ['conv1']}})
    provenance.write_config(tmp_path, {'seed': 1})
    assert json.loads((tmp_path / 'config.json').read_text()) == {'seed': 1}
    with pytest.raises(TypeError):
        provenance.write_config(tmp_path, {'seed': object()})
    assert json.loads((tmp_path / 'config.json').read_text()) == {'seed': 1}
    assert [path.name for path in tmp_path.iterdir()] == ['config.json']


def test_provenance_lists_every_start(tmp_path):
    provenance.write_provenance(tmp_path, {'first_step': 0})
    provenance.write_provenance(tmp_path, {'first_step': 8})
    starts = json.loads((tmp_path / 'provenance.json').read_text())['starts']
    assert [start['first_step'] for start in starts] == [0, 8]
    start = starts[0]
    assert start['packages']['jax'] and start['packages']['clu']
    assert start['time'].endswith('+00:00')
    assert len(start['devices']) >= 1
    assert 'python' in start['command']


def test_damaged_provenance_is_put_aside(tmp_path):
    (tmp_path / 'provenance.json').write_text('{"starts": [')
    provenance.write_provenance(tmp_path)
    content = json.loads((tmp_path / 'provenance.json').read_text())
    assert len(content['starts']) == 1
    assert (tmp_path / 'provenance.damaged.json').exists()


def test_git_names_the_commit_that_the_code_is_in(tmp_path):
    source = tmp_path / 'package.py'
    source.write_text('')
    assert provenance.git_of(source) is None

    def git(*args: str) -> str:
        identity = ['-c', 'user.name=a', '-c', 'user.email=a@example.org']
        return subprocess.run(
            ['git', *identity, *args], cwd=tmp_path, check=True, capture_output=True
        ).stdout.decode()

    git('init', '-q')
    assert provenance.git_of(source) is None  # not tracked: an installed package
    git('add', 'package.py')
    git('commit', '-q', '-m', 'one')
    commit = git('rev-parse', 'HEAD').strip()
    assert provenance.git_of(source) == {'commit': commit, 'dirty': False}
    source.write_text('changed')
    assert provenance.git_of(source) == {'commit': commit, 'dirty': True}
