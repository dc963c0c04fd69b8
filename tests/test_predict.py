"""`predict` on files and folders, and `export_workdir`."""

import csv
import errno
import io
import itertools
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import alexnet_jax
from alexnet_jax import train
from alexnet_jax.analysis import ensembles
from alexnet_jax.data import images, photographs, pipeline, prepare
from alexnet_jax.run import trained
from tests.conftest import Ended, load, run, run_here


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Images in folders named after classes of the demo and one that is none."""
    root = tmp_path_factory.mktemp('photographs')
    rng = np.random.default_rng(0)
    for name, size in (
        ('ring/b.png', (40, 30)), ('ring/a.jpg', (64, 96)), ('star/c.png', (32, 32)),
        ('unknown/d.JPEG', (100, 50)), ('.hidden/e.png', (32, 32)),
    ):  # fmt: skip
        (root / name).parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(root / name)
    (root / 'notes.txt').write_text('no image')
    return root


@pytest.fixture(scope='module')
def workdir(whole_run) -> Path:
    return whole_run['workdir']


def predict(workdir: Path, *arguments: object) -> Ended:
    return run_here('alexnet_jax.predict', f'--workdir={workdir}', *arguments)


def expected(workdir: Path, file: Path, views: int = 1) -> np.ndarray:
    net = alexnet_jax.load(workdir)
    square = images.encode(file.read_bytes(), images.stored(net.config.data))[1]
    return net.predict(square, views=views)[0]


def test_json_lines_have_the_best_classes_of_every_image_below_a_folder(
    workdir, folder
):
    done = predict(workdir, folder, '--format=jsonl', '--top=3')
    assert done.status == 0, done
    lines = [json.loads(line) for line in done.out.splitlines()]
    files = ['ring/a.jpg', 'ring/b.png', 'star/c.png', 'unknown/d.JPEG']
    assert [line['file'] for line in lines] == [str(folder / f) for f in files]
    assert [line['label'] for line in lines] == ['ring', 'ring', 'star', None]
    names = alexnet_jax.load(workdir).class_names
    for line, file in zip(lines, files, strict=True):
        probabilities = expected(workdir, folder / file)
        best = np.argsort(-probabilities)[:3]
        assert [guess['class'] for guess in line['top']] == [names[b] for b in best]
        np.testing.assert_allclose(
            [guess['probability'] for guess in line['top']],
            probabilities[best],
            rtol=1e-4,
        )


def test_a_table_is_aligned_and_csv_says_the_same(workdir, folder, tmp_path):
    out = tmp_path / 'guesses.csv'
    done = predict(workdir, folder, folder / 'star/c.png', '--top=2', '--views=10')
    assert done.status == 0 and 'without mirrors' in done.err
    header, *rows = done.out.splitlines()
    assert len(rows) == 5 and header.split() == ['file', '1', '2']
    assert {row.index('%') for row in rows} == {rows[0].index('%')}
    again = predict(
        workdir, folder, '--format=csv', f'--output={out}', '--top=2', '--views=10'
    )
    assert again.status == 0 and not again.out
    for row, line in zip(rows, csv.DictReader(out.open()), strict=False):
        file, first, p, *_ = row.split()
        assert (file, first) == (line['file'], line['class_1'])
        assert float(p[:-1]) / 100 == pytest.approx(
            float(line['probability_1']), abs=1e-4
        )
        assert float(line['probability_1']) == pytest.approx(
            expected(workdir, Path(file), 10).max(), rel=1e-4
        )


def test_a_bad_file_is_named_and_the_others_are_done(workdir, folder, tmp_path):
    (tmp_path / 'bad.jpg').write_bytes(b'junk')
    (tmp_path / 'cut.png').write_bytes((folder / 'star/c.png').read_bytes()[:200])
    (tmp_path / 'gone.png').symlink_to('nowhere.png')
    (tmp_path / 'loop').symlink_to('loop')  # to itself, as the next
    (tmp_path / 'loop.png').symlink_to('loop.png')
    missing = tmp_path / 'missing.png'
    done = predict(workdir, tmp_path, missing, folder / 'ring', '--format=csv')
    assert done.status == 1
    assert len(list(csv.DictReader(io.StringIO(done.out)))) == 2
    *skipped, last = done.err.splitlines()
    assert [line.split()[1] for line in skipped] == [
        f'{tmp_path / name}:'
        for name in ('bad.jpg', 'cut.png', 'gone.png', 'loop.png', 'missing.png')
    ]
    assert last == (
        'error: 5 of 7 files could not be read, see above; the others are done'
    )


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_done(
    folder, tmp_path, monkeypatch
):
    for name in ('mine', 'yours'):
        (tmp_path / name).mkdir()
        shutil.copy(folder / 'star/c.png', tmp_path / name)
    plain = os.scandir

    def scandir(path):
        if Path(path).name == 'yours':  # root may read any
            raise PermissionError(errno.EACCES, 'Permission denied', str(path))
        return plain(path)

    monkeypatch.setattr(os, 'scandir', scandir)
    stored = images.Stored(size=8, fit='crop', encoding='raw', jpeg_quality=95)
    good, bad = photographs.read(photographs.find([tmp_path]), stored, ahead=2)
    assert good.path.name == 'c.png' and not good.problem
    assert bad.path.name == 'yours' and bad.problem == 'Permission denied'


def test_a_mistake_leaves_the_files_that_are_there(workdir, folder, tmp_path):
    kept, photograph = tmp_path / 'kept.csv', tmp_path / 'a.png'
    kept.write_text('of an earlier run')
    photograph.write_bytes((folder / 'star/c.png').read_bytes())
    for words in (
        ['nowhere.png', f'--output={kept}'],
        [photograph, f'--output={photograph}'],
    ):
        assert predict(workdir, *words).error
    assert kept.read_text() == 'of an earlier run'
    assert photograph.read_bytes() == (folder / 'star/c.png').read_bytes()


@pytest.mark.parametrize('encoding', ['raw', 'jpeg'])
def test_its_pixels_are_those_of_the_prepared_set(tmp_path, encoding):
    rng = np.random.default_rng(1)
    for name, mode, size in (
        ('a/one.jpg', 'RGB', (90, 61)), ('a/two.png', 'RGBA', (33, 80)),
        ('b/three.png', 'P', (64, 64)), ('b/four.jpg', 'L', (200, 100)),
    ):  # fmt: skip
        file = tmp_path / 'set' / 'train' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
        noise.resize(size[::-1]).convert(mode).save(file)
    data = load('clothing').data
    data.data_dir, data.prepared_dir = str(tmp_path / 'set'), str(tmp_path / 'prepared')
    data.validation_split = data.test_split = ''
    data.stored_size, data.encoding = 48, encoding
    dataset = prepare.open_prepared(data)
    (batch,) = pipeline.eval_batches(dataset, data, split='train', batch_size=4)
    files = list(photographs.find([tmp_path / 'set']))
    found = list(photographs.read(files, images.stored(data), ahead=3))
    assert [photograph.path for photograph in found] == files
    ours = sorted(p.pixels.tobytes() for p in found if p.pixels is not None)
    assert ours == sorted(image.tobytes() for image in batch['image'])


def test_files_are_taken_only_as_they_are_needed(folder):
    asked = []

    def endless():
        for i in itertools.count():
            asked.append(i)
            yield folder / 'star' / 'c.png'

    stored = images.Stored(32, 'crop', 'raw', 95)
    read = photographs.read(endless(), stored, ahead=4)
    assert all(next(read).pixels is not None for _ in range(3))
    assert len(asked) <= 3 + 4
    read.close()


def test_figure_4_is_drawn(workdir, folder, tmp_path):
    picture = tmp_path / 'guesses.png'
    done = predict(workdir, folder, f'--figure={picture}')
    assert done.status == 0 and str(picture) in done.err
    with Image.open(picture) as drawn:
        assert drawn.width > 1000  # four images beside each other
        assert len(drawn.convert('RGB').getcolors(1 << 20) or ()) > 100


def test_without_matplotlib_a_picture_is_refused_before_the_work(
    workdir, folder, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    done = predict(workdir, folder, f'--figure={tmp_path / "a.png"}')
    assert 'pip install' in done.error and not done.out


def test_ilsvrc_takes_five_numbers_a_line(workdir, folder, tmp_path):
    net = alexnet_jax.load(workdir)
    probabilities = expected(workdir, folder / 'star/c.png')
    best = np.argsort(-probabilities)[:5]
    done = predict(workdir, folder / 'star', '--format=ilsvrc')
    assert done.out == ' '.join(str(b + 1) for b in best) + '\n'
    (tmp_path / 'bad.png').write_bytes(b'junk')  # its line would be another's
    kept = tmp_path / 'submission.txt'
    kept.write_text('of an earlier run')
    words = (folder / 'star', tmp_path / 'bad.png', '--format=ilsvrc')
    line = predict(workdir, *words, f'--output={kept}').error
    assert 'bad.png: ' in line and 'each image needs its own' in line
    assert kept.read_text() == 'of an earlier run'
    numbers = tmp_path / 'map_clsloc.txt'
    lines = [f'{name} {900 - i} words' for i, name in enumerate(net.class_names)]
    numbers.write_text('\n'.join(lines))
    done = predict(
        workdir, folder / 'star', '--format=ilsvrc', f'--class_numbers={numbers}'
    )
    assert done.out == ' '.join(str(900 - b) for b in best) + '\n'
    numbers.write_text('\n'.join(lines[1:]))
    done = predict(
        workdir, folder / 'star', '--format=ilsvrc', f'--class_numbers={numbers}'
    )
    assert f'no number for {net.class_names[0]}' in done.error


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['x.png', '--workdir='], ['--workdir=DIR is needed']),
        ([], ['name the images']),
        (['nowhere.png'], ['no file or folder nowhere.png']),
        (['configs'], ['configs', 'no images', '.png']),
        (['x.png', '--views=3'], ['--views=3', '1 or 10']),
        (['x.png', '--figure=a.gif'], ['a.gif', '.png']),
        (['x.png', '--figure=no/where/a.png'], ['no/where/a.png', 'folder']),
        (
            ['x.png', '--output=no/where/a.csv'],
            ['--output=no/where/a.csv', 'not there'],
        ),
        (['x.png', '--output=a.PNG'], ['--output=a.PNG', 'name of an image']),
        (['x.png', '--output=configs'], ['--output=configs is a folder']),
        (['x.png', '--top=0'], ['top']),
    ],
)
def test_a_users_mistake_is_one_line(workdir, arguments, words):
    line = predict(workdir, *arguments).error
    assert all(word in line for word in words)


WITHOUT_TENSORFLOW = """
import atexit, runpy, sys
names = {'tensorflow', 'tensorflow_datasets', 'grain', 'clu', 'matplotlib'}
atexit.register(lambda: print(names & sys.modules.keys()))
sys.argv = ['predict', *sys.argv[1:]]
runpy.run_module('alexnet_jax.predict', run_name='__main__')
"""


def test_one_photograph_needs_no_tensorflow(workdir, folder):
    done = run('-c', WITHOUT_TENSORFLOW, f'--workdir={workdir}', folder / 'star/c.png')
    *_, guesses, imported = done.out.splitlines()
    assert '%' in guesses and imported == 'set()'
    assert not done.err


# An exported workdir.


@pytest.fixture(scope='module')
def exported(workdir, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp('exported') / 'net'
    done = run_here(
        'alexnet_jax.export_workdir', f'--workdir={workdir}', f'--output={output}'
    )
    assert done.status == 0, done
    return output


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob('*') if file.is_file())


def test_an_exported_workdir_predicts_the_same_and_is_small(workdir, exported, folder):
    net = alexnet_jax.load(exported)
    weights = sum(x.nbytes for of in net.params.values() for x in of.values())
    assert weights < size_of(exported) < 1.1 * weights + 60_000
    assert predict(exported, folder).out == predict(workdir, folder).out
    rows = [
        ensembles.evaluate([w], views=1, split='test', which='best').rows[0]
        for w in (workdir, exported)
    ]
    assert {**rows[0], 'network': ''} == {**rows[1], 'network': ''}


def test_a_run_starts_from_an_exported_workdir_but_does_not_go_on_in_it(
    exported, small, tmp_path
):
    with pytest.raises(ValueError, match=r'made by export_workdir.*init\.workdir'):
        train.train_and_evaluate(small, exported)
    small.init.workdir, small.init.copy = str(exported), ('conv1',)
    small.optimizer.layer_rates = (('conv1', 0.0, 0.0),)
    small.train.steps, small.mesh.data, small.mesh.tower = 1, 1, 2
    train.train_and_evaluate(small, tmp_path)
    np.testing.assert_array_equal(
        trained.load(tmp_path, which='latest').params['conv1']['kernel'],
        trained.load(exported).params['conv1']['kernel'],
    )


def test_an_export_into_what_is_there_is_refused(workdir, exported, tmp_path):
    for arguments, words in (
        ([f'--workdir={workdir}', f'--output={exported}'], 'is there already'),
        ([f'--workdir={tmp_path}', f'--output={tmp_path / "v"}'], 'holds no run'),
        ([f'--workdir={workdir}'], '--output=DIR'),
        ([f'--workdir={exported}', f'--output={tmp_path / "v"}',
          '--checkpoint=latest'], 'no latest checkpoint'),
    ):  # fmt: skip
        assert words in run_here('alexnet_jax.export_workdir', *arguments).error
    assert not (tmp_path / 'v').exists()
