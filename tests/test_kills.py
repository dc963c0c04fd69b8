"""A run that is killed at any instant and started again is the uninterrupted one."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from array_record.python import array_record_module

from alexnet_jax import train
from alexnet_jax.data import pipeline
from alexnet_jax.run import checkpoint_folder, events
from experiments import kills, same_run
from tests import snapshots
from tests.conftest import ONE_DEVICE, end, free_port, make_small, start

# Eight steps an epoch, so that the run has two ends of one; evaluations and checkpoints
# at 6, 12, 18 and 20, log lines at 5, 10, 15 and 20. At 18 the rate is cut.
SHORT = {'data.train_split': 'train[:256]', 'train.eval_every_epochs': 0.75}
CUTS = (
    'step 1', 'step 3', 'line 5', 'scalars 6', 'best 6', 'save 6', 'step 7', 'step 8',
    'step 9', 'evaluation 12', 'save 12', 'best 18', 'save 18', 'step 19', 'best 20',
    'save 20',
)  # fmt: skip
# Of two devices, in the fast tests: with an evaluation and a save on their way.
FAST_CUTS = ('line 5', 'evaluation 12', 'save 18')


@pytest.fixture(scope='module')
def killed(small_values, tmp_path_factory):
    """The short run on two devices, uninterrupted, and its folder at the cuts."""
    folder = tmp_path_factory.mktemp('killed')
    return folder, train_with_snapshots(
        small_values, folder, FAST_CUTS, data=1, tower=2
    )


def train_with_snapshots(values, folder: Path, cuts, **mesh: int) -> dict:
    values = values | SHORT | {f'mesh.{axis}': size for axis, size in mesh.items()}
    with snapshots.taken(folder / 'whole', folder, set(cuts)):
        train.train_and_evaluate(make_small(values), folder / 'whole')
    return values


@pytest.mark.parametrize('cut', FAST_CUTS)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(killed, cut):
    folder, values = killed
    check_cut(folder, values, cut)


def check_cut(folder: Path, values: dict, cut: str) -> None:
    workdir = folder / cut.replace(' ', '_')
    assert (workdir / 'owner.json').exists()  # of the dead, who held it
    assert not (workdir / 'result.json').exists()
    train.train_and_evaluate(make_small(values), workdir)
    assert same_run.differences(workdir, folder / 'whole') == []
    assert not (workdir / 'owner.json').exists()


@pytest.mark.long
@pytest.mark.parametrize('tower', [1, 2])
def test_at_every_cut_on_one_and_on_two_devices(small_values, tmp_path, tower):
    values = train_with_snapshots(small_values, tmp_path, CUTS, data=1, tower=tower)
    for cut in CUTS:
        check_cut(tmp_path, values, cut)


PROCESS = """
import json
import sys
from pathlib import Path
import jax
from alexnet_jax import train
from alexnet_jax.system import processes
from tests import snapshots
from tests.conftest import make_small

jax.config.update('jax_num_cpu_devices', 1)  # conftest has 4
workdir, target, cuts, values = sys.argv[1:]
config = make_small(json.loads(values))
processes.start(config.distributed)
cuts = set(cuts.split(',')) if processes.is_first() else set()
with snapshots.taken(Path(workdir), Path(target), cuts):
    train.train_and_evaluate(config, Path(workdir))
"""


@pytest.mark.long
def test_at_every_cut_in_two_processes(small_values, tmp_path):
    values = small_values | SHORT | {'mesh.data': 1, 'mesh.tower': 2}
    whole = tmp_path / 'whole'
    run_pair(values, whole, tmp_path, CUTS)
    for cut in CUTS:
        workdir = tmp_path / cut.replace(' ', '_')
        run_pair(values, workdir, tmp_path, ())
        assert same_run.differences(workdir, whole) == []


def run_pair(values: dict, workdir: Path, target: Path, cuts) -> None:
    values = values | {
        'distributed.coordinator': f'127.0.0.1:{free_port()}',
        'distributed.num_processes': 2,
    }
    started: list[subprocess.Popen] = []
    for i in range(2):
        text = json.dumps(values | {'distributed.process_id': i})
        words = ('-c', PROCESS, workdir, target, ','.join(cuts), text)
        started.append(start(*words, **ONE_DEVICE))
    ends = [end(process, timeout=600) for process in started]
    assert [ended.status for ended in ends] == [0, 0], ends


def test_events_lose_later_points_and_torn_ends(killed, tmp_path):
    folder, _ = killed
    (source,) = (folder / 'whole').glob(events.FILES)
    content = source.read_bytes()
    path = tmp_path / source.name
    path.write_bytes(content[:-7])  # torn, as a kill leaves it
    before = same_run.points_of(tmp_path)
    assert before.pop('hparams') == []
    assert max(step for points in before.values() for step, _ in points) >= 18
    kept = events.rewind(tmp_path, lambda tag, step: step <= 12)
    after = same_run.points_of(tmp_path)
    assert after.pop('hparams') == []
    assert after == {
        tag: rest
        for tag, points in before.items()
        if (rest := [(step, value) for step, value in points if step <= 12])
    }
    assert {(tag, step) for tag in after for step, _ in after[tag]} <= kept
    assert ('train/loss', 10) in kept and ('train/loss', 15) not in kept
    events.rewind(tmp_path, None)
    assert list(tmp_path.iterdir()) == []


def test_a_signal_in_an_evaluation_stops_it_and_the_next_start_makes_it(
    killed, tmp_path, monkeypatch
):
    folder, values = killed
    plain = pipeline.eval_batches
    validations = []

    def eval_batches(*args, split, **options):
        for batch in plain(*args, split=split, **options):
            validations.extend([split] * split.startswith('validation'))
            if len(validations) == 2:  # that after step 12
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    config = make_small(values)
    monkeypatch.setattr(pipeline, 'eval_batches', eval_batches)
    with pytest.raises(SystemExit) as stopped:
        train.train_and_evaluate(config, tmp_path)
    assert stopped.value.code == 130
    assert max(line['step'] for line in same_run.metrics_of(tmp_path)) == 10
    meta = checkpoint_folder.newest_meta(tmp_path)
    assert meta['evaluated'] is False and validations[2:] == []
    monkeypatch.undo()
    train.train_and_evaluate(config, tmp_path)
    assert same_run.differences(tmp_path, folder / 'whole') == []


def test_config_lives_in_the_checkpoints(killed, tmp_path):
    """Without config.json, or with half of it, another config is refused."""
    folder, values = killed
    workdir = folder / 'save_18'
    as_json = (folder / 'whole' / 'config.json').read_text()
    other = make_small(values | {'optimizer.learning_rate': 0.5})
    for content in (None, as_json[:50], '[1]', '{}'):
        (workdir / 'config.json').unlink(missing_ok=True)
        if content is not None:
            (workdir / 'config.json').write_text(content)
        with pytest.raises(ValueError, match=r'learning_rate=0.001, and you asked'):
            train.train_and_evaluate(other, workdir)
    assert checkpoint_folder.newest_meta(workdir)['config'] == json.loads(as_json)


def message(field: int, *parts: bytes) -> bytes:
    """A protobuf field with a length."""
    content = b''.join(parts)
    return bytes([field << 3 | 2, len(content)]) + content


def test_the_order_of_a_records_entries_is_no_difference(tmp_path):
    """Protobuf's order of a map is another one in each process."""

    def digest(name, *entries):
        path = tmp_path / f'{name}.array_record-00000-of-00001'
        writer = array_record_module.ArrayRecordWriter(str(path), 'group_size:1')
        writer.write(message(1, *[message(1, entry) for entry in entries]))
        writer.close()
        return kills.digest_of(path)

    def label(number: int) -> bytes:
        return message(1, b'label') + message(
            2, message(3, message(1, bytes([number])))
        )

    image = message(1, b'image') + message(2, message(1, message(1, b'pixels')))
    one = digest('one', image, label(3))
    assert one == digest('two', label(3), image)
    assert one != digest('three', label(4), image)
