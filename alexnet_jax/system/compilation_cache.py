"""Keeps compiled programs between runs, so that only the first one waits for XLA."""

import os
from pathlib import Path

import jax

MIN_SECONDS = 0.5  # of compilation; what is faster is not kept


def enable() -> None:
    """Turns jax's persistent cache on; call it before the first use of jax.

    Entries go to `alexnet_jax/compiled` in $XDG_CACHE_HOME, by default ~/.cache, and
    can be deleted at any time. A directory that cannot be made or written is done
    without. What the environment says about jax's cache stands: with
    JAX_COMPILATION_CACHE_DIR it is elsewhere, with JAX_ENABLE_COMPILATION_CACHE=false
    there is none.

    jax finds an entry by the program, the versions, the flags and the devices with
    their instruction sets, and lets only process 0 write. Where one is damaged it warns
    and compiles, at every start until the entry is deleted.
    """
    if not jax.config.jax_enable_compilation_cache:  # pyrefly: ignore
        return
    if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
        jax.config.update('jax_persistent_cache_min_compile_time_secs', MIN_SECONDS)
    if jax.config.jax_compilation_cache_dir:  # pyrefly: ignore
        return
    try:
        root = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
        directory = Path(root, 'alexnet_jax', 'compiled')
        # Entries are run: nobody else may write them.
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    if os.access(directory, os.W_OK | os.X_OK):
        jax.config.update('jax_compilation_cache_dir', str(directory))
