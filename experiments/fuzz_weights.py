"""Gives damaged and invented files to every reader of weights.

    python -m experiments.fuzz_weights --inputs=100000

A reader may read a file, or refuse it with a ValueError of one line. Another exception
is a fault, and so are more than two seconds of processor time; the address space is
bounded. Half of the inputs are a small real file with a few bytes changed, cut
or repeated, half are made of the format's own pieces in any order. The record counts
them, and the same command goes on where it stopped.
"""

import collections
import io
import pickle
import random
import resource
import struct
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from alexnet_jax import model
from alexnet_jax.formats import (
    caffe,
    networks,
    protobuf,
    registry,
    run_config,
    torch_files,
)
from alexnet_jax.formats.weights import Weights
from alexnet_jax.system import command_line, files
from experiments import report

RECORD = Path(__file__).parent / 'records' / 'fuzz_weights'
BLOCK = 500  # inputs between two writings of the record
SLOW = 2.0  # seconds of processor time
MEMORY = 12 * 2**30  # bytes of address space, of which the libraries take most

# What is likely to hurt: bounds of numbers, and the formats' own marks.
_INTERESTING = (
    b'\0', b'\x7f', b'\x80', b'\xff', b'\xff\xff\xff\xff', b'\xff' * 9 + b'\x7f',
    struct.pack('<q', 10**12), struct.pack('<i', -1), struct.pack('<I', 2**31),
)  # fmt: skip
_PICKLED = (
    b'\x80\x02', b'}', b']', b'(', b'u', b's', b'a', b'e', b't', b'\x85', b'\x86', b'R',
    b'b', b'Q', b'q\x01', b'h\x01', b'.', b'K\x01', b'N', b'\x89', b'J\xff\xff\xff\x7f',
    b'X\x07\0\0\0storage', b'X\x01\0\0\x000', b'X\x03\0\0\0cpu',
    b'\x8a\x08' + b'\xff' * 8,
    b'ctorch\nFloatStorage\n', b'ccollections\nOrderedDict\n', b'cos\nsystem\n',
    b'ctorch._utils\n_rebuild_tensor_v2\n', b'c__builtin__\neval\n',
)  # fmt: skip
_PIECES: dict[str, tuple[bytes, ...]] = {
    'caffe': (
        b'\xa2\x06', b'\x12', b'\x3a', b'\x0a', b'\x2a', b'\xba\x06', b'conv1',
        b'Convolution', b'\x08', b'\x10', b'\x04',
        protobuf.write([(7, [(1, [10**6])])]),
    ),
    'matconvnet': (
        *(struct.pack('<II', kind, size) for kind in (1, 5, 6, 7, 9, 14, 15)
          for size in (0, 8, 16, 2**31)),
        b'layers\0\0',
    ),
    'caffe_tensorflow': (
        b'\x80\x02', b'}', b']', b'(', b'u', b's', b'a', b'e', b't', b'\x85', b'\x87',
        b'R', b'b', b'q\x01', b'h\x01', b'.', b'K\x01', b'N', b'U\x01b',
        b'cnumpy\nndarray\n', b'cnumpy.core.multiarray\n_reconstruct\n',
        b'cnumpy\ndtype\n', b'cos\nsystem\n', b'\x8e', b'r\xff\xff\xff\x7f',
    ),
    'safetensors': (
        b'{', b'}', b'"a":', b'"dtype":"F32"', b'"shape":[1000000,1000000]',
        b'"data_offsets":[0,4]', b',', b'"__metadata__":', b'[', b']',
    ),
    'mean': (
        b'\x08', b'\x10', b'\x18', b'\x20', b'\x2a', b'\x3a', b'\x03', b'\x02',
        b'\x00\x00\x80\x3f', protobuf.write([(7, [(1, [10**6])])]),
    ),
    'torchvision': _PICKLED,
    'torchvision_legacy': _PICKLED,
    'onnx': (
        b'\x3a', b'\x0a', b'\x12', b'\x2a', b'\x72', b'\x08', b'\x10', b'\x22', b'\x04',
        b'Conv', b'Gemm', b'network', b'mean_image', b'conv1.weight', b'{"layers":[',
        struct.pack('<B', 0x4A) + b'\xff\xff\xff\x7f',
    ),
    'onnx_chain': (
        b'\x3a', b'\x0a', b'\x12', b'\x2a', b'\x08', b'\x10', b'\x22', b'\x04', b'Conv',
        b'LRN', b'MaxPool', b'Gemm', b'Relu', b'Reshape', b'group', b'pads', b'strides',
    ),
    'prototxt': (
        b'layer', b'{', b'}', b'name: "a"', b'type: "LRN"', b'[', b'1e999', b'"', b':',
        b'convolution_param', b'<', b'>',
    ),
}  # fmt: skip


def seeds(folder: Path) -> dict[str, bytes]:
    """A small real file of each format."""
    weights = _small()
    found = {}
    for name, suffix in (('safetensors', 'safetensors'), ('caffe', 'caffemodel')):
        path = folder / f'a.{suffix}'
        registry.write(weights, path, name)
        found[name] = path.read_bytes()
    found['prototxt'] = (folder / 'a.prototxt').read_bytes()
    pixels = np.zeros(3 * 2 * 2, np.float32)
    found['mean'] = protobuf.write([(1, 1), (2, 3), (3, 2), (4, 2), (5, pixels)])
    found |= _torch_seeds() | _onnx_seeds(weights, folder)
    layers = {k: [v['kernel'], v['bias']] for k, v in weights.params.items()}
    np.save(folder / 'a.npy', np.array(layers, object), allow_pickle=True)
    found['caffe_tensorflow'] = (folder / 'a.npy').read_bytes()
    import scipy.io  # of the development environment

    kinds = {'activation': 'relu', 'lrn': 'normalize', 'pool': 'pool'}
    net: list[dict[str, Any]] = []
    for name, pair in layers.items():
        both = np.empty((1, 2), object)
        both[0, 0], both[0, 1] = pair
        if pair[0].ndim == 2:
            side = 6 if name == 'fc6' else 1
            both[0, 0] = pair[0].reshape(side, side, -1, pair[0].shape[-1])
        net.append({'name': name, 'type': 'conv', 'weights': both})
        steps = weights.table[name]['steps']
        net += [{'name': s, 'type': kinds[s]} for s in steps if s in kinds]
    cells = np.empty((1, len(net)), object)
    cells[0] = net
    scipy.io.savemat(folder / 'a.mat', {'layers': cells})
    found['matconvnet'] = (folder / 'a.mat').read_bytes()
    return found


def _torch_seeds() -> dict[str, bytes]:
    """The pickle of an archive, and a file of before 1.6, of one tensor."""
    pickled = torch_files.pickle_of({'features.0.bias': np.zeros(2, np.float32)})
    system = {'protocol_version': torch_files.PROTOCOL, 'little_endian': True}
    parts = [torch_files.MAGIC, torch_files.PROTOCOL, system]
    heads = b''.join(pickle.dumps(part, 2) for part in parts)
    tail = pickle.dumps(['0'], 2) + struct.pack('<q', 2) + bytes(8)
    return {'torchvision': pickled, 'torchvision_legacy': heads + pickled + tail}


def _onnx_seeds(weights: Weights, folder: Path) -> dict[str, bytes]:
    """A file of our own, and the same as if another had written it."""
    import onnx

    path = folder / 'a.onnx'
    registry.write(weights, path, 'onnx')
    own = path.read_bytes()
    content = onnx.ModelProto.FromString(own)
    del content.metadata_props[:]
    nodes = content.graph.node
    same = {n.output[0]: n.input[0] for n in nodes if n.op_type == 'Identity'}
    kept = [node for node in nodes if node.op_type != 'Identity']
    for node in kept:
        node.input[:] = [same.get(name, name) for name in node.input]
    del nodes[:]
    nodes.extend(kept)
    return {'onnx': own, 'onnx_chain': content.SerializeToString()}


def _small() -> Weights:
    """Caffe's net with a map or unit in each tower, of zeros."""
    config = networks.config('caffe')
    config.model.width = 0.001
    table = networks.table_of(config)
    network = model.network_from_config(table, config.data.crop_size, 2)
    params = {
        shape.name: {
            'kernel': np.zeros(shape.kernel, np.float32),
            'bias': np.zeros(shape.bias, np.float32),
        }
        for shape in model.layer_shapes(network)
    }
    seen = networks.preprocessing('caffe', np.zeros(3, np.float32))
    of_run = run_config.of(config)
    return Weights(table, params, ('a', 'b'), seen, 'zeros', run_config=of_run)


def changed(seed: bytes, rng: random.Random) -> bytes:
    """A real file with one to eight places changed, cut, repeated or swapped.

    Most changes are near its start, where sizes stand.
    """
    content = bytearray(seed)
    for _ in range(rng.randint(1, 8)):
        end = len(content) if rng.random() < 0.4 else min(len(content), 600)
        at = rng.randrange(end + 1)
        match rng.randrange(5):
            case 0 if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case 1:
                piece = rng.choice(_INTERESTING)
                content[at : at + len(piece)] = piece
            case 2:
                del content[at : at + rng.randint(1, 16)]
            case 3:
                content[at:at] = content[at : at + rng.randint(1, 64)]
            case _ if rng.random() < 0.2:
                del content[at:]
    return bytes(content)


def invented(name: str, seed: bytes, rng: random.Random) -> bytes:
    """Pieces of the format in any order, after the head of a real file."""
    pieces = _PIECES[name]
    body = b''.join(
        rng.choice(pieces) if rng.random() < 0.85 else rng.choice(_INTERESTING)
        for _ in range(rng.randint(0, 40))
    )
    match name:
        case 'torchvision_legacy':
            return seed[: seed.index(b'ccollections')] + body
        case 'matconvnet':
            return seed[:128] + body
        case 'caffe_tensorflow':
            return seed[: 10 + int.from_bytes(seed[8:10], 'little')] + body
        case 'safetensors':
            return len(body).to_bytes(8, 'little') + body + bytes(4)
    return body


def archived(pickled: bytes, rng: random.Random) -> bytes:
    """A zip archive of a pickle and a storage, a quarter of them damaged besides."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, 'w', zipfile.ZIP_STORED) as archive:
        archive.writestr('archive/data.pkl', pickled)
        archive.writestr('archive/data/0', bytes(8))
    content = made.getvalue()
    return changed(content, rng) if rng.random() < 0.25 else content


def reader(name: str, folder: Path) -> Callable[[Path], Any]:
    """The function under test: all that import does before a workdir is made."""
    if name == 'mean':
        return caffe.read_mean
    if name.startswith('torchvision'):
        return torch_files.read  # the shapes are compared with it after that
    if name == 'onnx_chain':
        return lambda path: registry.read(path, 'onnx')
    if name == 'prototxt':
        held = folder / 'a.caffemodel'
        return lambda path: registry.read(held, prototxt=str(path))
    return lambda path: registry.read(path, name)


def fuzz(name: str, inputs: int, folder: Path, record: dict[str, Any]) -> None:
    """Brings a reader's count to `inputs`; each block of them has a seed of its own."""
    real = seeds(folder)[name]
    suffix = {'prototxt': '.prototxt'}.get(name, '.fuzzed')
    path = folder / f'fuzzed{suffix}'
    read = reader(name, folder)
    done = record.setdefault(name, {'inputs': 0, 'read': 0, 'refused': 0, 'faults': []})
    while done['inputs'] < inputs:
        rng = random.Random(f'{name} {done["inputs"]}')
        counts: collections.Counter[str] = collections.Counter()
        for _ in range(min(BLOCK, inputs - done['inputs'])):
            content = (
                changed(real, rng) if rng.random() < 0.5 else invented(name, real, rng)
            )
            if name == 'torchvision':
                content = archived(content, rng)
            path.write_bytes(content)
            started, verdict, why = time.process_time(), 'read', ''
            try:
                read(path)
            except ValueError as error:
                verdict = 'refused' if '\n' not in str(error) else 'fault'
                why = f'{len(str(error).splitlines())} lines: {error}'
            except BaseException as error:
                verdict, why = 'fault', f'{type(error).__name__}: {error}'
            seconds = time.process_time() - started
            if verdict != 'fault' and seconds > SLOW:
                verdict, why = 'fault', f'{seconds:.1f} s'
            counts[verdict] += 1
            if verdict == 'fault':
                done['faults'].append({'why': why[:300], 'input': content[:2000].hex()})
        done['inputs'] += sum(counts.values())
        done['read'] += counts['read']
        done['refused'] += counts['refused']
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        done['peak_mib'] = max(done.get('peak_mib', 0), peak)
        files.write_json(RECORD / 'record.json', record)


def table(record: dict[str, Any]) -> str:
    """The record as a table in Markdown."""
    rows = [
        [
            *(name, f'{done["inputs"]:,}', f'{done["refused"]:,}'),
            *(f'{done["read"]:,}', str(len(done['faults']))),
            f'{done.get("peak_mib", 0):,} MiB',
        ]
        for name, done in record.items()
    ]
    header = ['reader', 'inputs', 'refused', 'read', 'faults', 'peak memory']
    return report.markdown_table(header, rows) + '\n'


def main(argv: Sequence[str]) -> None:
    """Fuzzes the readers in turn and writes the record and its table."""
    command_line.reject_positionals(argv)
    names = _READERS.value or list(_PIECES)
    if unknown := set(names) - set(_PIECES):
        raise SystemExit(f'error: --readers={",".join(unknown)}: of {list(_PIECES)}')
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.RLIM_INFINITY))
    RECORD.mkdir(parents=True, exist_ok=True)
    record = files.read_json(RECORD / 'record.json') or {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            fuzz(name, _INPUTS.value, Path(folder), record)
        files.write_atomically(RECORD / 'table.md', table(record))
    print(table(record))


if __name__ == '__main__':
    _INPUTS = flags.DEFINE_integer('inputs', 100_000, 'Of each reader, in all runs.')
    _READERS = flags.DEFINE_list('readers', [], 'Which; default: all.')
    app.run(main, flags_parser=command_line.parse_flags)
