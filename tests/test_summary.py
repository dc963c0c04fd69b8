"""What a config would train, told without its data."""

import math

import jax
import pytest

from alexnet_jax import mesh, optimizer, summary, train_state
from alexnet_jax.configs import caffe, cifar10, clothing, cuda_convnet, demo, paper
from tests.conftest import run_here


def test_the_papers_golden_numbers():
    network = summary.network_of(paper.get_config())
    assert summary.parameters(network) == 60_965_224
    assert summary.multiply_adds(network) == 724_406_816
    text = summary.text(paper.get_config())
    for word in (
        '60,965,224', '724,406,816', 'fc6    all    9216 × 4096', '27 × 27 × 96',
        '900,821 of 128 images', '90 epochs', '1,281,167',
    ):  # fmt: skip
        assert word in text, word
    assert max(map(len, text.splitlines())) <= 80


def test_state_is_what_training_holds():
    config = demo.get_config()
    network = summary.network_of(config)
    one = mesh.make_mesh(data=1, tower=1, towers=2, batch_size=1)
    tx = optimizer.create_optimizer(config.optimizer, steps_per_epoch=1.0)
    state = train_state.abstract_train_state(network, tx, one)
    held = sum(leaf.size * 4 for leaf in jax.tree.leaves(state) if leaf.ndim)
    assert summary.memory(network, 1).state == held
    params = sum(leaf.size * 4 for leaf in jax.tree.leaves(state.params))
    assert summary.memory(network, 1).parameters == params


def test_activations_are_counted_from_the_shapes():
    config = cuda_convnet.get_config('80sec')
    network = summary.network_of(config)
    # Images, then each layer's sum and output; fc10 has no steps.
    numbers = 32 * 32 * 3 + 32 * 32 * 32 + 16 * 16 * 32 + 16 * 16 * 32 + 8 * 8 * 32
    numbers += 8 * 8 * 64 + 4 * 4 * 64 + 64 + 64 + 10
    assert summary.memory(network, 7).activations == 7 * 4 * numbers
    config.model.compute_dtype = 'bfloat16'
    assert summary.memory(summary.network_of(config), 7).activations == 14 * numbers
    masks = sum(math.prod(s) for s in ((4096,), (4096,)))
    whole = summary.network_of(paper.get_config())
    with_masks = summary.memory(whole, 1).activations
    config = paper.get_config()
    config.model.fc6.dropout = config.model.fc7.dropout = 0.0
    without = summary.memory(summary.network_of(config), 1).activations
    assert with_masks - without == masks


@pytest.mark.parametrize(
    ('split', 'count'),
    [
        ('train', 50_000),
        ('train[:45000]', 45_000),
        ('train[90%:]', 5_000),
        ('train[-5000:]', 5_000),
        ('train[10%:20%]+test', 15_000),
        ('nothing', None),
        ('train[1:2:3]', None),
    ],
)
def test_examples_of_slices_of_published_sets(split, count):
    assert summary.examples('cifar10', split) == count
    assert summary.examples('folder', split) is None


def test_steps_are_known_where_the_count_is():
    length = summary.length(cifar10.get_config())
    assert length and length.total_steps == round(30 * 45_000 / 128)
    assert '8 epochs of' in summary.text(demo.get_config())
    assert '450,000 of 256' in summary.text(caffe.get_config())
    config = clothing.get_config()
    config.train.epochs, config.train.steps = 0.0, 70
    assert '70 steps of' in summary.text(config)
    assert 'assumed for folder' in summary.text(config)


def test_the_command_prints_the_table_and_the_bounds_of_memory():
    done = run_here('alexnet_jax.main', '--config=paper', '--summary')
    assert done.out.startswith(summary.text(paper.get_config()))
    assert 'on one device: 0.5 GB of state, up to 0.2 GB of batches' in done.out
