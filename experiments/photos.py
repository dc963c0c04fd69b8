r"""Is `configs/photos.py` at least as good as a linear probe on few photographs?

    python -m experiments.photos --data_dir=../shared/data \
        --out=experiments/records/photos

Protocol, fixed before the runs. Four classes: tench and English springer of imagenette,
t-shirts and longsleeves of clothing. For each seed 150 and 1,500 photographs are drawn
from their training images, equally of each class; a fifth of them steers. All 654
photographs of these classes in imagenette's validation and in clothing's validation and
test images report. The other run, `source`, is trained once, on 3,760 photographs of
twelve other classes of the two sets.

- from a run: `--config=photos` with `--config.init.workdir=source`, as it is shipped.
- probe: logistic regression on the features of `source` (conv5, fc6, fc7; centre crop),
  fitted to the photographs that the run learns from. The photographs that steer choose
  the layer and the penalty.
- from scratch: `--config=photos` alone.

The error is that of the last step of a run; nothing was chosen by the photographs that
report. Three seeds; each draws its photographs and its initial weights. The claim holds
for a size if the mean error from a run is not larger than that of the probe.
DATA_DIR has the two sets as `imagenette/{train,validation}/<synset>` and
`clothing/{train,validation,test}/<class>`.
"""

import hashlib
import os
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

import alexnet_jax
from alexnet_jax import config as config_lib
from alexnet_jax import mesh as mesh_lib
from alexnet_jax import train
from alexnet_jax.analysis import probe
from alexnet_jax.configs import clothing, paper, photos
from alexnet_jax.data import pipeline, prepare
from alexnet_jax.run import provenance
from alexnet_jax.system import command_line, files
from experiments import report
from experiments.journal import Journal

CLASSES = (
    ('imagenette', 'n01440764'),
    ('imagenette', 'n02102040'),
    ('clothing', 't-shirt'),
    ('clothing', 'longsleeve'),
)
SIZES = (150, 1500)
TAPS = ('conv5', 'fc6', 'fc7')
ARMS = ('from a run', 'probe', 'from scratch')
# Of the run that the others start from.
SOURCE_CLASSES = {
    'imagenette': (
        'n03028079', 'n03394916', 'n03417042', 'n03425413', 'n03445777', 'n03888257',
    ),
    'clothing': ('dress', 'hat', 'outwear', 'shoes', 'shorts', 'skirt'),
}  # fmt: skip
SOURCE_EACH = 450  # photographs of a class at most


def draw(paths: Iterable[Path], count: int, seed: int) -> list[Path]:
    """The same photographs whenever they are drawn, others for another seed."""

    def place(path: Path) -> str:
        return hashlib.sha256(f'{seed} {path.name}'.encode()).hexdigest()

    return sorted(paths, key=place)[:count]


def link(paths: Iterable[Path], folder: Path) -> None:
    """Makes a folder of links to photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        name = f'{path.parents[1].name}-{path.stem}.jpg'
        if not (folder / name).is_symlink():
            os.symlink(path.absolute(), folder / name)


def make_source_folder(data_dir: Path, folder: Path) -> None:
    """Links to the photographs of the run that the others start from."""
    for name, classes in SOURCE_CLASSES.items():
        for label in classes:
            for split, count in (('train', SOURCE_EACH), ('validation', 40)):
                found = sorted((data_dir / name / split / label).iterdir())
                link(found[:count], folder / split / label)


def make_folder(data_dir: Path, folder: Path, size: int, seed: int) -> None:
    """Links to `size` photographs to learn from and to all that report."""
    for i, (name, label) in enumerate(CLASSES):
        count = size // len(CLASSES) + (i < size % len(CLASSES))
        found = (data_dir / name / 'train' / label).iterdir()
        link(draw(found, count, seed), folder / 'train' / label)
        for split in ('validation', 'test'):
            if (data_dir / name / split / label).is_dir():
                found = (data_dir / name / split / label).iterdir()
                link(found, folder / 'test' / label)


def source_config(folder: Path) -> ConfigDict:
    """An eighth of the paper’s maps, 6 epochs: minutes on two cores."""
    config = clothing.get_config()
    config.model.width = 0.125
    paper.start_as_he(config)
    config.data.test_split = ''
    config.train.batch_size = 64
    config.train.epochs = 6.0
    return placed(config, folder)


def placed(config: ConfigDict, folder: Path) -> ConfigDict:
    """Reads a folder, and lays the network on one device."""
    config.data.data_dir = str(folder)
    config.data.prepared_dir = str(folder.parent / 'prepared')
    config.mesh.data = config.mesh.tower = 1
    return config


def run_config(folder: Path, seed: int, source: Path | None) -> ConfigDict:
    """The shipped config on a folder, from another run or from scratch."""
    config = placed(photos.get_config(), folder)
    config.seed = seed
    config.init.workdir = str(source or '')
    print(photos.complete(config, {}))
    config_lib.validate(config)
    return config


def examples(
    net: alexnet_jax.Net, config: ConfigDict, split: str
) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
    """The features of a split by tap, and its labels."""
    dataset = prepare.open_prepared(config.data)
    tapped = net.tapped(TAPS)
    features: dict[str, list[np.ndarray]] = {tap: [] for tap in TAPS}
    labels = []
    for batch in pipeline.eval_batches(
        dataset, config.data, split=split, batch_size=net.batch_size
    ):
        kept = batch['mask'] > 0
        for tap, values in tapped(batch['image']).items():
            features[tap].append(np.asarray(values)[kept])
        labels.append(batch['label'][kept])
    whole = {tap: np.concatenate(parts) for tap, parts in features.items()}
    return whole, np.concatenate(labels)


def best_probe(source: Path, config: ConfigDict) -> dict[str, Any]:
    """The probe of the layer that does best on the photographs that steer."""
    net = alexnet_jax.load(source)
    data = config.data
    train_set, held_out, test_set = (
        examples(net, config, split)
        for split in (data.train_split, data.validation_split, data.test_split)
    )

    def of_tap(
        tap: str, found: tuple[Mapping[str, np.ndarray], np.ndarray]
    ) -> probe.Examples:
        return probe.Examples(found[0][tap], found[1])

    found = {
        tap: probe.fit(
            of_tap(tap, train_set), of_tap(tap, held_out), of_tap(tap, test_set)
        )
        for tap in TAPS
    }
    tap = min(TAPS, key=lambda tap: found[tap].held_out_error)
    errors = {tap: round(each.error, 5) for tap, each in found.items()}
    return {'error': found[tap].error, 'layer': tap, 'errors': errors}


def table(runs: Sequence[Mapping[str, Any]]) -> report.Table:
    """Mean error over the seeds by size, with the smallest and the largest."""
    rows = [['photographs', 'arm', 'n', 'mean error', 'range', 'less the probe, mean']]
    for size in sorted({run['size'] for run in runs}):
        own = [run for run in runs if run['size'] == size]
        by_arm = {
            arm: {run['seed']: run['error'] for run in own if run['arm'] == arm}
            for arm in ARMS
        }
        for arm, errors in by_arm.items():
            if not errors:
                continue
            both = errors.keys() & by_arm['probe'].keys()
            more = [errors[seed] - by_arm['probe'][seed] for seed in sorted(both)]
            difference = f'{100 * statistics.mean(more):+.1f} points' if more else '–'
            rows.append(
                [
                    f'{size:,}', arm, str(len(errors)),
                    f'{statistics.mean(errors.values()):.1%}',
                    f'{min(errors.values()):.1%}–{max(errors.values()):.1%}',
                    '–' if arm == 'probe' else difference,
                ]
            )  # fmt: skip
    return rows


def setting(source: Path, config: ConfigDict) -> dict[str, Any]:
    """The run that the others start from, and where all ran; no folder of a machine."""
    folders = ('data.data_dir', 'data.prepared_dir', 'init.workdir')
    where = provenance.provenance()
    return {
        'source': files.read_json(source / 'result.json'),
        'source_config': {
            key: value for key, value in config_lib.flat(config) if key not in folders
        },
        'provenance': {
            key: value
            for key, value in where.items()
            if key not in ('command', 'directory')
        },
    }


def main(argv: Sequence[str]) -> None:
    """Runs what is missing of the experiment and prints the table."""
    command_line.reject_positionals(argv)
    out, work = command_line.local_path('out', _OUT.value), Path(_WORK.value)
    journal = Journal(out, 'runs.jsonl')
    data_dir = Path(_DATA_DIR.value).resolve()
    with command_line.user_errors():
        make_source_folder(data_dir, work / 'source-photographs')
        source = work / 'source'
        config = source_config(work / 'source-photographs')
        config_lib.validate(config)
        if not (source / 'result.json').exists():
            train.train_and_evaluate(config, source)
        if not (out / 'setting.json').exists():
            files.write_json(out / 'setting.json', setting(source, config))
        cells = [
            (size, seed, arm)
            for arm in _ARMS.value
            for seed in map(int, _SEEDS.value)
            for size in _SIZES.value
        ]
        for size, seed, arm in cells:
            size = int(size)
            key = {'size': size, 'seed': seed, 'arm': arm}
            if journal.count(**key):
                continue
            begin = time.time()
            folder = work / f'{size}-{seed}'
            make_folder(data_dir, folder, size, seed)
            start = source if arm != 'from scratch' else None
            config = run_config(folder, seed, start)
            if arm == 'probe':
                outcome = best_probe(source, config)
            else:
                workdir = work / f'{size}-{seed}-{arm.replace(" ", "_")}'
                result = train.train_and_evaluate(config, workdir)
                outcome = {'error': result['test/top1_error'], 'result': result}
            run = {**key, **outcome, 'seconds': round(time.time() - begin)}
            journal.append(run, f'{key}: error {run["error"]:.2%}')
    journal.write_table([table(journal.lines)])


if __name__ == '__main__':
    _DATA_DIR = flags.DEFINE_string(
        'data_dir', None, 'Folder of the two sets.', required=True
    )
    _OUT = flags.DEFINE_string('out', 'runs/photos/record', 'Where the record goes.')
    _WORK = flags.DEFINE_string(
        'work', 'runs/photos', 'Where links, records and runs are kept.'
    )
    _SEEDS = flags.DEFINE_list('seeds', ['0', '1', '2'], 'With commas between.')
    _SIZES = flags.DEFINE_multi_enum(
        'size', [str(size) for size in SIZES], [str(size) for size in SIZES],
        'Photographs; may be given several times.',
    )  # fmt: skip
    _ARMS = flags.DEFINE_multi_enum(
        'arm', list(ARMS), list(ARMS), 'May be given several times.'
    )
    mesh_lib.request_cpu_devices(1)
    app.run(main, flags_parser=command_line.parse_flags)
