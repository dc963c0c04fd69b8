"""configs/paper.py as it stands, at full width, on ImageNet's builder and tiny tars."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_prepare import imagenet_tars


def test_the_papers_config_trains_and_evaluates_at_full_width(tmp_path):
    imagenet_tars(tmp_path / 'downloads' / 'manual')
    workdir = tmp_path / 'run'
    run = subprocess.run(
        [
            *(sys.executable, '-m', 'alexnet_jax.main', '--config=configs/paper.py'),
            f'--config.data.data_dir={tmp_path}',
            f'--config.data.prepared_dir={tmp_path}',
            '--config.train.epochs=0',
            '--config.train.steps=3',
            '--config.train.eval_every_epochs=40',
            '--config.train.log_every_steps=1',
            f'--workdir={workdir}',
        ],
        cwd=Path(__file__).parents[1],
        env=os.environ | {'JAX_PLATFORMS': 'cpu'},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    table = {
        line.split()[0]: line.split()
        for line in run.stdout.splitlines()
        if line.startswith(('conv', 'fc', 'total'))
    }
    assert table['total'][-1] == '60,965,224'
    assert '37,748,736' in table['fc6/kernel']
    assert table['fc6/kernel'][-2:] == ['0.01', '0.0005']
    assert table['fc6/bias'][-2:] == ['0.01', '0']
    # conv2 in the grouped network, and on each device
    assert table['conv2/kernel'][1:3] == ['5×5×48×256', '5×5×48×128']
    lines = [
        json.loads(x) for x in (workdir / 'metrics.jsonl').read_text().splitlines()
    ]
    first = next(line['train/loss'] for line in lines if 'train/loss' in line)
    assert first == pytest.approx(np.log(1000), rel=0.1)
    assert np.isfinite(json.loads((workdir / 'result.json').read_text())['val/loss'])
    assert (workdir / 'conv1_kernels.png').exists()
