"""configs/paper.py at full width, on ImageNet's builder and tiny tars."""

import json

import numpy as np
import pytest

from tests.conftest import as_flags, read_metrics, run
from tests.test_prepare import imagenet_tars


@pytest.mark.long
def test_the_papers_config_trains_and_evaluates_at_full_width(tmp_path):
    imagenet_tars(tmp_path / 'downloads' / 'manual')
    workdir = tmp_path / 'run'
    values = {
        'data.data_dir': tmp_path,
        'data.prepared_dir': tmp_path,
        'train.batch_size': 16,
        'train.epochs': 0,
        'train.steps': 2,
        'train.log_every_steps': 1,
        'train.eval_every_epochs': 40,
    }
    done = run(
        *('-m', 'alexnet_jax.main', '--config=paper', *as_flags(values)),
        f'--workdir={workdir}',
    )
    table = {
        line.split()[0]: line.split()
        for line in done.out.splitlines()
        if line.startswith(('conv', 'fc', 'total'))
    }
    assert table['total'][-1] == '60,965,224'
    assert '37,748,736' in table['fc6/kernel']
    assert table['fc6/kernel'][-2:] == ['0.01', '0.0005']
    assert table['fc6/bias'][-2:] == ['0.01', '0']
    # conv2 in the grouped network, and on each device.
    assert table['conv2/kernel'][1:3] == ['5×5×48×256', '5×5×48×128']
    lines = read_metrics(workdir)
    first = next(line['train/loss'] for line in lines if 'train/loss' in line)
    assert first == pytest.approx(np.log(1000), rel=0.1)
    assert np.isfinite(json.loads((workdir / 'result.json').read_text())['val/loss'])
    assert (workdir / 'conv1_kernels.png').exists()
