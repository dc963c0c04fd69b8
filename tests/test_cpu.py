"""Each form for the CPU against its formula: values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax import cpu, layers


def normal(*shape, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(scale=scale, size=shape).astype(np.float32)


def whole_numbers(*shape, seed=0):
    """Few values, so that windows have ties."""
    return np.random.default_rng(seed).integers(0, 4, shape).astype(np.float32)


def agree(got, expected):
    largest = np.max(np.abs(expected))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * largest)


CONV1 = {'stride': 4, 'padding': ((0, 3), (0, 3))}
SAME = {'stride': 1, 'padding': ((1, 1), (1, 1))}
NORM = {'k': 2.0, 'alpha': 1e-4, 'beta': 0.75}
CASES = [
    ('relu', [whole_numbers(2, 3, 4, 6) - 2], {}),
    ('conv2d', [normal(2, 23, 23, 3), normal(11, 11, 3, 8)], CONV1),
    ('conv2d', [normal(2, 24, 24, 3), normal(11, 11, 3, 8)], CONV1),  # pixels unread
    ('conv2d', [normal(2, 23, 23, 8), normal(11, 11, 4, 8)], {**CONV1, 'towers': 2}),
    ('conv2d', [normal(2, 7, 7, 8), normal(3, 3, 2, 8)], {**SAME, 'towers': 4}),
    ('dense', [normal(3, 12), normal(12, 8)], {}),
    ('dense', [normal(3, 12), normal(6, 8)], {'towers': 2}),
    ('add_bias', [normal(2, 3, 4, 6), normal(6, seed=1)], {}),
    ('add_bias', [normal(2, 3, 4, 6), normal(3, 4, 6, seed=1)], {}),
    ('add_bias', [normal(2, 6), normal(6, seed=1)], {}),
    *(
        ('max_pool', [draw(2, 11, 8, 3)], {'size': n, 'stride': m, 'ties': ties})
        for n, m in [(3, 2), (2, 2), (5, 3), (2, 3), (3, 1), (4, 3)]
        for draw, ties in [
            (normal, 'first'), (whole_numbers, 'first'), (whole_numbers, 'all'),
        ]
    ),
    ('sum_of_squares', [normal(7)], {}),
    ('sum_of_squares', [normal(3, 3, 48, 10)], {}),
]  # fmt: skip


def identify(case):
    name, arrays, options = case
    return f'{name}-{arrays[0].shape}-{options}'


@pytest.mark.parametrize(('name', 'arrays', 'options'), CASES, ids=map(identify, CASES))
def test_form_is_its_formula(name, arrays, options):
    operation = getattr(layers, name)
    both = [
        functools.partial(form, **options)
        for form in (getattr(cpu, name), operation.formula)
    ]
    check_values_and_gradients(*both, arrays)


@pytest.mark.parametrize('beta', [0.75, 0.6])
@pytest.mark.parametrize(('size', 'towers'), [(5, 1), (5, 2), (3, 4), (9, 1)])
def test_norm_across_maps_is_its_formula(size, towers, beta, monkeypatch):
    norm = functools.partial(
        layers.local_response_norm, size=size, towers=towers, **NORM | {'beta': beta}
    )
    check_norm(norm, normal(2, 3, 4, 12, scale=60), monkeypatch)


@pytest.mark.parametrize('size', [3, 5])
def test_norm_within_maps_is_its_formula(size, monkeypatch):
    norm = functools.partial(layers.spatial_response_norm, size=size, **NORM)
    check_norm(norm, normal(2, 6, 7, 3, scale=60), monkeypatch)


def check_norm(norm, x, monkeypatch):
    expected = value_and_gradients(norm, [x])
    monkeypatch.setattr(layers, 'response_norm', layers.response_norm.formula)
    jax.tree.map(agree, value_and_gradients(norm, [x]), expected)


def check_values_and_gradients(form, formula, arrays):
    jax.tree.map(
        agree, value_and_gradients(form, arrays), value_and_gradients(formula, arrays)
    )


def value_and_gradients(f, arrays):
    @jax.jit
    def both(*arrays):
        y, pull = jax.vjp(f, *arrays)
        return y, pull(jnp.asarray(normal(*y.shape, seed=9)))

    return both(*arrays)


def test_all_ties_share_the_gradient_and_the_first_takes_it_alone():
    x = np.array([[1, 5, 5], [5, 0, 2], [0, 0, 5]], np.float32)[None, :, :, None]

    def gradient(pool, ties):
        return jax.grad(lambda x: 7 * pool(x, 3, 2, ties).sum())(x)[0, :, :, 0]

    for pool in (cpu.max_pool, layers.max_pool.formula):
        np.testing.assert_array_equal(gradient(pool, 'all'), 7 * (x == 5)[0, :, :, 0])
        first = np.zeros((3, 3))
        first[0, 1] = 7
        np.testing.assert_array_equal(gradient(pool, 'first'), first)


def test_the_form_is_taken_where_jax_runs_on_a_cpu_and_the_formula_elsewhere(
    monkeypatch,
):
    x = normal(2, 8, 8, 3)

    def program():
        return str(jax.make_jaxpr(lambda x: layers.max_pool(x, 3, 2))(x))

    assert 'reduce_window' not in program()
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    assert 'reduce_window' in program()


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_what_is_computed_once_is_what_came_in(dtype):
    x = jnp.array([0.0, -0.0, 1e-30, 1.5, -3e38, jnp.inf, -jnp.inf, jnp.nan], dtype)
    once = jax.jit(cpu.computed_once)
    assert np.asarray(once(x)[:-1]).tobytes() == np.asarray(x[:-1]).tobytes()
    assert np.isnan(once(x)[-1])
    grad = jax.grad(lambda x: jnp.sum(once(x) * normal(3, 4)))(normal(3, 4, seed=1))
    agree(grad, normal(3, 4))


def test_a_pool_is_computed_once_for_a_convolution_and_its_gradient():
    # Eight maxima of nine views, for each tower. XLA by itself takes them twice, the
    # second time while it transposes.
    def loss(kernel, x):
        pooled = layers.max_pool(x, 3, 2)
        y = layers.conv2d(pooled, kernel, stride=1, padding=((1, 1), (1, 1)), towers=2)
        return jnp.sum(jnp.square(y))

    options = cpu.compiler_options('cpu')
    gradient = jax.jit(jax.grad(loss), compiler_options=options)
    program = gradient.lower(normal(3, 3, 4, 8), normal(8, 15, 15, 8)).compile()
    assert program.as_text().count(' maximum(') == 16


def test_what_is_compiled_quickly_draws_the_same_bits():
    def draw(key):
        return 0.01 * jax.random.normal(key, (3, 3, 16, 24))

    options, key = cpu.quick_compiler_options('cpu'), jax.random.key(0)
    assert options and not cpu.quick_compiler_options('gpu')
    quick = jax.jit(draw, compiler_options=options)(key)
    np.testing.assert_array_equal(quick, jax.jit(draw)(key))


def test_the_compilers_options_are_the_cpus_alone_and_it_knows_them():
    assert cpu.compiler_options('gpu') == {}
    options = cpu.compiler_options('cpu')
    assert options
    x, kernel = normal(1, 9, 9, 4), normal(3, 3, 4, 8)

    def convolve(x, kernel):
        return layers.conv2d(x, kernel, stride=1, padding=((1, 1), (1, 1)))

    program = jax.jit(convolve, compiler_options=options).lower(x, kernel).compile()
    agree(program(x, kernel), jax.jit(convolve)(x, kernel))
