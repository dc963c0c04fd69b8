"""1,000 photographs through `predict`, against its decoding and its network alone.

And the whole command on one photograph, from its start to its end, with a filled
compilation cache.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import alexnet_jax
from alexnet_jax.run import transfer
from experiments.benchmark import rounds
from experiments.benchmark.rounds import Contender, Options, Record
from experiments.report import Report

REPOSITORY = Path(__file__).parents[2]
IMAGES = 1000
CONFIGS = ('paper', 'clothing')


def measure(options: Options) -> Record:
    """Measures both networks on photographs of the folder `clothing`."""
    if options.data_dir is None:
        raise ValueError(
            'the benchmark `predict` reads photographs; give --data_dir=DIR, the '
            'folder with `clothing/<split>/<class>/*.jpg`'
        )
    photographs = sorted(Path(options.data_dir, 'clothing').rglob('*.jpg'))[:IMAGES]
    if len(photographs) < IMAGES:
        raise ValueError(
            f'--data_dir={options.data_dir} has {len(photographs)} photographs in '
            f'clothing/, and {IMAGES} are needed'
        )
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory, 'photographs')
        folder.mkdir()
        for i, photograph in enumerate(photographs):
            shutil.copy(photograph, folder / f'{i:04}.jpg')
        measured = rounds.measure(
            contenders(folder, rounds.cores()[:2]), options.rounds
        )
        seconds = commands(Path(directory), photographs[0], options.rounds)
    return {'measured': measured, 'command': seconds}


def contenders(folder: Path, cores: list[int]) -> dict[str, Contender]:
    """The whole and its halves, for each network."""
    return {
        f'{config}, {name}': {
            'contender': f'prediction.{name}', 'cores': cores, 'config': config,
            'folder': str(folder), 'images': IMAGES, 'huge_pages': True,
        }
        for config in CONFIGS
        for name in ('whole', 'decoding', 'forward')
    }  # fmt: skip


def commands(scratch: Path, photograph: Path, count: int) -> list[float]:
    """Seconds of `predict` on one photograph with the paper's network, warm."""
    workdir = scratch / 'net'
    net = alexnet_jax.network('paper')
    weights = transfer.of_network(
        net.config, net.params, net.class_names, net.mean_image, 'random weights'
    )
    transfer.make_workdir(weights, workdir)
    seconds = []
    for _ in range(count + 1):
        began = time.perf_counter()
        subprocess.run(
            [
                *(sys.executable, '-m', 'alexnet_jax.predict'),
                *(f'--workdir={workdir}', str(photograph)),
            ],
            cwd=REPOSITORY,
            env=dict(os.environ, XDG_CACHE_HOME=str(scratch), JAX_PLATFORMS='cpu'),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def report(record: Record) -> Report:
    """A row for each network, and the seconds of the command."""
    rows = [
        [
            *('network', 'predict', 'decoding alone', 'forward alone'),
            *('/ the larger', '/ both'),
        ]
    ]
    for config in CONFIGS:
        whole, decoding, forward = (
            record['measured'][f'{config}, {name}']['seconds']
            for name in ('whole', 'decoding', 'forward')
        )
        median = statistics.median
        larger = forward if median(forward) > median(decoding) else decoding
        both = [sum(pair) for pair in zip(decoding, forward, strict=True)]
        rows.append(
            [
                config,
                *(rounds.spread(x, 2) for x in (whole, decoding, forward)),
                f'{rounds.ratio(whole, larger):.2f}',
                f'{rounds.ratio(whole, both):.2f}',
            ]
        )
    return [
        rows,
        f'Seconds for {IMAGES:,} photographs after the imports. Decoding and the '
        'network share the cores here, so that their sum is what two cores allow.',
        'One photograph, from the command to its end, the paper’s network, warm: '
        f'{rounds.spread(record["command"], 2)} s.',
    ]
