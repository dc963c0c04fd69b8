"""The update and the schedules against loops written by hand."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alexnet_jax import optimizer
from configs import paper


def settings(**values):
    config = paper.get_config().optimizer
    config.update_from_flattened_dict(values)
    return config


def test_update_is_2012s_over_two_cuts_of_the_rate():
    config = settings(schedule='steps', bias_rate=2.0)
    config.steps.epochs = (2.0, 4.0)
    rate = optimizer.create_learning_rate_schedule(
        config, steps_per_epoch=10, total_steps=60
    )
    tx = optimizer.create_optimizer(config, steps_per_epoch=10)
    rng = np.random.default_rng(0)
    params = {
        'fc': {'kernel': jnp.asarray(rng.normal(size=(3, 2))), 'bias': jnp.ones(2)}
    }
    state = tx.init(params)
    w = np.asarray(params['fc']['kernel'], np.float64)
    b = np.ones(2)
    v_w, v_b = np.zeros_like(w), np.zeros_like(b)
    for step in range(50):
        g_w, g_b = rng.normal(size=w.shape), rng.normal(size=b.shape)
        updates, state = tx.update(
            {'fc': {'kernel': jnp.asarray(g_w), 'bias': jnp.asarray(g_b)}},
            state,
            params,
            learning_rate=rate(jnp.int32(step), optimizer.initial_plateau()),
            step=jnp.int32(step),
        )
        params = optax.apply_updates(params, updates)
        epsilon = 0.01 * 0.1 ** ((step >= 20) + (step >= 40))
        v_w = 0.9 * v_w - 0.0005 * epsilon * w - epsilon * g_w
        v_b = 0.9 * v_b - 2.0 * epsilon * g_b
        w, b = w + v_w, b + v_b
    np.testing.assert_allclose(params['fc']['kernel'], w, rtol=1e-5)
    np.testing.assert_allclose(params['fc']['bias'], b, rtol=1e-5)


def test_plateau_cuts_after_patience_and_at_most_three_times():
    plateau = optimizer.initial_plateau()
    cuts = []
    for error in [0.9, 0.8, 0.7995, 0.81, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7]:
        plateau = optimizer.update_plateau(
            plateau, error, patience=2, threshold=0.001, max_cuts=3
        )
        cuts.append(int(plateau.cuts))
    assert cuts == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3]


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('constant', {0: 0.01, 99: 0.01}),
        ('cosine', {0: 0.01, 50: 0.005, 100: 0.0}),
        ('dexp', {0: 0.01, 25: 0.0015874, 50: 0.00025198, 75: 4e-5, 100: 4e-5}),
        ('steps', {229: 0.01, 230: 0.001, 510: 1e-4, 780: 1e-5}),
    ],
)
def test_schedule_values(name, expected):
    rate = optimizer.create_learning_rate_schedule(
        settings(schedule=name), steps_per_epoch=10, total_steps=100
    )
    for step, value in expected.items():
        got = float(rate(jnp.int32(step), optimizer.initial_plateau()))
        assert got == pytest.approx(value, rel=1e-4, abs=1e-9)


def test_plateau_schedule_follows_the_cuts():
    rate = optimizer.create_learning_rate_schedule(
        settings(), steps_per_epoch=10, total_steps=100
    )
    cut = dataclasses.replace(optimizer.initial_plateau(), cuts=np.int32(2))
    assert float(rate(jnp.int32(0), cut)) == pytest.approx(1e-4)
