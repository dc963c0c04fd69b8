"""The formats by name: which module reads and writes a file.

A format is one module of this package with `read(path, **options) -> Weights` and
`write(weights, path, **options)`, or one of the two. It is imported only when it is
used, because some need a library that a plain installation does not have.
"""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

from alexnet_jax.formats.weights import Weights


@dataclasses.dataclass(frozen=True)
class Format:
    """One format; `read` and `write` name the options of these functions."""

    module: str  # of this package
    line: str  # what it is
    suffixes: tuple[str, ...]  # of its files; () for a folder
    folder: str = ''  # the file by which its folder is told
    read: tuple[str, ...] | None = None  # None: not read
    write: tuple[str, ...] | None = None  # None: not written
    needs: str = ''  # the extra of this package that installs its library


FORMATS: dict[str, Format] = {
    'safetensors': Format(
        'safetensors',
        'every network, nothing lost',
        ('.safetensors',),
        read=(),
        write=(),
    ),
    'torchvision': Format(
        'torchvision',
        "the state dict of torchvision's alexnet",
        ('.pth', '.pt'),
        read=(),
        write=(),
    ),
    'pytorch': Format(
        'pytorch',
        'every network, in a folder with its PyTorch module',
        (),
        folder='alexnet_torch.py',
        read=(),
        write=(),
    ),
    'onnx': Format(
        'onnx',
        "every network as a graph; bvlcalexnet's is read",
        ('.onnx',),
        read=('mean',),
        write=('preprocess',),
        needs='onnx',
    ),
    'jax_export': Format(
        'jax_export',
        'prediction as StableHLO, which runs without this package',
        ('.jax_export',),
        write=(),
    ),
    'caffe': Format(
        'caffe',
        'grouped networks whose norm crosses the groups, and those of one tower',
        ('.caffemodel',),
        read=('network', 'mean', 'prototxt'),
        write=(),
    ),
    'matconvnet': Format(
        'matconvnet',
        'imagenet-caffe-alex.mat, imagenet-caffe-ref.mat',
        ('.mat',),
        read=('network',),
        write=(),
    ),
    'caffe_tensorflow': Format(
        'caffe_tensorflow',
        'bvlc_alexnet.npy and its like',
        ('.npy',),
        read=('network', 'mean'),
        write=(),
    ),
    'huggingface': Format(
        'huggingface',
        'a folder for the hub, nothing lost',
        (),
        folder='config.json',
        read=(),
        write=(),
    ),
}


def of_file(path: Path, name: str = '', *, flag: str = '--format') -> str:
    """The format of a file: the name given, or by its suffix.

    Args:
      path: of the file.
      name: of the format, or ''.
      flag: with which `weights` is told the name, for messages.

    Raises:
      ValueError: no such name, or a suffix of none or several formats.
    """
    if name:
        if name not in FORMATS:
            raise ValueError(
                f'there is no format {name!r}; there are {", ".join(FORMATS)}'
            )
        return name
    found = [
        name
        for name, known in FORMATS.items()
        if path.name.endswith(known.suffixes or ('\0',))
        or (known.folder and (path / known.folder).is_file())
    ]
    if len(found) != 1:
        what = f'may be {" or ".join(found)}' if found else 'is of no known format'
        raise ValueError(
            f'{path} {what} by its name: say which, {flag}=NAME; there are '
            f'{", ".join(FORMATS)}'
        )
    return found[0]


def read(path: Path, format: str = '', **options: Any) -> Weights:
    """Reads a file of any format.

    Args:
      path: of the file, or of a folder where the format is one.
      format: its name; '' tells it by the suffix.
      **options: as the format's `read` has them; unset ones ('' or None) are left out.

    Raises:
      ValueError: the file is not there, of another format, damaged, or of a network
        that is not known (`UnknownNetworkError`).
    """
    if not path.exists():
        raise ValueError(f'{path}: there is no such file')
    name = of_file(path, format, flag='--from')
    known = FORMATS[name]
    options = _options(name, 'read', known.read, options)
    return _module(name).read(path, **options)


def write(weights: Weights, path: Path, format: str = '', **options: Any) -> list[Path]:
    """Writes a file of any format that can hold the network.

    Returns:
      Every file that was written.

    Raises:
      ValueError: the format cannot hold this network; nothing was written.
    """
    name = of_file(path, format)
    known = FORMATS[name]
    options = _options(name, 'write', known.write, options)
    if not path.parent.is_dir():
        raise ValueError(f'{path}: there is no folder {path.parent}')
    if known.folder and path.exists() and not path.is_dir():
        raise ValueError(f'{path} is a file, and {name} is a folder: name a new one')
    if not known.folder and path.is_dir():
        raise ValueError(f'{path} is a folder, and {name} is a file: name one in it')
    return _module(name).write(weights, path, **options)


def _options(
    name: str, verb: str, known: tuple[str, ...] | None, given: dict[str, Any]
) -> dict[str, Any]:
    if known is None:
        others = [n for n, f in FORMATS.items() if getattr(f, verb) is not None]
        participle = {'read': 'read', 'write': 'written'}[verb]
        raise ValueError(f'{name} is not {participle} here; {", ".join(others)} are')
    given = {key: value for key, value in given.items() if value not in ('', None)}
    for key in given:
        if key not in known:
            raise ValueError(
                f'--{key} is not an option of {name}; it has '
                f'{", ".join(f"--{k}" for k in known) or "none"}'
            )
    return given


def _module(name: str) -> Any:
    known = FORMATS[name]
    try:
        return importlib.import_module(f'alexnet_jax.formats.{known.module}')
    except ModuleNotFoundError as error:
        if not known.needs:
            raise
        raise ValueError(
            f'{name} needs {error.name}, which is not installed: '
            f"pip install 'alexnet_jax[{known.needs}]'"
        ) from None
