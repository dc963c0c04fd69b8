"""The views of a stored square from which a network predicts: one, or ten."""

import sys

from ml_collections import ConfigDict

from alexnet_jax.data import augment
from alexnet_jax.step import View


def views(data: ConfigDict, count: int) -> tuple[View, ...]:
    """The centre crop, or the corners and the centre with their mirrors (§4.1).

    Args:
      data: config.data.
      count: 1 or 10.

    Raises:
      ValueError: it is another number.
    """
    if count == 1:
        centre = augment.centre_offset(data.stored_size, data.crop_size)
        return ((centre, centre, False),)
    if count == 10:
        return tuple(augment.ten_views(data.stored_size, data.crop_size))
    raise ValueError(f'views={count}: expected 1 or 10')


def warn_without_mirrors(config: ConfigDict, count: int) -> None:
    """Says on stderr where half of the views were not seen in training."""
    if count == 10 and not config.data.mirror:
        print(
            'warning: this net was trained without mirrors (config.data.mirror=False), '
            'and five of the ten views are mirrored; --views=1 may be better',
            file=sys.stderr,
        )
