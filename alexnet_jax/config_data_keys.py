"""What each key of `config.data` may hold."""

import re

from alexnet_jax.config_rules import (
    ANY,
    LONGEST,
    MOST_IMAGES,
    Rule,
    each_once,
    free,
    number,
    one_of,
    whole,
)  # fmt: skip
from alexnet_jax.data import augment, sources

# What a slice may say, `[10%:]`; how many images there are decides the rest.
_BOUND = r'\s*(-?\d[\d_]*%?)?\s*'
_PART = re.compile(rf'\s*(\w+)\s*(?:\[{_BOUND}:{_BOUND}\])?\s*', re.ASCII)


def base_splits(instruction: str) -> set[str]:
    """The splits that an instruction allowed by SPLITS reads."""
    parts = (_PART.fullmatch(part) for part in instruction.split('+'))
    return {match[1] for match in parts if match}


def _reads_something(part: str) -> bool:
    match = _PART.fullmatch(part)
    if not match:
        return False
    bounds = [text or '' for text in match.groups()[1:]]
    if any(t.endswith('%') and abs(int(t[:-1])) > 100 for t in bounds):
        return False
    first, last = bounds
    of_a_kind = first.endswith('%') == last.endswith('%')
    of_a_sign = first.startswith('-') == last.startswith('-')
    if not first or not last or not of_a_kind or not of_a_sign:
        return True  # the number of images decides
    return int(first.rstrip('%')) < int(last.rstrip('%'))


SPLITS = Rule(
    "splits such as 'train', 'train[:90%]' or 'train+test', each once and not empty",
    lambda v: (
        all(_reads_something(part) for part in v.split('+'))
        and each_once([part.strip() for part in v.split('+')])
    ),
)
_SPLITS_OR_NONE = Rule(
    f"'' (none) or {SPLITS.allowed}", lambda v: not v or SPLITS.test(v)
)
FOLDER = Rule(
    'a folder of this machine (a URL is neither read nor written: copy it here, or '
    'mount it)',
    lambda v: not re.match(r'\w+://', v) and '\0' not in v and len(v) < 4096,
)
_SOURCE = Rule(
    "'folder' or the name of a TFDS set, NAME, NAME/CONFIG or NAME:1.2.3",
    lambda v: bool(sources.TFDS_NAME.fullmatch(v)),
)

_ONE_SCALE = number(1e-6, 1000)
_SCALE = Rule(
    f'{_ONE_SCALE.allowed}, or three, of R, G and B; on the command line as many as '
    'the config has',
    lambda v: (
        len(v) == 3 and all(map(_ONE_SCALE.allows, v))
        if isinstance(v, tuple | list)
        else _ONE_SCALE.allows(v)
    ),
)

DATA = {
    'source': _SOURCE,
    'data_dir': free(FOLDER),
    'prepared_dir': free(FOLDER),
    'download': free(ANY),
    'train_split': SPLITS,
    'validation_split': _SPLITS_OR_NONE,
    'test_split': _SPLITS_OR_NONE,
    'training_error_split': free(_SPLITS_OR_NONE),
    'stored_size': whole(1, 4096),
    'encoding': one_of('raw', 'jpeg'),
    'jpeg_quality': whole(1, 100),
    'auto_prepare_gb': free(number(0, 1_000_000)),
    'fit': one_of('crop', 'warp'),
    'crop_size': whole(1, 4096),
    'random_crop': ANY,
    'mirror': ANY,
    'crop_chunk': whole(1, MOST_IMAGES),
    'reshuffle': ANY,
    'colour_std': number(0, 10),
    'colour_form': one_of(*augment.COLOUR_FORMS),
    'colour_constants': one_of(*augment.COLOUR_CONSTANTS),
    'colour_off_epoch': number(0, LONGEST),
    'mean': one_of('centre', 'crop', 'colour'),
    'scale': _SCALE,
    'threads': free(whole(1, 1024)),
    'prefetch_batches': free(whole(1, 1024)),
}
