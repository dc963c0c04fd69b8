"""Errors of trained networks: one view or ten, one network or an ensemble.

    python -m alexnet_jax.evaluate --workdir=runs/a [--workdir=runs/b …] --views=10

Ten views are the paper's (§4.1): the four corners and the centre, each with its mirror,
probabilities averaged. Several workdirs make an ensemble: once with equal weights, once
with weights searched on the validation split, as the released source did. Prints a
table and writes it as JSON.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

# Before jax and TensorFlow are imported: they write to stderr as they load.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

from alexnet_jax.system import huge_pages

if __name__ == '__main__':
    huge_pages.enable()

import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from alexnet_jax import mesh as mesh_lib
from alexnet_jax import metrics
from alexnet_jax import step as step_lib
from alexnet_jax.data import augment, pipeline, prepare
from alexnet_jax.run import progress, trained
from alexnet_jax.system import command_line, compilation_cache, tables

SPLITS = ('validation', 'test', 'train')
WEIGHT_STEP = 0.05  # of the search, as in the released avg-valid.py


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Averaged class probabilities of every example of a split, in order."""

    probabilities: np.ndarray  # f32[N, classes]
    labels: np.ndarray  # i32[N]


def predict(network: trained.Trained, split: str, views: int) -> Predictions:
    """Predicts every example of a split once.

    Args:
      network: from a workdir; its config says where the data are.
      split: 'validation', 'test' or 'train', as that config defines them.
      views: 1, the centre crop, or 10.

    Raises:
      ValueError: the config has no such split, or its data are not there.
    """
    config = network.config
    name = config.data[f'{split}_split']
    if not name:
        raise ValueError(
            f'{network.workdir}: its config has no {split} split '
            f'(config.data.{split}_split is empty)'
        )
    dataset = prepare.open_prepared(config.data)
    stored, crop = dataset.stored_size, config.data.crop_size
    centre = augment.centre_offset(stored, crop)
    batch_size = config.train.eval_batch_size
    mesh = mesh_lib.make_mesh(
        data=0, tower=0, towers=network.network.towers, batch_size=batch_size
    )
    predict_step = step_lib.make_predict_step(
        network.network,
        mesh,
        augment.ten_views(stored, crop) if views == 10 else [(centre, centre, False)],
        config.data.scale,
    )
    params = mesh_lib.put_params(network.params, network.network, mesh)
    mean = mesh_lib.put_everywhere(
        pipeline.mean_to_subtract(dataset, config.data), mesh
    )
    probabilities, labels = [], []
    batches = pipeline.eval_batches(
        dataset, config.data, split=name, batch_size=batch_size
    )
    for batch in batches:
        images = mesh_lib.put_batch({'image': batch['image']}, mesh, batch_size)
        kept = batch['mask'] > 0
        log_probs = np.asarray(predict_step(params, images['image'], mean))
        probabilities.append(np.exp(log_probs[kept]))
        labels.append(batch['label'][kept])
    found = Predictions(np.concatenate(probabilities), np.concatenate(labels))
    expected = pipeline.num_examples(dataset, name)
    if len(found.labels) != expected:
        raise RuntimeError(f'saw {len(found.labels)} of the {expected} of {name}')
    return found


def errors(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Loss, top-1 and top-5 error of averaged probabilities, and the examples seen."""
    ones = jnp.ones(len(labels), jnp.float32)
    # 32-bit sums of 50,000 examples would lose digits.
    parts = np.array_split(np.arange(len(labels)), max(1, len(labels) // 1000))
    sums = [
        metrics.example_sums(
            jnp.log(probabilities[part]), jnp.asarray(labels[part]), ones[: len(part)]
        )
        for part in parts
    ]
    scalars = metrics.mean([np.asarray(s) for s in sums], '')
    named = {name.removeprefix('/'): value for name, value in scalars.items()}
    return named | {'examples': len(labels), 'classes': probabilities.shape[1]}


def weighted(members: Sequence[Predictions], weights: Sequence[float]) -> np.ndarray:
    """Averages the members' probabilities, f32[N, classes]."""
    total = sum(w * m.probabilities for w, m in zip(weights, members, strict=True))
    return np.asarray(total / sum(weights), np.float32)


def search_weights(members: Sequence[Predictions]) -> list[float]:
    """Weights from 0 to 1 that are best by top-5 error, then by loss.

    The released avg-valid.py: one weight after the other through all its values, until
    a round changes nothing. Give it predictions of the validation split.
    """
    labels = members[0].labels

    def score(weights: Sequence[float]) -> tuple[float, float]:
        found = errors(weighted(members, weights), labels)
        return found['top5_error'], found['loss']

    weights = [1.0] * len(members)
    best = score(weights)
    improving = True
    while improving:
        improving = False
        for i in range(len(members)):
            for value in np.arange(0, 1 + WEIGHT_STEP / 2, WEIGHT_STEP):
                tried = [*weights[:i], round(float(value), 2), *weights[i + 1 :]]
                if any(tried) and (found := score(tried)) < best:
                    best, weights, improving = found, tried, True
    return weights


def evaluate(
    workdirs: Sequence[Path], *, views: int, split: str, which: str
) -> list[dict[str, object]]:
    """Evaluates every workdir, and all together if there are several.

    Returns:
      A row per network and per ensemble: `network`, `weights` (of an ensemble),
      `examples`, `classes`, `loss`, `top1_error`, `top5_error`.

    Raises:
      ValueError: a workdir holds no run, or the runs do not see the same examples.
    """
    networks = [trained.load(workdir, which=which) for workdir in workdirs]
    members = [predict(network, split, views) for network in networks]
    rows: list[dict[str, object]] = [
        {
            'network': f'{n.workdir.name} (step {n.step})',
            **errors(m.probabilities, m.labels),
        }
        for n, m in zip(networks, members, strict=True)
    ]
    if len(networks) == 1:
        return rows
    check_same_examples(networks, members)
    on_validation = (
        members
        if split == 'validation'
        else [predict(network, 'validation', views) for network in networks]
    )
    check_same_examples(networks, on_validation)
    note = ', searched on this split' if split == 'validation' else ', searched'
    for name, weights in (
        ('ensemble, equal weights', [1.0] * len(members)),
        (f'ensemble{note}', search_weights(on_validation)),
    ):
        row = errors(weighted(members, weights), members[0].labels)
        rows.append({'network': name, 'weights': weights, **row})
    return rows


def check_same_examples(
    networks: Sequence[trained.Trained], members: Sequence[Predictions]
) -> None:
    """An ensemble averages predictions of one list of examples."""
    for network, member in zip(networks, members, strict=True):
        if (
            not np.array_equal(member.labels, members[0].labels)
            or member.probabilities.shape != members[0].probabilities.shape
        ):
            raise ValueError(
                f'{network.workdir} and {networks[0].workdir} do not see the same '
                'examples or classes; an ensemble needs one data set and one split'
            )


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as aligned text; without top-5 errors where there are few classes."""
    cells = [['network', 'examples', 'loss', 'top-1 error', 'top-5 error']]
    for row in rows:
        weights = row.get('weights')
        name = str(row['network'])
        if isinstance(weights, list) and len(set(weights)) > 1:
            name += ' ' + ' '.join(f'{w:g}' for w in weights)
        cells.append(
            [
                name,
                f'{row["examples"]:,}',
                f'{row["loss"]:.4f}',
                f'{row["top1_error"]:.2%}',
                f'{row["top5_error"]:.2%}',
            ]
        )
    if rows[0]['classes'] < progress.MANY_CLASSES:  # pyrefly: ignore
        cells = [line[:-1] for line in cells]
    return tables.aligned(cells)


def main(argv: Sequence[str]) -> None:
    """Evaluates what the flags name, prints the table and writes the JSON."""
    command_line.reject_positionals(argv)
    logging.set_verbosity(logging.WARNING)
    workdirs = [Path(workdir) for workdir in _WORKDIR.value or ()]
    if not workdirs:
        raise SystemExit('error: --workdir=DIR is needed, the folder of a run')
    if _VIEWS.value not in (1, 10):
        raise SystemExit(f'error: --views={_VIEWS.value}: expected 1 or 10')
    name = f'evaluation-{_SPLIT.value}-{_VIEWS.value}view.json'
    out = Path(_OUT.value) if _OUT.value else workdirs[0] / name
    if _OUT.value and not os.access(out.parent, os.W_OK | os.X_OK):
        raise SystemExit(f'error: --out={out}: {out.parent} cannot be written')
    mesh_lib.request_cpu_devices(2)
    compilation_cache.enable()
    with command_line.user_errors():
        rows = evaluate(
            workdirs, views=_VIEWS.value, split=_SPLIT.value, which=_CHECKPOINT.value
        )
    print(table(rows))
    out.write_text(
        json.dumps(
            {
                'workdirs': [str(workdir) for workdir in workdirs],
                'checkpoint': _CHECKPOINT.value,
                'split': _SPLIT.value,
                'views': _VIEWS.value,
                'rows': rows,
            },
            indent=2,
        )
        + '\n'
    )
    print(f'written to {out}')


if __name__ == '__main__':
    _WORKDIR = flags.DEFINE_multi_string(
        'workdir', None, 'Of a run; give several for an ensemble.'
    )
    _VIEWS = flags.DEFINE_integer('views', 1, '1, the centre crop, or 10.')
    _SPLIT = flags.DEFINE_enum(
        'split', 'validation', SPLITS, "Which of the config's splits."
    )
    _CHECKPOINT = flags.DEFINE_enum(
        'checkpoint', 'best', ('best', 'latest'), 'By validation error, or the newest.'
    )
    _OUT = flags.DEFINE_string('out', None, 'JSON file; default: in the first workdir.')
    app.run(main, flags_parser=command_line.parse_flags)
