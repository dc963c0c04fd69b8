"""`evaluate` beyond the totals: classes, calibration, mistakes, other data sets."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from PIL import Image
from tensorflow_datasets.core import dataset_info

import alexnet_jax
from alexnet_jax.analysis import calibration, confusion, prediction, report
from alexnet_jax.data import images, pipeline, prepare
from tests.conftest import Ended, as_flags, run_here

COUNT = 130  # of the small run's test split


def make(probabilities, labels) -> prediction.Predictions:
    return prediction.Predictions(
        np.log(np.asarray(probabilities, np.float32)), np.asarray(labels, np.int32)
    )


def evaluate(workdir: Path, *arguments: object) -> Ended:
    return run_here('alexnet_jax.evaluate', f'--workdir={workdir}', *arguments)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


# Small cases by hand.


def test_classes_are_counted_with_their_ties_and_pairs_by_frequency():
    found = make(
        [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.4, 0.4, 0.2]],
        [0, 0, 0, 1],
    )
    names = ('a', 'b', 'c')
    counts = confusion.matrix(found)
    np.testing.assert_array_equal(counts, [[1, 2, 0], [1, 0, 0], [0, 0, 0]])
    a, b = confusion.per_class(found, names)
    assert (a.name, a.examples, a.taken_for) == ('a', 3, 'b')
    assert a.top1_error == pytest.approx(2 / 3) and b.top1_error == 0.5
    assert confusion.worst_pairs(counts, names) == [('a', 'b', 2), ('b', 'a', 1)]
    text = confusion.table([a, b], most=1)
    assert text.splitlines()[1].split() == ['a', '3', '33.3%', 'b']
    assert '1 better' in text


def test_calibration_error_is_the_mean_gap_of_the_bins():
    # Two examples say 0.85, one is right; two say 0.55, both are.
    found = make([[0.85, 0.15], [0.85, 0.15], [0.55, 0.45], [0.45, 0.55]], [0, 1, 0, 1])
    of_bins = calibration.bins(found, count=10)
    filled = {b.high: b for b in of_bins if b.examples}
    assert {high: b.examples for high, b in filled.items()} == {0.6: 2, 0.9: 2}
    assert filled[0.9].accuracy == 0.5 and filled[0.6].accuracy == 1.0
    assert filled[0.9].confidence == pytest.approx(0.85)
    assert calibration.expected_error(of_bins) == pytest.approx(0.4)


def test_the_worst_mistake_gives_the_truth_the_least():
    found = make(
        [[0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.7, 0.1, 0.2], [0.5, 0.4, 0.1]],
        [0, 1, 2, 1],
    )
    assert report.worst_mistakes(found, 2).tolist() == [2, 1]


def test_class_names_are_matched_and_unknown_ones_refused():
    known = ('cat', 'dog', 'owl')
    labels = prediction.matched_labels(('owl', 'cat'), known, 'pets')
    assert labels.tolist() == [2, 0]
    with pytest.raises(
        ValueError, match=r'pets has classes .* know: eel; it knows cat'
    ):
        prediction.matched_labels(('cat', 'eel'), known, 'pets')


# The command.


@pytest.fixture(scope='module')
def reported(whole_run, tmp_path_factory) -> tuple[Path, Ended]:
    folder = tmp_path_factory.mktemp('report')
    done = evaluate(
        whole_run['workdir'], '--split=test', '--checkpoint=latest', '--views=1',
        f'--report={folder}', f'--predictions={folder / "predictions.npz"}',
        f'--out={folder / "out.json"}',
    )  # fmt: skip
    assert done.status == 0, done
    return folder, done


def test_the_report_adds_up_to_the_runs_own_scalars(whole_run, reported):
    folder, done = reported
    results = whole_run['results']
    (row,) = json.loads((folder / 'out.json').read_text())['rows']
    for error in ('loss', 'top1_error', 'top5_error'):
        assert row[error] == results[f'test/{error}']
    per_class = rows_of(folder / 'per_class.csv')
    for error in ('top1_error', 'top5_error'):
        total = sum(int(c['examples']) * float(c[error]) for c in per_class)
        assert total / COUNT == pytest.approx(results[f'test/{error}'], abs=1e-12)
    counts = np.array(
        [list(r.values())[1:] for r in rows_of(folder / 'confusion.csv')], int
    )
    assert counts.sum() == COUNT
    assert 1 - counts.trace() / COUNT == pytest.approx(results['test/top1_error'])
    assert sum(int(r['examples']) for r in rows_of(folder / 'calibration.csv')) == COUNT
    for words in ('most often taken for', 'calibration error', 'taken for'):
        assert words in done.out


def test_predictions_have_an_id_and_every_probability(whole_run, reported):
    folder, _ = reported
    with np.load(folder / 'predictions.npz') as found:
        arrays = dict(found)
    assert arrays['id'].tolist() == [f'test[{i}]' for i in range(COUNT)]
    assert arrays['probability'].shape == (COUNT, 10)
    names = arrays['class_names'].tolist()
    np.testing.assert_array_equal(arrays['top'][:, 0], arrays['probability'].argmax(1))
    wrong = np.mean(arrays['top'][:, 0] != arrays['label'])
    assert wrong == pytest.approx(whole_run['results']['test/top1_error'])
    mistakes = rows_of(folder / 'mistakes.csv')
    assert mistakes
    for line in mistakes:
        place = int(line['id'][5:-1])
        assert names[arrays['label'][place]] == line['label'] != line['guess']
        assert arrays['probability'][place].max() == pytest.approx(
            float(line['probability']), rel=1e-4
        )


@pytest.mark.parametrize('name', ['confusion.png', 'reliability.png', 'mistakes.png'])
def test_pictures_are_drawn(reported, name):
    with Image.open(reported[0] / name) as picture:
        assert min(picture.size) > 500
        shades = np.asarray(picture.convert('L'))
    assert np.median(shades) > 150 and shades.std() > 20  # dark on white


def test_another_folder_with_some_of_the_classes(whole_run, small, tmp_path):
    """Three classes in another order, two formats, from the demo's own test images."""
    dataset = prepare.open_prepared(small.data)
    (batch,) = pipeline.eval_batches(dataset, small.data, split='test[:60]',
                                     batch_size=60)  # fmt: skip
    names = dataset.class_names
    chosen = sorted(names[i] for i in (7, 2, 5))
    assert [names.index(name) for name in chosen] != sorted(map(names.index, chosen))
    for i, (image, label) in enumerate(zip(*[batch[k] for k in ('image', 'label')],
                                           strict=True)):  # fmt: skip
        if names[label] in chosen:
            file = tmp_path / 'set' / 'holdout' / names[label] / f'{i}.png'
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
    changes = as_flags(
        {'source': 'folder', 'data_dir': tmp_path / 'set', 'test_split': 'holdout',
         'prepared_dir': tmp_path / 'prepared'}, 'config.data',
    )  # fmt: skip
    out = tmp_path / 'out.csv'
    arguments = ['--split=test', *changes, f'--predictions={out}',
                 f'--out={tmp_path / "out.json"}']  # fmt: skip
    done = evaluate(whole_run['workdir'], *arguments)
    assert done.status == 0, done
    net = alexnet_jax.load(whole_run['workdir'])
    lines = rows_of(out)
    assert len(lines) == np.isin(batch['label'], [names.index(c) for c in chosen]).sum()
    wrong = 0
    for line in lines:
        encoded = (tmp_path / 'set' / line['id']).read_bytes()
        square = images.encode(encoded, images.stored(net.config.data))[1]
        guess = net.class_names[net.predict(square)[0].argmax()]
        assert line['id'].split('/')[1] == line['label'] and line['class_1'] == guess
        wrong += guess != line['label']
    (row,) = json.loads((tmp_path / 'out.json').read_text())['rows']
    assert row['top1_error'] == pytest.approx(wrong / len(lines))
    assert row['classes'] == 10 and row['examples'] == len(lines)
    # A folder of classes is divided; evaluate says of what this is a part.
    divided = (
        changes[0],
        *as_flags(
            {'data_dir': tmp_path / 'set/holdout', 'test_split': 'test'}, 'config.data'
        ),
        changes[-1],
    )
    done = evaluate(whole_run['workdir'], '--split=test', *divided, *arguments[-2:])
    assert done.status == 0 and ', test 1' in done.err, done
    stranger = tmp_path / 'set' / 'holdout' / 'pentagon'
    stranger.mkdir()
    Image.fromarray(batch['image'][0]).save(stranger / 'a.png')
    refused = evaluate(whole_run['workdir'], *arguments)
    assert refused.status == 1
    line = refused.err.splitlines()[-1]  # after the bar of preparation
    assert line.startswith('error: ') and 'does not know: pentagon' in line


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--config.data.crop_size=20'], ['crop_size=20', 'trained with 28']),
        (['--config.train.epochs=3'], ['--config.train.epochs=3', 'config.data']),
        (['--config.data.sorce=x'], ['sorce', 'nearest: --config.data.source']),
        (['--config=demo'], ['--config=demo', 'of the workdir']),
        (['--config.data.test_split=', '--split=test'], ['no test split']),
        (['--predictions=a.txt'], ['--predictions=a.txt', '.csv']),
        (['--predictions=no/where.csv'], ['no/where.csv', 'folder']),
    ],
)
def test_a_users_mistake_is_one_line(whole_run, arguments, words):
    line = evaluate(whole_run['workdir'], *arguments).error
    assert all(word in line for word in words), line


def test_ten_views_of_a_net_trained_without_mirrors_warn(whole_run, tmp_path):
    arguments = ('--split=test', f'--out={tmp_path / "out.json"}')
    ten = evaluate(whole_run['workdir'], '--views=10', *arguments)
    one = evaluate(whole_run['workdir'], '--views=1', *arguments)
    assert 'warning: this net was trained without mirrors' in ten.err
    assert not one.err


# A split without labels.


def unlabelled_set(directory: Path, class_names: tuple[str, ...], files: dict) -> None:
    """A TFDS set whose test split has names of files and labels of -1."""
    info = tfds.core.DatasetInfo(
        builder=dataset_info.DatasetIdentity(
            name='contest', version=tfds.core.Version('1.0.0'),
            data_dir=str(directory), module_name='',
        ),
        features=tfds.features.FeaturesDict(
            {
                'image': tfds.features.Image(shape=(32, 32, 3), encoding_format='png'),
                'file_name': tfds.features.Text(),
                'label': tfds.features.ClassLabel(names=class_names),
            }
        ),
    )  # fmt: skip
    directory.mkdir(parents=True)
    template = tfds.core.ShardedFileTemplate(
        data_dir=tfds.core.Path(directory), dataset_name='contest', split='test',
        filetype_suffix='array_record',
    )  # fmt: skip
    path = str(template.sharded_filepath(shard_index=0, num_shards=1))
    writer = array_record_module.ArrayRecordWriter(path, 'group_size:1')
    for name, pixels in files.items():
        example = {'image': pixels, 'file_name': name, 'label': -1}
        writer.write(
            info.features.serialize_example(info.features.encode_example(example))
        )
    writer.close()
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    split = tfds.core.SplitInfo(
        name='test', shard_lengths=[len(files)], num_bytes=1, filename_template=template
    )
    info.set_splits(tfds.core.splits.SplitDict([split]))
    info.write_to_directory(directory)


def test_a_split_without_labels_gives_five_guesses_a_line_by_file_name(
    whole_run, tmp_path
):
    rng = np.random.default_rng(0)
    order = (3, 1, 2)  # as in TFDS, not that of the names
    files = {
        f'ILSVRC2012_test_{i:08}.JPEG': rng.integers(0, 256, (32, 32, 3), np.uint8)
        for i in order
    }
    net = alexnet_jax.load(whole_run['workdir'])
    unlabelled_set(tmp_path / 'tfds/contest/1.0.0', net.class_names, files)
    numbers = tmp_path / 'map_clsloc.txt'
    numbers.write_text(
        ''.join(f'{name} {100 - i}\n' for i, name in enumerate(net.class_names))
    )
    out = tmp_path / 'submission.txt'
    arguments = as_flags(
        {'source': 'contest', 'data_dir': tmp_path / 'tfds', 'test_split': 'test',
         'prepared_dir': tmp_path / 'prepared'}, 'config.data',
    )  # fmt: skip
    done = evaluate(whole_run['workdir'], '--split=test', f'--out={out}', *arguments,
                    f'--class_numbers={numbers}')  # fmt: skip
    assert done.status == 0 and not done.err, done
    expected = ''
    for name in sorted(files):
        best = np.argsort(-net.predict(files[name])[0])[:5]
        expected += ' '.join(str(100 - b) for b in best) + '\n'
    assert out.read_text() == expected
    done = evaluate(whole_run['workdir'], '--split=test', f'--out={out}', *arguments)
    assert 'class_numbers' in done.err
    assert out.read_text().split()[0] == str(101 - int(expected.split()[0]))
