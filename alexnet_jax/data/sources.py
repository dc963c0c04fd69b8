"""Where raw images come from: any TFDS classification set, or a folder of images.

A source knows its class names and split sizes, and reads any contiguous range of a
split as `(key, encoded image, label)`. It is a plain value, so that worker processes
can be handed one.
"""

import dataclasses
import difflib
import hashlib
import math
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging
from ml_collections import ConfigDict

Example = tuple[str, bytes, int]  # a name to complain with, an encoded image, a label

SUFFIXES = ('.jpg', '.jpeg', '.png')
# Sets that TFDS prepares without the network.
RENDERED = 'rendered_shapes'
IMAGENET_TARS = {
    'train': 'ILSVRC2012_img_train.tar',
    'validation': 'ILSVRC2012_img_val.tar',
}
PUBLISHED_COUNTS = {
    'imagenet2012': {'train': 1_281_167, 'validation': 50_000, 'classes': 1000},
}


class SourceNotFoundError(ValueError):
    """The source is not there; what was prepared from it may still be."""


class SourceReadError(ValueError):
    """An example of the source cannot be read or used."""


def open_source(
    data: ConfigDict, *, largest_gb: float = math.inf
) -> 'FolderSource | TfdsSource':
    """The source that config.data names.

    Args:
      data: config.data.
      largest_gb: TFDS downloads or prepares no larger set than this on the way.
    """
    if data.source == 'folder':
        source = _open_folder(data)
    else:
        source = _open_tfds(data, largest_gb)
    for split in named_splits(data):
        if split not in source.split_sizes:
            raise ValueError(
                f'{data.source} has no split {split!r}; it has '
                f'{", ".join(source.split_sizes)}; choose with '
                "--config.data.train_split=…, validation_split, test_split ('': none)"
            )
        if not source.split_sizes[split]:
            raise ValueError(f'the split {split!r} of {data.source} has no images')
    return source


def base_splits(split: str) -> tuple[str, ...]:
    """Splits that an instruction reads: 'train[:90%]+test' reads ('train', 'test')."""
    names = [re.fullmatch(r'\s*(\w+)\s*(\[.*\])?\s*', s) for s in split.split('+')]
    found = [name[1] for name in names if name]
    if len(found) < len(names):
        raise ValueError(
            f"cannot read the split {split!r}; it looks like 'train' or 'train[:90%]'"
        )
    return tuple(dict.fromkeys(found))


def named_splits(data: ConfigDict) -> tuple[str, ...]:
    """Base splits that config.data names, each once."""
    splits = (data.train_split, data.validation_split, data.test_split)
    return tuple(dict.fromkeys(b for s in splits if s for b in base_splits(s)))


def tfds_directory() -> Path:
    """Where TFDS keeps its sets unless told otherwise."""
    return Path(os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets').expanduser()


def prepare_command(data: ConfigDict) -> str:
    """The command line that prepares what config.data describes."""
    keys = ['source', 'train_split', 'validation_split', 'stored_size', 'encoding']
    keys += ['jpeg_quality'] if data.encoding == 'jpeg' else []
    keys += ['fit'] if data.fit != 'crop' else []
    # '' and False are the defaults of configs/paper.py.
    keys += [
        k for k in ('data_dir', 'prepared_dir', 'test_split', 'download') if data[k]
    ]
    flags = (shlex.quote(f'--config.data.{key}={data[key]}') for key in keys)
    return ' '.join(
        ['python -m alexnet_jax.data.prepare --config=configs/paper.py', *flags]
    )


def check_free_disk(directory: Path, num_bytes: float, key: str) -> None:
    """Raise if an estimate of what will be written does not fit on the disk.

    Args:
      directory: where it goes; it need not exist yet.
      num_bytes: the estimate.
      key: the config value that says where it goes.
    """
    existing = directory
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if num_bytes > free:
        raise ValueError(
            f'about {num_bytes / 1e9:.3g} GB are still to be written to {directory} '
            f'and {free / 1e9:.3g} GB are free; make room or choose another place '
            f'with {key}'
        )


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Images `<directory>/<split>/<class>/*.jpg|jpeg|png`."""

    name: str
    directory: Path
    class_names: tuple[str, ...]
    files: dict[str, tuple[str, ...]]  # relative to the directory, sorted
    fingerprint: str

    @property
    def split_sizes(self) -> dict[str, int]:
        return {split: len(files) for split, files in self.files.items()}

    def read(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Examples [start, stop) of a split."""
        for file in self.files[split][start:stop]:
            label = self.class_names.index(Path(file).parts[1])
            try:
                encoded = (self.directory / file).read_bytes()
            except OSError as error:
                raise SourceReadError(
                    f'cannot read {self.directory / file}: {error.strerror or error}; '
                    'put it back or remove it, and run the same command again'
                ) from error
            yield file, encoded, label


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """A set that TFDS has prepared, in either of its file formats."""

    name: str
    data_dir: str | None
    version: str
    class_names: tuple[str, ...]
    split_sizes: dict[str, int]

    @property
    def fingerprint(self) -> str:
        return repr((self.name, self.version, sorted(self.split_sizes.items())))

    def read(self, split: str, start: int, stop: int) -> Iterator[Example]:
        """Examples [start, stop) of a split, in the order of its files."""
        builder = _builder(self.name, self.data_dir)
        image_key, label_key = _image_and_label(builder)
        decoders = {
            key: tfds.decode.SkipDecoding()
            for key, feature in builder.info.features.items()
            if isinstance(feature, tfds.features.Image)
        }
        range_ = f'{split}[{start}:{stop}]'
        if builder.info.file_format is tfds.core.FileFormat.ARRAY_RECORD:
            examples = builder.as_data_source(range_, decoders=decoders)
        else:
            _start_tensorflow()
            # Cycling through several files would change the order within the range.
            order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
            examples = builder.as_dataset(
                split=range_, decoders=decoders, read_config=order
            ).as_numpy_iterator()
        for i, example in enumerate(examples, start):
            label = int(example[label_key])
            if label < 0:
                raise SourceReadError(
                    f'the split {split!r} of {self.name} has no labels; choose others '
                    'with --config.data.train_split=…, validation_split, test_split'
                )
            key = f'{split}[{i}]'
            if 'file_name' in example:  # ImageNet has it
                key += f' {example["file_name"].decode()}'
            yield key, bytes(example[image_key]), label


def _open_folder(data: ConfigDict) -> FolderSource:
    directory = Path(data.data_dir).expanduser()
    layout = f'{directory}/<split>/<class>/*.jpg|jpeg|png'
    if not data.data_dir or not directory.is_dir():
        raise SourceNotFoundError(
            f'no folder of images at {data.data_dir!r} (config.data.data_dir); make '
            '<data_dir>/<split>/<class>/*.jpg|jpeg|png there'
        )
    splits = {split.name: _folders(split) for split in _folders(directory)}
    splits = {split: classes for split, classes in splits.items() if classes}
    if not splits:
        raise ValueError(f'no splits with classes in {directory}; expected {layout}')
    for split in (named := [s for s in named_splits(data) if s in splits]):
        names = [c.name for c in splits[split]]
        if len(names) < 2:
            raise ValueError(
                f'{directory / split} has one class ({names[0]!r}); a classifier needs '
                f'two or more: {layout}'
            )
        first = [c.name for c in splits[named[0]]]
        if differing := set(first) ^ set(names):
            raise ValueError(
                f'splits {named[0]!r} and {split!r} of {directory} have different '
                f'classes; only one of them has {", ".join(sorted(differing))}'
            )
    digest = hashlib.sha256()
    files = {}
    for split, classes in splits.items():
        found = sorted(
            (f'{split}/{c.name}/{entry.name}', entry.stat().st_size)
            for c in classes
            for entry in os.scandir(c)
            if entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith('.')
        )
        digest.update(repr(found).encode())
        files[split] = tuple(file for file, _ in found)
    return FolderSource(
        name=directory.resolve().name,
        directory=directory.resolve(),
        class_names=tuple(c.name for c in splits[(named or list(splits))[0]]),
        files=files,
        fingerprint=digest.hexdigest(),
    )


def _folders(directory: Path) -> list[Path]:
    return sorted(
        p for p in directory.iterdir() if p.is_dir() and not p.name.startswith('.')
    )


def _open_tfds(data: ConfigDict, largest_gb: float) -> TfdsSource:
    data_dir = os.path.expanduser(data.data_dir) or None
    builder = _builder(data.source, data_dir)
    if not builder.info.splits:
        builder = _prepare_with_tfds(data, data_dir, largest_gb)
    image_key, label_key = _image_and_label(builder)
    del image_key
    return TfdsSource(
        name=data.source,
        data_dir=data_dir,
        version=str(builder.info.version),
        class_names=tuple(builder.info.features[label_key].names),
        split_sizes={s: i.num_examples for s, i in builder.info.splits.items()},
    )


def _builder(name: str, data_dir: str | None, **kwargs) -> tfds.core.DatasetBuilder:
    if name == RENDERED:
        import alexnet_jax.data.rendered_shapes  # noqa: F401  registers it
    try:
        return tfds.builder(name, data_dir=data_dir, try_gcs=False, **kwargs)
    except tfds.core.DatasetNotFoundError as error:
        known = re.findall(r'^\s*- (\S+)$', str(error), re.MULTILINE)
        known += [RENDERED, 'folder']
        near = difflib.get_close_matches(name, known, n=3)
        hint = (
            f'did you mean {" or ".join(near)}?' if near else 'see tfds.list_builders()'
        )
        raise ValueError(
            f'config.data.source={name!r} is no TFDS data set and none is in '
            f"{data_dir or tfds_directory()}; {hint} ('folder' reads your own images)"
        ) from error
    except Exception as error:  # TFDS raises many kinds for a bad version or config
        raise ValueError(
            f'TFDS cannot open {name!r}: {str(error).strip().splitlines()[0]}'
        ) from error


def _start_tensorflow() -> None:
    """Import TensorFlow (3 seconds; only here) and keep it off the accelerators."""
    import tensorflow as tf

    tf.config.set_visible_devices([], 'GPU')


def _prepare_with_tfds(
    data: ConfigDict, data_dir: str | None, largest_gb: float
) -> tfds.core.DatasetBuilder:
    """Let TFDS render, extract or (if config.data.download) download a set."""
    name, root = data.source, Path(data_dir or tfds_directory())
    builder = _builder(name, data_dir, file_format='array_record')
    manual_dir = root / 'downloads' / 'manual'
    gigabytes = sum(url.size or 0 for url in (builder.url_infos or {}).values()) / 1e9
    if name == RENDERED:
        gigabytes = 0.0
    elif builder.name == 'imagenet2012':
        needed = [IMAGENET_TARS[s] for s in named_splits(data) if s in IMAGENET_TARS]
        if missing := [tar for tar in needed if not (manual_dir / tar).is_file()]:
            raise SourceNotFoundError(
                f'{name} is not prepared in {root} and {" and ".join(missing)} '
                f'{"is" if len(missing) == 1 else "are"} not in {manual_dir}: get the '
                'two tars from https://image-net.org/download-images, put them there '
                f'as they are and run: {prepare_command(data)}'
            )
        gigabytes = sum((manual_dir / tar).stat().st_size for tar in needed) / 1e9
    elif not data.download:
        download = ConfigDict({**data, 'download': True})
        raise SourceNotFoundError(
            f'{name} is not prepared in {root} (config.data.data_dir); to download '
            f'{gigabytes:.2g} GB there run: {prepare_command(download)}'
        )
    if gigabytes > largest_gb:
        raise ValueError(
            f'{name} is not prepared and has {gigabytes:.0f} GB, more than '
            f'config.data.auto_prepare_gb; prepare it with: {prepare_command(data)}'
        )
    check_free_disk(root, gigabytes * 1e9, 'config.data.data_dir')
    logging.info('TFDS prepares %s in %s', name, root)
    _start_tensorflow()
    if name == RENDERED:  # seconds, not worth TFDS's nested bars
        print('rendering the demo images', flush=True)
        tfds.disable_progress_bar()
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                manual_dir=os.fspath(manual_dir) if manual_dir.is_dir() else None,
                try_download_gcs=False,
            )
        )
    except Exception as error:  # network, disk, checksum, a missing manual file …
        reason = ' '.join(str(error).split())[:300]
        raise ValueError(
            f'TFDS could not prepare {name} in {root}: {reason}'
        ) from error
    return builder


def _image_and_label(builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    """Keys of the image and of its class in the examples of a builder."""
    features = builder.info.features
    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    keys = builder.info.supervised_keys or ()
    if len(keys) != 2 or not all(
        isinstance(features[k], t) for k, t in zip(keys, kinds, strict=True)
    ):
        found = [[k for k, f in features.items() if isinstance(f, t)] for t in kinds]
        if [len(f) for f in found] != [1, 1]:
            raise ValueError(
                f'{builder.name} is no image classification set: its features are '
                f'{", ".join(features)}'
            )
        keys = [f[0] for f in found]
    return keys[0], keys[1]
