"""What a run needs is known beforehand, and what cannot fit is one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from alexnet_jax import build, memory, step
from alexnet_jax import mesh as mesh_lib
from alexnet_jax.data import augment
from alexnet_jax.system import command_line
from tests.conftest import load, network_of, run_here
from tests.test_config import PARAMETERS

GIB = 2**30
SMALL = [
    ('cuda_convnet:80sec', {'train.batch_size': 32}),
    ('cuda_convnet:conv_local_11pct', {'train.batch_size': 16}),
    ('demo', {'train.batch_size': 16, 'mesh.data': 2, 'mesh.tower': 2}),
    ('demo', {'train.batch_size': 64, 'model.compute_dtype': 'bfloat16'}),
]
LARGE = [
    ('clothing', {'train.batch_size': 4}),
    ('demo', {'train.batch_size': 64, 'model.compute_dtype': 'bfloat16'}),
    ('columns', {'train.batch_size': 16}),
    ('paper', {'train.batch_size': 8, 'model.compute_dtype': 'bfloat16'}),
    ('paper', {'train.batch_size': 128}),
    ('paper', {'train.batch_size': 128, 'mesh.tower': 2}),
    ('released_2012', {'train.batch_size': 32}),
    ('one_tower', {'train.batch_size': 1}),
]


def placed(name: str, values: dict[str, object]) -> ConfigDict:
    config = load(name)
    one = {'mesh.data': 1, 'mesh.tower': 1, 'data.prefetch_batches': 1}
    config.update_from_flattened_dict(one | values)
    config.train.eval_batch_size = config.train.batch_size
    return config


def check_against_the_compiler(config: ConfigDict) -> None:
    """Both ends against what the compiled steps take, of one device."""
    training = build.training(
        config, num_classes=config.model.num_classes or 10, num_examples=50_000
    )
    mesh, network = training.mesh, training.network
    devices, batch_size = mesh.size, config.train.batch_size
    wanted = memory.on_mesh(network, config, mesh)
    whole = np.zeros((config.data.stored_size,) * 2 + (3,), np.float32)
    mean = augment.mean_to_subtract(whole, config.data)
    mean = mesh_lib.put_everywhere(mean, mesh)
    compiled = step.lower_train_step(
        training.train_step, training.abstract_state, batch_size, network.image_size,
        mesh, mean,
    ).compile().memory_analysis()  # fmt: skip
    scratch = devices * compiled.temp_size_in_bytes
    assert wanted.training.least <= scratch <= wanted.training.most
    held = devices * (compiled.argument_size_in_bytes - mean.nbytes)
    crops = devices * batch_size * network.image_size**2 * 3
    assert wanted.state <= held <= wanted.state + crops + 64 * batch_size * devices
    stored, sharding = config.data.stored_size, mesh_lib.batch_sharding(mesh)

    def shape(*extents: int, dtype: type = jnp.float32) -> jax.ShapeDtypeStruct:
        whole = (batch_size, *extents)
        return jax.ShapeDtypeStruct(whole, dtype, sharding=sharding)

    predict = step.make_predict_step(network, mesh, [(0, 0, False)])
    compiled = predict.lower(  # pyrefly: ignore
        training.abstract_state.params, shape(stored, stored, 3, dtype=jnp.uint8), mean
    ).compile().memory_analysis()  # fmt: skip
    scratch = devices * compiled.temp_size_in_bytes
    assert wanted.evaluation.least <= scratch <= wanted.evaluation.most


@pytest.mark.parametrize(('name', 'values'), SMALL)
def test_the_compiled_steps_lie_between_both_ends(name, values):
    check_against_the_compiler(placed(name, values))


@pytest.mark.long
@pytest.mark.parametrize(('name', 'values'), LARGE)
def test_the_compiled_steps_of_large_nets_do_too(name, values):
    check_against_the_compiler(placed(name, values))


@pytest.mark.parametrize('name', PARAMETERS)
def test_every_shipped_config_fits_in_24_gib_at_both_ends(name):
    wanted = memory.of_config(load(name))
    memory.check(wanted, memory.Limit(24 * GIB, 'of a machine'))
    assert wanted.total.most < 24 * GIB
    assert wanted.parameters == 4 * PARAMETERS[name]
    assert all(len(line) <= 80 for line in memory.lines(wanted, None).splitlines())


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('model.width', 20.0),
        ('train.batch_size', 200_000),
        ('train.eval_batch_size', 1_000_000),
    ],
)
def test_what_cannot_fit_is_one_line_with_the_bytes_and_what_to_lower(key, value):
    config = load('paper')
    config.update_from_flattened_dict({key: value})
    wanted = memory.needs(network_of(config), config)
    with pytest.raises(ValueError, match=rf'lower config\.{key}$') as error:
        memory.check(wanted, memory.Limit(12 * GIB, 'of this machine'))
    message = str(error.value)
    assert '\n' not in message and 'there are 12.9 GB of this machine' in message
    memory.check(wanted, None)  # a device that does not say how much it has


def test_more_devices_need_less_each_and_more_together():
    config = load('paper')
    network = network_of(config)
    one = memory.needs(network, config)
    half = memory.needs(network, config, tower=2)
    both = memory.needs(network, config, tower=2, sharing=2)
    assert half.state < 0.51 * one.state and both.state == 2 * half.state
    assert both.training.most < 1.1 * one.training.most


def test_nothing_is_prepared_for_a_run_that_cannot_fit(tmp_path):
    done = run_here(
        'alexnet_jax.main', '--config=demo', '--config.train.eval_batch_size=1000000',
        f'--config.data.data_dir={tmp_path / "data"}', f'--workdir={tmp_path / "run"}',
        '--config.data.stored_size=512', f'--config.data.prepared_dir={tmp_path}',
    )  # fmt: skip
    assert done.status == 1 and done.err.startswith('error: the run needs ')
    assert 'lower config.train.eval_batch_size' in done.err
    assert not list(tmp_path.iterdir())


def test_memory_that_runs_out_is_one_line(capsys):
    with pytest.raises(SystemExit) as error, command_line.user_errors():
        jnp.zeros(2**50, jnp.int8).block_until_ready()
    message = str(error.value)
    assert message.startswith('error: out of memory (RESOURCE_EXHAUSTED')
    assert 'lower config.train.batch_size' in message and '\n' not in message
    with pytest.raises(SystemExit, match='out of memory'), command_line.user_errors():
        np.zeros(2**55, np.int8)
    with pytest.raises(RuntimeError, match='another'), command_line.user_errors():
        raise RuntimeError('another')
