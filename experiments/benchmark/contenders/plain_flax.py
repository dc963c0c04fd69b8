"""The same network as it is usually written in Flax, a peer of our layers.

`nnx.Conv` with feature_group_count, `nnx.Linear`, `nnx.max_pool`, a response norm by
`reduce_window` and a power, `nnx.Dropout`, `optax` and one `nnx.jit`.
"""

import numpy as np

from experiments.benchmark import worker


def train_step(settings: worker.Settings) -> worker.Repetition:
    """§3's network and §5's update at a constant rate; settings: `batch_size`."""
    jax = worker.start_jax(settings)
    import optax
    from flax import nnx

    jnp = jax.numpy

    def kernels(params):  # type: ignore[no-untyped-def]
        return jax.tree.map(lambda w: w.ndim > 1, params)

    dtype = jnp.dtype(settings.get('dtype', 'float32'))
    batch_size = settings['batch_size']
    net = make_network(dtype)
    net.train()
    optimizer = nnx.Optimizer(
        net,
        optax.chain(
            optax.add_decayed_weights(5e-4, kernels), optax.sgd(0.01, momentum=0.9)
        ),
        wrt=nnx.Param,
    )
    image, label = make_batch(batch_size)

    @nnx.jit
    def step(net, optimizer, image, label):  # type: ignore[no-untyped-def]
        def loss_of(net):  # type: ignore[no-untyped-def]
            logits = net(image.astype(jnp.float32) - 120.0)
            return optax.softmax_cross_entropy_with_integer_labels(
                logits.astype(jnp.float32), label
            ).mean()

        loss, grads = nnx.value_and_grad(loss_of)(net)
        optimizer.update(net, grads)
        return loss

    def repetition() -> None:
        assert np.isfinite(step(net, optimizer, image, label))

    return repetition


def predict_step(settings: worker.Settings) -> worker.Repetition:
    """The log-probabilities of one batch; settings as for `train_step`."""
    jax = worker.start_jax(settings)
    from flax import nnx

    jnp = jax.numpy
    net = make_network(jnp.dtype(settings.get('dtype', 'float32')))
    net.eval()
    image, _ = make_batch(settings['batch_size'])

    @nnx.jit
    def logits(net, image):  # type: ignore[no-untyped-def]
        return jax.nn.log_softmax(net(image.astype(jnp.float32) - 120.0))

    return lambda: np.isfinite(logits(net, image)).all()


def make_batch(batch_size: int):  # type: ignore[no-untyped-def]
    """Images u8[B, 224, 224, 3] of noise, and labels i32[B]."""
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (batch_size, 224, 224, 3), np.uint8)
    return jnp.asarray(image), jnp.asarray(rng.integers(0, 10, batch_size))


def response_norm(x):  # type: ignore[no-untyped-def]
    """§3.3 within each of two groups of maps."""
    import jax.numpy as jnp
    from jax import lax

    groups = x.reshape(*x.shape[:-1], 2, -1)
    energy = lax.reduce_window(
        groups**2, np.array(0, x.dtype), lax.add, (1, 1, 1, 1, 5), (1,) * 5, 'SAME'
    )
    return x / jnp.power(2.0 + 1e-4 * energy, 0.75).reshape(x.shape)


def make_network(dtype):  # type: ignore[no-untyped-def]
    """§3's network, with its two towers as groups."""
    from flax import nnx

    def conv(inputs, features, size, stride=1, padding=0, groups=1, bias=0.0):  # type: ignore[no-untyped-def]
        return nnx.Conv(
            inputs,
            features,
            (size, size),
            strides=stride,
            padding=padding,
            feature_group_count=groups,
            kernel_init=nnx.initializers.normal(0.01),
            bias_init=nnx.initializers.constant(bias),
            dtype=dtype,
            rngs=rngs,
        )

    def linear(inputs, features, std, bias):  # type: ignore[no-untyped-def]
        return nnx.Linear(
            inputs,
            features,
            kernel_init=nnx.initializers.normal(std),
            bias_init=nnx.initializers.constant(bias),
            dtype=dtype,
            rngs=rngs,
        )

    def pool(x):  # type: ignore[no-untyped-def]
        return nnx.max_pool(x, (3, 3), strides=(2, 2))

    rngs = nnx.Rngs(0)
    return nnx.Sequential(
        conv(3, 96, 11, stride=4, padding=((0, 3), (0, 3))),
        nnx.relu,
        response_norm,
        pool,
        conv(96, 256, 5, padding=2, groups=2, bias=1.0),
        nnx.relu,
        response_norm,
        pool,
        conv(256, 384, 3, padding=1),
        nnx.relu,
        conv(384, 384, 3, padding=1, groups=2, bias=1.0),
        nnx.relu,
        conv(384, 256, 3, padding=1, groups=2, bias=1.0),
        nnx.relu,
        pool,
        lambda x: x.reshape(len(x), -1),
        linear(9216, 4096, 0.005, 1.0),
        nnx.relu,
        nnx.Dropout(0.5, rngs=rngs),
        linear(4096, 4096, 0.005, 1.0),
        nnx.relu,
        nnx.Dropout(0.5, rngs=rngs),
        linear(4096, 1000, 0.01, 0.0),
    )
