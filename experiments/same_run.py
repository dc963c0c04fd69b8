"""Whether two finished runs of one config are the same bit for bit, but for times."""

import json
from pathlib import Path
from typing import Any

from alexnet_jax.run import checkpoint_folder
from alexnet_jax.system import files

TIMES = {'train/images_per_second', 'train/seconds_per_step',
         'train/input_wait_fraction'}  # fmt: skip


def differences(one: Path, other: Path) -> list[str]:
    """Which of what two workdirs hold differs; empty if they are the same."""
    return [
        name
        for name, content in {
            'metrics.jsonl': metrics_of,
            'result.json': lambda w: without_times(files.read_json(w / 'result.json')),
            'TensorBoard': points_of,
            'checkpoints': digests_of,
        }.items()
        if content(one) != content(other)
    ]


def metrics_of(workdir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    text = (workdir / 'metrics.jsonl').read_text()
    return [without_times(json.loads(line)) for line in text.splitlines()]


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    """Leaves out what no two runs share."""
    return {name: value for name, value in values.items() if name not in TIMES}


def digests_of(workdir: Path) -> dict[str, dict[str, str]]:
    """SHA-256 of every array of the newest and of the best checkpoint."""
    found = {}
    for kind in ('checkpoints', 'best'):
        for step in checkpoint_folder.saved_steps(workdir, kind)[-1:]:
            meta = files.read_json(workdir / kind / str(step) / 'meta' / 'metadata')
            arrays = meta['arrays']
            found[f'{kind}/{step}'] = {n: a['sha256'] for n, a in arrays.items()}
    return found


def points_of(workdir: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Every point of TensorBoard's files in order; one that is there twice too."""
    from tensorboard.backend.event_processing import event_accumulator

    accumulator = event_accumulator.EventAccumulator(
        str(workdir),
        size_guidance={event_accumulator.TENSORS: 0},
        purge_orphaned_data=False,
    )
    accumulator.Reload()
    found = {
        tag: [
            (event.step, event.tensor_proto.SerializeToString())
            for event in accumulator.Tensors(tag)
        ]
        for tag in accumulator.Tags()['tensors']  # pyrefly: ignore
        if tag not in TIMES
    }
    # It has the folder's name and a time, which are the first start's.
    if '_hparams_/session_start_info' in accumulator.summary_metadata:
        found['hparams'] = []
    return found
