"""The step runs where only jax, flax and optax are."""

from tests.conftest import run

SCRIPT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {
            'tensorflow', 'tensorflow_datasets', 'tensorboard', 'grain', 'clu',
            'ml_collections', 'PIL', 'simplejpeg', 'array_record', 'tqdm',
        }:
            raise ModuleNotFoundError(f'{name} is blocked in this test')

sys.meta_path.insert(0, Blocked())

import jax
jax.config.update('jax_num_cpu_devices', 2)
import numpy as np
from alexnet_jax import train_state
from alexnet_jax import layers, mesh, model, optimizer, step

conv = dict(kind='conv', kernel=3, stride=2, padding=((1, 1), (1, 1)), init_std=0.1,
            init_bias=0.0, steps=('activation', 'lrn', 'pool'), lrn=True)
table = dict(
    towers=2, width=1.0, activation='relu', compute_dtype='float32',
    dropout_scaling='test', lrn=dict(size=5, k=2.0, alpha=1e-4, beta=0.75,
                                        across_towers=False),
    pool=dict(size=3, stride=2, ties='first'), layers=('conv1', 'fc2', 'fc3'),
    conv1=dict(conv, features=8, reads='image'),
    fc2=dict(kind='dense', features=16, reads='all', init_std=0.1, init_bias=0.0,
             steps=('activation', 'dropout'), dropout=0.5),
    fc3=dict(kind='dense', reads='all', init_std=0.1, init_bias=0.0, steps=()),
)
settings = dict(learning_rate=0.01, schedule='constant', momentum=0.9,
                weight_decay=0.0005, bias_rate=1.0, bias_annealed=True,
                layer_rates=(), layer_decays=())
network = model.network_from_config(table, 16, 10)
two = mesh.make_mesh(data=1, tower=2, towers=2, batch_size=4)
tx = optimizer.create_optimizer(settings, steps_per_epoch=1)
rate = optimizer.create_learning_rate_schedule(
    settings, steps_per_epoch=1, total_steps=1)
state = train_state.create_train_state(network, tx, two, seed=0)
batch = mesh.put_batch(
    {'image': np.zeros((4, 16, 16, 3), np.uint8), 'label': np.zeros(4, np.int32),
     'colour_shift': np.zeros((4, 3), np.float32), 'gain': np.ones(4, np.float32),
     'corner': np.zeros((4, 2), np.int32), 'mirrored': np.zeros(4, bool)}, two, 4)
mean = jax.device_put(np.zeros((16, 16, 3), np.float32), mesh.replicated(two))
state, out = step.make_train_step(network, tx, rate, two, seed=0)(state, batch, mean)
assert int(state.step) == 1 and np.isfinite(out['sums']).all()
print('one step')
"""


def test_a_train_step_needs_only_jax_flax_and_optax():
    assert run('-c', SCRIPT).out.strip() == 'one step'
