"""The compiled step: the same numbers on every mesh, and exactly the right ones."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from alexnet_jax import mesh as mesh_lib
from alexnet_jax import metrics, model, optimizer, randomness, step, train_state
from alexnet_jax.configs import paper

BATCH, SIZE, CLASSES = 8, 64, 10


def make_batches(count):
    rng = np.random.default_rng(0)
    return [
        {
            'image': rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8),
            'label': rng.integers(0, CLASSES, BATCH).astype(np.int32),
            'colour_shift': rng.normal(0, 9, (BATCH, 3)).astype(np.float32),
            'gain': np.full(BATCH, 1 / 1.1, np.float32),
            'corner': np.zeros((BATCH, 2), np.int32),
            'mirrored': np.zeros(BATCH, bool),
        }
        for _ in range(count)
    ]


CONFIG = paper.get_config()
CONFIG.model.width = 0.125
NETWORK = model.network_from_config(CONFIG.model, SIZE, CLASSES)


@functools.cache
def run_on(data: int, tower: int) -> dict[str, Any]:
    """Three steps and an evaluation on one mesh."""
    tx = optimizer.create_optimizer(CONFIG.optimizer, steps_per_epoch=10)
    rate = optimizer.create_learning_rate_schedule(
        CONFIG.optimizer, steps_per_epoch=10, total_steps=100
    )
    mesh = mesh_lib.make_mesh(data=data, tower=tower, towers=2, batch_size=BATCH)
    state = train_state.create_train_state(NETWORK, tx, mesh, seed=0)
    first_params = jax.tree.map(np.asarray, state.params)
    train_step = step.make_train_step(NETWORK, tx, rate, mesh, seed=0)
    mean = jax.device_put(
        np.full((SIZE, SIZE, 3), 120, np.float32), mesh_lib.replicated(mesh)
    )
    losses, norms = [], []
    for batch in make_batches(3):
        state, out = train_step(state, mesh_lib.put_batch(batch, mesh, BATCH), mean)
        losses.append(float(out['sums'][0] / out['sums'][3]))
        norms.append(np.sqrt(np.asarray(out['squared_norms']).sum(0)))
    eval_step = step.make_eval_step(NETWORK, mesh, [(0, 0, False), (0, 0, True)])
    batch = make_batches(1)[0]
    batch = {
        'image': batch['image'],
        'label': batch['label'],
        'mask': np.array([1, 1, 1, 1, 1, 1, 0, 1], np.float32),
    }
    rows = eval_step(state.params, mesh_lib.put_batch(batch, mesh, BATCH), mean)
    return {
        'losses': losses,
        'norms': np.array(norms),
        'first_params': first_params,
        'state': state,
        'params': jax.tree.map(np.asarray, state.params),
        'eval': np.asarray(rows).sum(1),
    }


@pytest.mark.parametrize(
    'mesh',
    [
        (1, 2),
        # Of these `test_a_run_moves_from_mesh_to_mesh` makes a few steps each.
        *(pytest.param(m, marks=pytest.mark.long) for m in [(2, 1), (2, 2), (4, 1)]),
    ],
)
def test_every_mesh_computes_the_same_run(mesh):
    one, other = run_on(1, 1), run_on(*mesh)
    np.testing.assert_allclose(other['losses'], one['losses'], rtol=1e-5)
    np.testing.assert_allclose(other['norms'], one['norms'], rtol=1e-5)
    np.testing.assert_allclose(other['eval'], one['eval'], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        other['params'],
        one['params'],
    )


def test_two_towers_halve_every_kernel_and_its_momentum():
    state = run_on(1, 2)['state']
    for tree in (state.params, state.opt_state):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if 'kernel' in str(path[-1:]) and leaf.ndim:
                part = leaf.sharding.shard_shape(leaf.shape)
                assert np.prod(part) * 2 == leaf.size, path


def test_first_loss_is_that_of_the_plain_module():
    """Without a mesh: the module called directly, its dropout masks drawn here."""
    batch = make_batches(1)[0]
    logits = jax.jit(model.merge(NETWORK, run_on(1, 1)['first_params']).__call__)
    mesh = mesh_lib.make_mesh(data=1, tower=1, towers=2, batch_size=BATCH)
    key = jax.random.fold_in(randomness.key(0, 'dropout'), 0)
    masks = step.draw_masks(NETWORK, key, BATCH, mesh)
    images = batch['image'].astype(np.float32) - 120
    images = (images + batch['colour_shift'][:, None, None, :]) / 1.1
    log_probs = jax.nn.log_softmax(logits(images, masks))
    loss = -np.mean(np.asarray(log_probs)[np.arange(BATCH), batch['label']])
    assert run_on(1, 1)['losses'][0] == pytest.approx(float(loss), rel=1e-5)


def test_evaluation_averages_the_probabilities_of_the_views():
    batch = make_batches(1)[0]
    logits = jax.jit(model.merge(NETWORK, run_on(1, 1)['params']).__call__)
    images = batch['image'].astype(np.float32) - 120
    probabilities = np.mean(
        [jax.nn.softmax(logits(x)) for x in (images, images[:, :, ::-1])], axis=0
    )
    mask = jnp.array([1, 1, 1, 1, 1, 1, 0, 1], jnp.float32)
    expected = metrics.example_sums(
        jnp.log(probabilities), jnp.asarray(batch['label']), mask
    )
    np.testing.assert_allclose(run_on(1, 1)['eval'], expected, rtol=1e-5)


def test_dropout_masks_differ_between_steps_and_layers():
    mesh = mesh_lib.make_mesh(data=1, tower=1, towers=2, batch_size=BATCH)
    key = jax.random.key(0)
    masks = [
        step.draw_masks(NETWORK, jax.random.fold_in(key, i), BATCH, mesh)
        for i in (0, 1)
    ]
    assert not np.array_equal(masks[0]['fc6'], masks[1]['fc6'])
    assert not np.array_equal(masks[0]['fc6'], masks[0]['fc7'])
    assert float(masks[0]['fc6'].mean()) == pytest.approx(0.5, abs=0.05)


def test_flax_state_round_trips_through_the_plain_tree():
    module = model.merge(NETWORK, run_on(1, 1)['params'])
    tree = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    jax.tree.map(np.testing.assert_array_equal, tree, run_on(1, 1)['params'])


@pytest.mark.parametrize(
    ('sizes', 'words'),
    [
        (
            {'data': 8, 'tower': 1},
            ['mesh.data=8', '4 \\(cpu\\)', 'JAX_NUM_CPU_DEVICES'],
        ),
        ({'data': 1, 'tower': 3}, ['mesh.tower=3', 'towers=2']),
        ({'data': 3, 'tower': 1}, ['batch_size=8', 'mesh.data=3']),
    ],
)
def test_a_mesh_that_does_not_fit_is_named(sizes, words):
    with pytest.raises(ValueError, match='.*'.join(words)):
        mesh_lib.make_mesh(**sizes, towers=2, batch_size=BATCH)


def test_processes_that_cannot_share_the_batch_are_named(monkeypatch):
    class Device:
        platform = 'cpu'

        def __init__(self, process_index: int):
            self.process_index = process_index

    monkeypatch.setattr(jax, 'devices', lambda: [Device(i) for i in range(3)])
    with pytest.raises(ValueError, match=r'process 2 of 3.*batch_size=8'):
        mesh_lib.make_mesh(data=0, tower=0, towers=1, batch_size=8)


def test_mesh_is_chosen_from_the_devices():
    chosen = mesh_lib.make_mesh(data=0, tower=0, towers=2, batch_size=BATCH)
    assert dict(chosen.shape) == {'data': 2, 'tower': 2}  # of the tests' four devices
    odd = mesh_lib.make_mesh(data=0, tower=0, towers=2, batch_size=7)
    assert dict(odd.shape) == {'data': 1, 'tower': 2}
    one_tower = mesh_lib.make_mesh(data=0, tower=0, towers=1, batch_size=BATCH)
    assert dict(one_tower.shape) == {'data': 4, 'tower': 1}


def test_mean_under_the_crop_is_cut_and_mirrored_with_it():
    rng = np.random.default_rng(0)
    mean = rng.normal(120, 9, (SIZE + 8, SIZE + 8, 3)).astype(np.float32)
    images = rng.integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    corner, mirrored = np.array([[3, 5], [8, 0]]), np.array([False, True])
    less = step.subtract_mean(jnp.asarray(images), mean[None], corner, mirrored)
    first = mean[3 : 3 + SIZE, 5 : 5 + SIZE]
    second = mean[8 : 8 + SIZE, :SIZE][:, ::-1]
    np.testing.assert_allclose(less[0], images[0] - first, atol=1e-4)
    np.testing.assert_allclose(less[1], images[1] - second, atol=1e-4)
    centre = step.subtract_mean(jnp.asarray(images), first, corner, mirrored)
    np.testing.assert_allclose(centre, images - first, atol=1e-4)
    # Of images that are not cropped it is mirrored too.
    less = step.subtract_mean(jnp.asarray(images), first[None], 0 * corner, mirrored)
    np.testing.assert_allclose(less[1], images[1] - first[:, ::-1], atol=1e-4)
