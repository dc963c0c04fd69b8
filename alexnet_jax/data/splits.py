"""What a split instruction such as `train[:90%]+test` reads."""

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict


class Range(NamedTuple):
    """Examples [start, stop) of a split."""

    split: str
    start: int
    stop: int


def base_splits(instruction: str) -> tuple[str, ...]:
    """Splits that an instruction reads: 'train[:90%]+test' reads ('train', 'test')."""
    parts = instruction.split('+')
    names = [re.fullmatch(r'\s*(\w+)\s*(\[.*\])?\s*', part) for part in parts]
    found = [name[1] for name in names if name]
    if len(found) < len(names):
        raise ValueError(
            f'cannot read the split {instruction!r}; it looks like '
            "'train' or 'train[:90%]'"
        )
    return tuple(dict.fromkeys(found))


def named_splits(data: ConfigDict) -> tuple[str, ...]:
    """Base splits that config.data names, each once."""
    splits = (data.train_split, data.validation_split, data.test_split)
    return tuple(dict.fromkeys(b for s in splits if s for b in base_splits(s)))


def ranges(
    instruction: str,
    splits: Mapping[str, tfds.core.SplitInfo],
    hashes: Mapping[str, np.ndarray],
) -> tuple[Range, ...]:
    """The ranges that an instruction reads, in its order.

    Args:
      instruction: as TFDS takes it: 'train', 'train[:45000]', 'train[:90%]+test'.
      splits: what there is.
      hashes: of the splits whose examples lie in the order of a hash, the sorted
        hashes, uint64[N]. Percents of these are percents of the hashes' range: the
        examples of `[:90%]` are those whose hash lies below 0.9 · 2⁶⁴, whatever
        other examples there are. Elsewhere, and for counts, TFDS's rules hold.

    Raises:
      ValueError, KeyError: the instruction is not one, or `splits` does not have it.
    """
    found = []
    for part in re.split(r'\s*\+\s*', instruction):
        read = tfds.core.ReadInstruction.from_spec(part)
        if (
            isinstance(read, tfds.core.ReadInstruction)
            and read.unit == '%'
            and read.split_name in hashes
        ):
            of = hashes[read.split_name]
            start = 0 if read.from_ is None else _count_below(of, read.from_)
            stop = len(of) if read.to is None else _count_below(of, read.to)
            found.append(Range(read.split_name, start, max(start, stop)))
            continue
        for absolute in read.to_absolute(splits):
            start, stop = absolute.from_ or 0, absolute.to
            if stop is None:
                stop = splits[absolute.splitname].num_examples
            found.append(Range(absolute.splitname, start, max(start, stop)))
    return tuple(found)


def _count_below(hashes: np.ndarray, percent: float) -> int:
    """How many of sorted hashes lie in the first percents of their range.

    Negative percents count from the end: -10 is 90.
    """
    share = Fraction(percent + 100 if percent < 0 else percent) / 100
    bound = math.ceil(share * 2**64)
    if bound >= 2**64:
        return len(hashes)
    return int(np.searchsorted(hashes, np.uint64(bound)))
