"""The demo data set: importing this registers `rendered_shapes` with TFDS."""

from alexnet_jax.data.rendered_shapes import rendered_shapes_dataset_builder  # noqa: F401
