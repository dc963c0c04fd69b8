"""Images per second of the input pipeline, against PyTorch's DataLoader and tf.data.

All read the same photographs of 256×256 pixels: ours from the prepared records, tf.data
the same examples as TFRecord, PyTorch the same JPEG bytes as files in class folders.
Ours and tf.data leave the ten views of an evaluation to the device; PyTorch does it
both ways, TenCrop in the loader and not.
"""

import os
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from alexnet_jax.data import pipeline, prepare
from experiments.benchmark import rounds
from experiments.benchmark.contenders import ours, readers
from experiments.benchmark.rounds import Contender, Options, Record
from experiments.report import Report

COPY = 2**29  # bytes
DECODED = 4096  # images
WORKERS = 2
# Batches of 128 that take one to two seconds on two cores. In evaluation ours are
# passes over the 3,068 photographs, of 24 batches with the filled one.
BATCHES = {
    'ours, raw, training': 96,
    'ours, raw, evaluation': 96,
    'ours, JPEG, training': 48,
    'ours, JPEG, evaluation': 48,
    'tf.data, training': 48,
    'tf.data, evaluation': 48,
    'tf.data accurate, training': 48,
    'tf.data accurate, evaluation': 48,
    'PyTorch, training': 24,
    'PyTorch, evaluation': 23,
    'PyTorch, evaluation, TenCrop': 12,
}


def measure(options: Options) -> Record:
    """Compares pipelines at the first batch of the options."""
    rounds.require_pytorch()
    if options.data_dir is None:
        raise ValueError(
            'the benchmark `pipeline` reads photographs; give --data_dir=DIR, the '
            'folder with `clothing/<split>/<class>/*.jpg`'
        )
    batch_size = options.batch[0]
    directory = Path('runs', 'benchmark', 'photographs').absolute()
    photographs = Path(options.data_dir, 'clothing').absolute()
    entrants = contenders(photographs, directory, batch_size, BATCHES)
    measured = rounds.measure(entrants, options.rounds)
    for name, result in measured.items():
        if entrants[name]['contender'].startswith('readers.'):
            result['seconds'] = [s - readers.REST for s in result['seconds']]
    record: Record = {
        name: {'settings': entrants[name], **result}
        for name, result in measured.items()
    }
    record['peers'] = rounds.versions(
        'grain', 'array-record', 'simplejpeg', 'numpy', 'pillow', 'tensorflow'
    )
    return record


def contenders(
    photographs: Path, directory: Path, batch_size: int, batches: dict[str, int]
) -> dict[str, Contender]:
    """The ceilings and the readers.

    Args:
      photographs: folder of `<split>/<class>/*.jpg`.
      directory: where what they read is prepared, if it is not there.
      batch_size: images of a batch.
      batches: of a repetition, by contender.
    """
    shared: Contender = {'cores': rounds.cores()[:2], 'batch_size': batch_size}
    encodings: dict[str, Contender] = {
        name: {
            'config': 'clothing',
            'overrides': {
                'data.data_dir': str(photographs), 'data.encoding': encoding,
                'data.prepared_dir': str(directory), 'data.test_split': '',
            },
        }
        for name, encoding in (('raw', 'raw'), ('JPEG', 'jpeg'))
    }  # fmt: skip
    sets = {
        name: prepare.open_prepared(ours.load_config(settings).data)
        for name, settings in encodings.items()
    }
    tfrecord, folder = export(sets['JPEG'])
    found: dict[str, Contender] = {
        'JPEG decoding': shared
        | {'contender': 'readers.decode', 'folder': folder, 'images': DECODED},
        'memory copy': shared | {'contender': 'ceilings.memory_copy', 'bytes': COPY},
    }
    for name, count in batches.items():
        training = 'training' in name
        endless = training or name.startswith('tf.data')
        entrant = shared | {
            'batches': count, 'training': training,
            'ready': readers.AHEAD if endless else 0,
        }  # fmt: skip
        if name.startswith('ours'):
            encoding = name.split(', ')[1]
            entrant |= {'contender': 'readers.own'} | encodings[encoding]
        elif name.startswith('tf.data'):
            entrant |= {
                'contender': 'readers.tf_data', 'tfrecord': tfrecord,
                'dct_method': 'INTEGER_ACCURATE' if 'accurate' in name else '',
            }  # fmt: skip
        else:
            crops = 'ten' if 'TenCrop' in name else 'none'
            entrant |= {
                'contender': 'readers.pytorch', 'folder': folder, 'workers': WORKERS,
                'crops': 'random' if training else crops,
            }  # fmt: skip
        found[name] = entrant
    return found


def export(dataset: prepare.PreparedDataset) -> tuple[str, str]:
    """The training examples of a JPEG set for the peers: a TFRecord, a folder."""
    import tensorflow as tf

    tfrecord = dataset.directory / 'peers.tfrecord'
    folder = dataset.directory / 'peers'
    if not tfrecord.exists():
        # Written last, under another name first: complete where it exists.
        builder: Any = tfds.builder_from_directory(dataset.directory)
        source = builder.as_data_source(
            'train', deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        temporary = tfrecord.with_suffix('.part')
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for i, record in enumerate(source):
                writer.write(record)
                image, label = pipeline.parse(record)
                path = folder / dataset.class_names[label] / f'{i:06}.jpg'
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(image)
        os.replace(temporary, tfrecord)
    return str(tfrecord), str(folder)


def report(record: Record) -> Report:
    """A row for every contender, with the ratios of what was measured in one round."""
    rates = {}
    for name, result in record.items():
        if not isinstance(result, dict) or 'seconds' not in result:
            continue
        settings = result['settings']
        if name == 'memory copy':
            images = settings['bytes'] / (3 * readers.CROP**2)
        elif name == 'JPEG decoding':
            images = settings['images']
        else:
            images = settings['batch_size'] * (settings['batches'] - settings['ready'])
        rates[name] = [images / seconds for seconds in result['seconds']]
    rows = [
        [
            *('contender', 'images/s', '/ PyTorch', '/ its TenCrop', '/ tf.data'),
            '/ tf.data accurate',
        ]
    ]
    for name, values in rates.items():
        what = name.split(', ')[-1] if name.startswith('ours') else '–'
        cells = [
            f'{rounds.ratio(values, rates[peer]):.2f}' if peer in rates else '–'
            for peer in (
                f'PyTorch, {what}',
                f'PyTorch, {what}, TenCrop',
                f'tf.data, {what}',
                f'tf.data accurate, {what}',
            )
        ]
        rows.append([name, rounds.spread(values, 0), *cells])
    return [
        rows,
        'Batches of bytes on the host; a memory copy is of crops of '
        f'{readers.CROP}×{readers.CROP}. Batches that were ready when a repetition '
        f'began, {readers.AHEAD} where there is no end, are not counted.',
    ]
