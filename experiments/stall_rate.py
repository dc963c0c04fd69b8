r"""Counts how often training stays at the flat loss ("stuck at 6.9"), by its start.

    python -m experiments.stall_rate --data_dir=DIR --seeds=3 --steps=250 \
        --out=experiments/records/stall_rate/signal_and_bias

Trains the paper's network from each of several starts with several seeds and counts the
runs that never leave the loss of a net that only knows how frequent the classes are.
Pairs of starts that differ in one thing alone part the signal of the image from the
biases (`starts.COMPARISONS`). DIR is a folder of images, `<split>/<class>/*.jpg`.
`<out>/runs.jsonl` gets a line per run with every loss, `<out>/table.md` the counts and
the comparisons; runs already in the file are kept, so that a killed experiment goes on.

At a width below 1 the standard deviations are divided by sqrt(width) wherever the
fan-in shrinks with the width (everywhere but in conv1): the signal at the start is
then that of the full net. The learning rate is the paper's at any width.
"""

import collections
import itertools
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from alexnet_jax import build
from alexnet_jax import config as config_lib
from alexnet_jax import mesh as mesh_lib
from alexnet_jax.configs import paper
from alexnet_jax.data import augment, pipeline, prepare
from alexnet_jax.run import provenance
from alexnet_jax.system import command_line
from experiments import logit_deviation, paired, report
from experiments import runs as runs_lib
from experiments.journal import Journal
from experiments.starts import ARMS, COMPARISONS

WINDOW = 20  # steps that the loss is averaged over
IMAGES = 64  # that the signal is measured on
LEFT = 0.95  # a run has left when its loss is below this fraction of the flat loss

FACTOR = 1.5  # of the steps, from which on a start is said to be slower or faster
SLOWER, FASTER, ALIKE, UNDECIDED = 'slower', 'faster', 'alike', 'undecided'


def make_config(
    arm: str,
    *,
    width: float,
    batch_size: int,
    steps: int,
    data_dir: str,
    prepared_dir: str,
) -> ConfigDict:
    """The paper's config with the start of an arm, at a width."""
    config = paper.get_config()
    config.update_from_flattened_dict(ARMS[arm])
    config.model.width = width
    config.model.num_classes = 0
    for name in config.model.layers[1:]:
        config.model[name].init_std /= width**0.5
    config.data.source = 'folder'
    config.data.data_dir = data_dir
    config.data.prepared_dir = prepared_dir
    config.optimizer.schedule = 'constant'
    config.train.batch_size = batch_size
    config.train.epochs, config.train.steps = 0.0, steps
    config.mesh.data = 1
    config_lib.validate(config)
    return config


def label_entropy(dataset: prepare.PreparedDataset, config: ConfigDict) -> float:
    """The loss in nats of predicting each class by its frequency: the flat loss."""
    counts: collections.Counter[int] = collections.Counter()
    batches = pipeline.eval_batches(
        dataset, config.data, split=config.data.train_split, batch_size=256
    )
    for batch in batches:
        counts.update(batch['label'][batch['mask'] > 0].tolist())
    p = np.array(list(counts.values())) / sum(counts.values())
    return float(-(p * np.log(p)).sum())


def signal(config: ConfigDict, dataset: prepare.PreparedDataset) -> float:
    """The deviation of a logit over validation images, before the first step."""
    batch = next(
        pipeline.eval_batches(
            dataset, config.data, split=config.data.validation_split, batch_size=IMAGES
        )
    )
    images = (batch['image'] - dataset.mean_image) * np.float32(config.data.scale)
    size = config.data.crop_size
    first = augment.centre_offset(images.shape[1], size)
    crops = images[:, first : first + size, first : first + size][batch['mask'] > 0]
    drawn = config.copy_and_resolve_references()
    drawn.model.num_classes = dataset.num_classes
    return logit_deviation.logit_deviation(drawn, crops, config.seed, batch=len(crops))


def train(
    config: ConfigDict, dataset: prepare.PreparedDataset, flat_loss: float
) -> dict[str, Any]:
    """Trains one run until it leaves the flat loss, or to its end; its losses."""
    training = build.training(
        config,
        num_classes=dataset.num_classes,
        num_examples=pipeline.num_examples(dataset, config.data.train_split),
    )
    mesh, batch_size = training.mesh, config.train.batch_size
    state = training.first_state()
    mean = mesh_lib.put_everywhere(
        augment.mean_to_subtract(dataset.mean_image, config.data), mesh
    )
    batches = pipeline.train_batches(
        dataset, config.data, batch_size=batch_size, seed=config.seed, first_step=0
    )
    losses: list[float] = []
    left_at = None
    for batch in itertools.islice(batches, training.length.total_steps):
        batch = mesh_lib.put_batch(batch, mesh, batch_size)
        state, metrics = training.train_step(state, batch, mean)
        sums = np.asarray(metrics['sums'])
        losses.append(round(float(sums[0] / sums[-1]), 5))
        recent = losses[-WINDOW:]
        if len(recent) == WINDOW and sum(recent) / WINDOW < LEFT * flat_loss:
            left_at = len(losses)
            break
        if not np.isfinite(losses[-1]):
            break
    return {'left_at': left_at, 'losses': losses}


def table(runs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row per start: stalled runs of all, and the median step at which others left.

    A run whose loss became infinite counts as diverged, not as stalled.
    """
    rows = [['start', 'stalled', 'diverged', 'median step of leaving (range)']]
    signals = any('signal' in run for run in runs)  # early runs have none
    if signals:
        rows[0].append('deviation of a logit at the start (range)')
    for arm in dict.fromkeys(run['arm'] for run in runs):
        own = [run for run in runs if run['arm'] == arm]
        left = [run['left_at'] for run in own if run['left_at']]
        diverged = [run for run in own if has_diverged(run)]
        stalled = len(own) - len(left) - len(diverged)
        when = (
            f'{statistics.median(left):.0f} ({min(left)}–{max(left)})' if left else '–'
        )
        row = [arm, f'{stalled} of {len(own)}', f'{len(diverged)} of {len(own)}', when]
        if signals:
            values = [run['signal'] for run in own if 'signal' in run]
            row.append(
                f'{statistics.mean(values):.2g} ({min(values):.2g}–{max(values):.2g})'
                if values
                else '–'
            )
        rows.append(row)
    return rows


def has_diverged(run: dict[str, Any]) -> bool:
    """Whether its loss became infinite."""
    return not np.isfinite(run['losses'][-1])


def comparisons(runs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """How many times as many steps a start takes as another, paired by seed.

    A pair with a run that diverged is left out.
    """
    rows = [['what differs', 'start', 'against', 'ratio of steps [95 %]', 'so it is']]
    for question, arm, against in COMPARISONS:
        steps = {
            name: {
                run['seed']: len(run['losses'])
                for run in runs
                if run['arm'] == name and not has_diverged(run)
            }
            for name in (arm, against)
        }
        ratios = paired.differences(steps[arm], steps[against], ratio=True)
        if not ratios:
            continue
        stalled, other_stalled = (
            any(
                run['arm'] == name and not run['left_at'] and not has_diverged(run)
                for run in runs
            )
            for name in (arm, against)
        )
        found = paired.interval(ratios).exponential()
        verdict = pace(found)
        # Of a run that stalled it is known that it takes more steps, not how many: the
        # true interval may be wider to both sides.
        if stalled or other_stalled:
            verdict = UNDECIDED
        bound = '? ' if stalled and other_stalled else '≥ ' if stalled else ''
        bound = bound or ('≤ ' if other_stalled else '')
        text = f'{bound}{found.mean:.2f}'
        if found.n > 1 and not bound:
            text += f' [{found.low:.2f}, {found.high:.2f}]'
        rows.append([question, arm, against, f'{text}, n = {found.n}', verdict])
    return rows


def pace(found: paired.Interval) -> str:
    """What an interval of ratios says."""
    if found.n == 1:
        return UNDECIDED
    if found.low > FACTOR:
        return SLOWER
    if found.high < 1 / FACTOR:
        return FASTER
    return ALIKE if found.low > 1 / FACTOR and found.high < FACTOR else UNDECIDED


def made_of(runs: Sequence[dict[str, Any]]) -> report.Report:
    """The record's table.md."""
    return [
        table(runs),
        'How many times as many steps a start takes as the other, paired by seed. A '
        'run that stalled counts with its length: ≥ where one of the start did, ≤ '
        'where one of the other did; that has no interval and is undecided. Slower, '
        f'faster: the whole interval lies beyond {FACTOR} times; alike: it lies '
        'within; else undecided.',
        comparisons(runs),
    ]


def main(argv: Sequence[str]) -> None:
    """Runs what is missing of the experiment and prints the table."""
    command_line.reject_positionals(argv)
    journal = Journal(command_line.local_path('out', _OUT.value), 'runs.jsonl')
    setting = {
        'width': _WIDTH.value, 'batch_size': _BATCH_SIZE.value, 'steps': _STEPS.value,
    }  # fmt: skip
    with command_line.user_errors():
        configs = {
            arm: make_config(
                arm,
                **setting,
                data_dir=_DATA_DIR.value,
                prepared_dir=_PREPARED_DIR.value,
            )
            for arm in _ARMS.value
        }
        config = next(iter(configs.values()))  # all read the same images
        dataset = prepare.open_prepared(config.data)
        of_others = {line.get('data', dataset.fingerprint) for line in journal.lines}
        if of_others - {dataset.fingerprint}:
            raise ValueError(
                f'--out={_OUT.value} holds runs of other images than '
                f'{_DATA_DIR.value}; take another --out'
            )
    flat_loss = label_entropy(dataset, config)
    commit = runs_lib.commit_of(provenance.provenance())
    for seed in range(_SEEDS.value):  # seeds outside: every start is equally far
        for arm, config in configs.items():
            key = {'arm': arm, 'seed': seed, **setting}
            if journal.count(**key):
                continue
            config.seed = seed
            begin = time.time()
            first = float(f'{signal(config, dataset):.4g}')
            outcome = train(config, dataset, flat_loss)
            run = {**key, 'data': dataset.fingerprint, 'commit': commit}
            run['flat_loss'] = round(flat_loss, 4)
            journal.append(
                run | {'signal': first, **outcome},
                f'{arm} seed {seed}: left at {outcome["left_at"]}, last loss '
                f'{outcome["losses"][-1]:.3f} of {flat_loss:.3f}, '
                f'{time.time() - begin:.0f} s',
            )
    journal.write_table(
        made_of([run for run in journal.lines if setting.items() <= run.items()])
    )


if __name__ == '__main__':
    _DATA_DIR = flags.DEFINE_string(
        'data_dir', None, 'Folder of images.', required=True
    )
    _PREPARED_DIR = flags.DEFINE_string(
        'prepared_dir', '', 'As config.data.prepared_dir.'
    )
    _OUT = flags.DEFINE_string('out', 'runs/stall_rate', 'Where the record goes.')
    _SEEDS = flags.DEFINE_integer('seeds', 8, 'Seeds 0 … N−1.', lower_bound=1)
    _STEPS = flags.DEFINE_integer(
        'steps', 250, 'Steps before giving up.', lower_bound=WINDOW
    )
    _WIDTH = flags.DEFINE_float('width', 0.25, 'config.model.width.', lower_bound=0.01)
    _BATCH_SIZE = flags.DEFINE_integer(
        'batch_size', 64, 'Images in a batch.', lower_bound=1
    )
    _ARMS = flags.DEFINE_multi_enum(
        'arm', list(ARMS), list(ARMS), 'One of the starts; may be given several times.'
    )
    mesh_lib.request_cpu_devices(2)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 1.0)
    app.run(main, flags_parser=command_line.parse_flags)
