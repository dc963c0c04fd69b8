"""The update and the schedules against loops written by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alexnet_jax import optimizer
from alexnet_jax.configs import caffe, cuda_convnet, paper, released_2012, six_conv
from alexnet_jax.run import progress


def settings(**values):
    config = paper.get_config().optimizer
    config.update_from_flattened_dict(values)
    return config


def run(config, steps: int, total_steps: int = 60):
    """Drives the optimizer with random gradients; parameters after every step."""
    rate = optimizer.create_learning_rate_schedule(
        config, steps_per_epoch=10, total_steps=total_steps
    )
    tx = optimizer.create_optimizer(config, steps_per_epoch=10)
    rng = np.random.default_rng(0)
    params = {
        layer: {'kernel': rng.normal(size=(3, 2)), 'bias': rng.normal(size=2)}
        for layer in ('conv1', 'fc8')
    }
    history, gradients = [params], []
    params = jax.tree.map(jnp.asarray, params)
    state = tx.init(params)
    for step in range(steps):
        grads = jax.tree.map(lambda p: rng.normal(size=p.shape), history[0])
        updates, state = tx.update(
            jax.tree.map(jnp.asarray, grads),
            state,
            params,
            learning_rate=rate(jnp.int32(step), optimizer.initial_plateau()),
            step=jnp.int32(step),
        )
        params = optax.apply_updates(params, updates)
        history.append(jax.tree.map(np.asarray, params))
        gradients.append(grads)
    return history, gradients


def test_update_is_2012s_over_two_cuts_of_the_rate():
    """v ← 0.9 v − wc ε w − ε g, w ← w + v, in a loop over float64 NumPy arrays."""
    config = settings(
        schedule='steps',
        bias_rate=2.0,
        bias_annealed=False,
        bias_cuts=(3.0,),
        layer_rates=(('conv1', 0.0, 0.5), ('conv1', 3.0, 0.1)),
        layer_decays=(('fc8', 0.03),),
    )
    config.steps.epochs = (2.0, 4.0)
    history, gradients = run(config, 50)
    for layer, decay in (('conv1', 0.0005), ('fc8', 0.03)):
        w, b = (history[0][layer][name].copy() for name in ('kernel', 'bias'))
        v_w, v_b = np.zeros_like(w), np.zeros_like(b)
        for step, grads in enumerate(gradients):
            multiplier = (0.5 if step < 30 else 0.1) if layer == 'conv1' else 1.0
            epsilon = 0.01 * 0.1 ** ((step >= 20) + (step >= 40)) * multiplier
            epsilon_b = 2.0 * 0.01 * 0.1 ** (step >= 30) * multiplier
            g_w, g_b = grads[layer]['kernel'], grads[layer]['bias']
            v_w = 0.9 * v_w - decay * epsilon * w - epsilon * g_w
            v_b = 0.9 * v_b - epsilon_b * g_b
            w, b = w + v_w, b + v_b
            now = history[step + 1][layer]
            np.testing.assert_allclose(now['kernel'], w, rtol=2e-5, atol=1e-6)
            np.testing.assert_allclose(now['bias'], b, rtol=2e-5, atol=1e-6)


def test_a_layer_frozen_by_a_multiplier_of_0_stops_at_once():
    history, _ = run(settings(layer_rates=(('conv1', 2.0, 0.0),)), 30)
    moving, frozen = history[20], history[30]
    np.testing.assert_array_equal(moving['conv1']['kernel'], frozen['conv1']['kernel'])
    np.testing.assert_array_equal(moving['conv1']['bias'], frozen['conv1']['bias'])
    assert not np.array_equal(history[19]['conv1']['bias'], moving['conv1']['bias'])
    assert not np.array_equal(moving['fc8']['kernel'], frozen['fc8']['kernel'])


def released_rates(run_name: str, epoch: float) -> dict[str, float]:
    return rates_at(released_2012.get_config(run_name), round(epoch * 100), 100)


def rates_at(config, step: int, steps_per_epoch: float) -> dict[str, float]:
    """The rates of one update, read off its effect on weights without momentum."""
    config = config.optimizer
    config.momentum, config.weight_decay, config.layer_decays = 0.0, 0.0, ()
    rate = optimizer.create_learning_rate_schedule(
        config, steps_per_epoch=steps_per_epoch, total_steps=10_000
    )
    tx = optimizer.create_optimizer(config, steps_per_epoch=steps_per_epoch)
    ones = {
        layer: {'kernel': jnp.ones(()), 'bias': jnp.ones(())}
        for layer in ('conv1', 'conv2')
    }
    step = jnp.int32(step)
    plateau = optimizer.initial_plateau()
    updates, _ = tx.update(
        ones, tx.init(ones), ones, learning_rate=rate(step, plateau), step=step
    )
    return {
        f'{layer}/{name}': -float(value)
        for layer, weights in updates.items()
        for name, value in weights.items()
    }


@pytest.mark.parametrize(
    ('run_name', 'epoch', 'conv2', 'conv1', 'bias'),
    [
        ('145', 24.99, 0.01, 0.01, 0.02),
        ('145', 25.0, 0.001, 0.001, 0.02),
        ('145', 51.0, 1e-4, 1e-4, 0.02),
        ('145', 67.0, 1e-4, 1e-5, 0.02),
        ('145', 72.0, 1e-4, 0.0, 0.02),
        ('145', 79.0, 1e-5, 0.0, 0.02),
        ('145-2010', 22.99, 0.01, 0.01, 0.02),
        ('145-2010', 23.0, 0.001, 0.001, 0.02),
        ('145-2010', 51.0, 1e-4, 1e-4, 0.002),
        ('145-2010', 68.0, 1e-4, 1e-5, 0.002),
        ('145-2010', 78.0, 1e-5, 0.0, 0.002),
    ],
)
def test_released_runs_have_their_logged_rates(run_name, epoch, conv2, conv1, bias):
    rates = released_rates(run_name, epoch)
    assert rates['conv2/kernel'] == pytest.approx(conv2, rel=1e-5)
    assert rates['conv1/kernel'] == pytest.approx(conv1, rel=1e-5)
    assert rates['conv2/bias'] == pytest.approx(bias, rel=1e-5)


IMAGES = 1_281_167


def length_of(config, num_examples: int = IMAGES) -> progress.RunLength:
    return progress.run_length(
        num_examples=num_examples,
        batch_size=config.train.batch_size,
        epochs=config.train.epochs,
        steps=config.train.steps,
        eval_every_epochs=1.0,
        schedule_epochs=config.train.schedule_epochs,
    )


@pytest.mark.parametrize(
    ('values', 'total'),
    [
        ({'train.epochs': 9.1}, 9100),  # a tenth of the 91 epochs that were logged
        ({'train.epochs': 0.0, 'train.steps': 910}, 910),
    ],
)
def test_a_run_of_another_length_has_its_cuts_at_the_same_fractions(values, total):
    config = released_2012.get_config('145')
    config.update_from_flattened_dict(values)
    length = length_of(config, num_examples=128_000)
    assert length.total_steps == total
    for event, conv1, conv2 in (
        (25, 0.001, 0.001), (51, 1e-4, 1e-4), (67, 1e-5, 1e-4), (72, 0.0, 1e-4),
        (79, 0.0, 1e-5),
    ):  # fmt: skip
        step = event * total // 91
        after = rates_at(config.copy_and_resolve_references(), step, per(length))
        assert after['conv1/kernel'] == pytest.approx(conv1, rel=1e-5)
        assert after['conv2/kernel'] == pytest.approx(conv2, rel=1e-5)
        before = rates_at(config.copy_and_resolve_references(), step - 1, per(length))
        assert before != after


def per(length: progress.RunLength) -> float:
    return length.steps_per_schedule_epoch


def test_shipped_schedules_are_as_logged_at_their_own_length():
    for run_name in released_2012.LOGGED:
        length = length_of(released_2012.get_config(run_name))
        assert length.steps_per_schedule_epoch == length.steps_per_epoch
    of_caffe = length_of(caffe.get_config())
    assert of_caffe.total_steps == 450_000
    assert per(of_caffe) == pytest.approx(of_caffe.steps_per_epoch)


def test_a_schedule_without_a_length_is_of_the_runs_own_epochs():
    config = released_2012.get_config()
    config.train.epochs, config.train.schedule_epochs = 9.1, 0.0
    length = length_of(config, num_examples=128_000)
    assert length.steps_per_schedule_epoch == length.steps_per_epoch == 1000


def test_six_conv_pretrains_for_8_epochs_on_a_schedule_of_91():
    length = length_of(six_conv.get_config())
    assert length.total_steps == round(8.1 * IMAGES / 128)
    assert per(length) * 91 == pytest.approx(length.total_steps, rel=1e-5)
    finetuning = length_of(six_conv.get_config('finetune'))
    assert per(finetuning) == finetuning.steps_per_epoch


@pytest.mark.parametrize(
    ('net', 'end', 'bias'),
    [
        ('80sec', 8.0, 0.0002),
        ('18pct', 120.0, 0.0002),  # "reduce all learning rates"
        ('conv_local_13pct_lrn', 450.0, 0.002),  # "(epsW)"
        ('conv_local_11pct', 500.0, 0.002),
    ],
)
def test_cuda_convnets_cuts_are_of_the_weights_or_of_all(net, end, bias):
    rates = rates_at(cuda_convnet.get_config(net), round(end * 10), 10)
    assert rates['conv1/kernel'] == pytest.approx(1e-4, rel=1e-5)
    assert rates['conv1/bias'] == pytest.approx(bias, rel=1e-5)
    before = rates_at(cuda_convnet.get_config(net), round(end * 10) - 1, 10)
    assert before['conv2/kernel'] == pytest.approx(0.001, rel=1e-5)
    assert before['conv2/bias'] == pytest.approx(0.002, rel=1e-5)


def test_released_runs_end_and_drop_the_noise_when_their_notes_say():
    for name, stop, noise_off in (('145', 91, 67), ('145-2010', 93, 68)):
        config = released_2012.get_config(name)
        assert (config.train.epochs, config.data.colour_off_epoch) == (stop, noise_off)


def test_caffes_rate_is_cut_every_100_000_iterations():
    config = caffe.get_config()
    rate = optimizer.create_learning_rate_schedule(
        config.optimizer,
        steps_per_epoch=1_281_167 / config.train.batch_size,
        total_steps=config.train.steps,
    )
    plateau = optimizer.initial_plateau()
    for cuts in range(1, 5):
        at = 100_000 * cuts
        for step, times in ((at - 1, cuts - 1), (at, cuts)):
            found = float(rate(jnp.int32(step), plateau))
            assert found == pytest.approx(0.01 * 0.1**times, rel=1e-5)


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
    assert float(rate(jnp.int32(0), cut)) == pytest.approx(1e-4, rel=1e-5)
