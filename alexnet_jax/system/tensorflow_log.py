"""What TensorFlow writes to stderr as it loads; only errors are wanted."""

import os


def silence() -> None:
    """Keeps TensorFlow quiet; call it before jax and TensorFlow are imported.

    What the environment says already stands.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    # oneDNN announces itself whatever the level; events and records need none of it.
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
