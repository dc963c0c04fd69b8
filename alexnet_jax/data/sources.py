"""What a source of images is, and what everyone who opens one says when it is missing.

There are two: a folder of images (`folders`) and a TFDS set (`tfds_sets`). A source
hands any contiguous range of a split out as rows, a small value that reads it in
another process.
"""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from ml_collections import ConfigDict

# Sets whose preparation must find as many images and classes as are published.
PUBLISHED_COUNTS = {
    'imagenet2012': {'train': 1_281_167, 'validation': 50_000, 'classes': 1000},
}

# NAME, NAME/CONFIG or NAME:1.2.3. Without TFDS's namespaces (`huggingface:…`), which
# fetch code and run it.
TFDS_NAME = re.compile(r'\w+(/[\w.+-]+)?(:[\d.*]+)?', re.ASCII)

Example = tuple[str, bytes, int]  # a name to complain with, an encoded image, a label


class SourceNotFoundError(ValueError):
    """The source is not there; what was prepared from it may still be."""


class SourceReadError(ValueError):
    """An example of the source cannot be read or used."""


class Rows(Protocol):
    """A range of a split; a process needs no more to read it."""

    def read(self) -> Iterator[Example]:
        """The examples, in order."""


class Source(Protocol):
    """A data set as it is before preparation."""

    @property
    def name(self) -> str:
        """What the prepared set is named after."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of their labels."""
        ...

    @property
    def split_sizes(self) -> dict[str, int]:
        """How many images each split has."""
        ...

    @property
    def fingerprint(self) -> str:
        """Another one wherever the records would be others."""
        ...

    def rows(self, split: str, start: int, stop: int) -> Rows:
        """Examples [start, stop) of a split."""
        ...

    def arrangement(self, split: str, left_out: Sequence[int]) -> dict[str, np.ndarray]:
        """Arrays that slices of the prepared split need, by name (`prepared`).

        Args:
          split: one of split_sizes.
          left_out: the examples of it that have no record.
        """
        ...


def tfds_directory() -> Path:
    """Where TFDS keeps its sets unless told otherwise."""
    return Path(os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets').expanduser()


def prepare_command(data: ConfigDict) -> str:
    """The command line that prepares what config.data describes."""
    keys = ['train_split', 'validation_split', 'stored_size', 'encoding']
    keys += ['jpeg_quality'] if data.encoding == 'jpeg' else []
    keys += ['fit'] if data.fit != 'crop' else []
    # '' and False are what the command has without them.
    keys += [
        k for k in ('data_dir', 'prepared_dir', 'test_split', 'download') if data[k]
    ]
    flags = [f'--source={data.source}']
    flags += [f'--config.data.{key}={data[key]}' for key in keys]
    return shlex.join(['python', '-m', 'alexnet_jax.prepare', *flags])
