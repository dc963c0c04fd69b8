"""One key, one use: what a run draws, and from which keys."""

import collections
import functools

import jax
import numpy as np
import pytest

from alexnet_jax import mesh as mesh_lib
from alexnet_jax import optimizer, randomness, step, train, train_state
from tests.conftest import network_of

SAMPLERS = (
    'ball', 'bernoulli', 'beta', 'bits', 'categorical', 'choice', 'exponential',
    'gumbel', 'laplace', 'normal', 'permutation', 'randint', 'truncated_normal',
    'uniform',
)  # fmt: skip


def test_no_two_draws_of_a_run_share_a_key(small, tmp_path, monkeypatch):
    drawn: list[tuple[str, bytes]] = []
    sequences: list[tuple[int, ...]] = []

    def recording(name, sampler):
        @functools.wraps(sampler)
        def draw(key, *args, **kwargs):
            jax.debug.callback(
                lambda data: drawn.append((name, np.asarray(data).tobytes())),
                jax.random.key_data(key),
            )
            return sampler(key, *args, **kwargs)

        return draw

    for name in SAMPLERS:
        monkeypatch.setattr(
            jax.random, name, recording(name, getattr(jax.random, name))
        )
    plain = randomness._sequence

    def sequence(*arguments):
        made = plain(*arguments)
        sequences.append(tuple(made.generate_state(4).tolist()))
        return made

    monkeypatch.setattr(randomness, '_sequence', sequence)
    small.train.steps, small.train.epochs = 3, 0.0
    small.mesh.data = small.mesh.tower = 1
    train.train_and_evaluate(small, tmp_path)
    jax.effects_barrier()

    # Eight kernels, and the masks of fc6 and fc7 in each of three steps.
    kinds = collections.Counter(name for name, _ in drawn)
    assert kinds == {'normal': 8, 'bernoulli': 6}
    assert len({key for _, key in drawn}) == 14
    # The order, and a generator for each batch, prefetched ones included.
    assert len(sequences) >= 1 + 3
    assert len(set(sequences)) == len(sequences)


def test_the_first_mask_is_not_the_signs_of_the_first_kernel(small):
    network = network_of(small)
    mesh = mesh_lib.make_mesh(data=1, tower=1, towers=2, batch_size=32)
    tx = optimizer.create_optimizer(small.optimizer, steps_per_epoch=1)
    params = train_state.create_train_state(network, tx, mesh, seed=0).params
    key = jax.random.fold_in(randomness.key(0, 'dropout'), 0)
    masks = step.draw_masks(network, key, 32, mesh)
    for name, mask in masks.items():
        kernel = np.asarray(params[name]['kernel'])[:32]
        kept = np.asarray(mask).astype(float)
        # Unrelated to 1 in 20: 0 within 4 standard deviations, as is an accident.
        centred = (kept - kept.mean()) * np.sign(kernel)
        assert abs(centred.mean()) < 4 * kept.std() / np.sqrt(kept.size), name


def test_streams_differ_by_seed_name_and_position():
    keys = {
        jax.random.key_data(randomness.key(seed, stream)).tobytes()
        for seed in range(5)
        for stream in ('parameters', 'dropout')
    }
    assert len(keys) == 10
    draws = {
        randomness.generator(seed, stream, position).integers(2**62)
        for seed in range(5)
        for stream in ('order', 'augmentation')
        for position in range(5)
    }
    assert len(draws) == 50
    assert randomness.number(0, 'order') == randomness.number(0, 'order')
    assert 0 <= randomness.number(0, 'order') < 2**32


@pytest.mark.parametrize('seed', [0, 2**32 - 1])
def test_every_allowed_seed_gives_streams_of_its_own(seed):
    other = jax.random.key_data(randomness.key(1, 'parameters'))
    mine = jax.random.key_data(randomness.key(seed, 'parameters'))
    assert not np.array_equal(mine, other)
