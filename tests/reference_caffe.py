"""Caffe's files, written by Google's protobuf from the part of caffe.proto they need.

Field numbers, types and defaults as in src/caffe/proto/caffe.proto of BVLC/caffe.
"""

from typing import Any

import numpy as np
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
)

MESSAGES = {
    'BlobShape': 'dim=1*int64',
    'BlobProto': (
        'shape=7 BlobShape, data=5*float, diff=6*float, num=1 int64, channels=2 int64, '
        'height=3 int64, width=4 int64, double_data=8*double'
    ),
    'ConvolutionParameter': (
        'num_output=1 uint32, bias_term=2 bool, pad=3+uint32, kernel_size=4+uint32, '
        'group=5 uint32, stride=6+uint32'
    ),
    'PoolingParameter': 'pool=1 int32, kernel_size=2 uint32, stride=3 uint32',
    'LRNParameter': 'local_size=1 uint32, alpha=2 float, beta=3 float, k=5 float',
    'InnerProductParameter': 'num_output=1 uint32',
    'DropoutParameter': 'dropout_ratio=1 float',
    'LayerParameter': (
        'name=1 string, type=2 string, bottom=3+string, top=4+string, '
        'blobs=7+BlobProto, convolution_param=106 ConvolutionParameter, '
        'dropout_param=108 DropoutParameter, '
        'inner_product_param=117 InnerProductParameter, lrn_param=118 LRNParameter, '
        'pooling_param=121 PoolingParameter'
    ),
    'V1LayerParameter': (
        'bottom=2+string, top=3+string, name=4 string, type=5 int32, '
        'blobs=6+BlobProto, blobs_lr=7+float, '
        'convolution_param=10 ConvolutionParameter, '
        'dropout_param=12 DropoutParameter, '
        'inner_product_param=17 InnerProductParameter, lrn_param=18 LRNParameter, '
        'pooling_param=19 PoolingParameter'
    ),
    'NetParameter': (
        'name=1 string, layers=2+V1LayerParameter, input=3+string, '
        'layer=100+LayerParameter'
    ),
}
V1_TYPES = {
    'Convolution': 4, 'Dropout': 6, 'InnerProduct': 14, 'LRN': 15, 'Pooling': 17,
    'ReLU': 18, 'Softmax': 20, 'Data': 5,
}  # fmt: skip


def _classes() -> dict[str, Any]:
    types = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name='caffe_part.proto', package='caffe_part', syntax='proto2'
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split(', '):
            label, rest = field.split('=')
            number = rest.rstrip(
                '+* abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPRSTUVWXYZ'
            )
            number = ''.join(c for c in rest[: len(rest)] if c in '0123456789')
            mark = next(c for c in rest if c in ' *+')
            number, kind = rest.split(mark)
            added = message.field.add(
                name=label,
                number=int(number),
                label=types.LABEL_OPTIONAL if mark == ' ' else types.LABEL_REPEATED,
            )
            if kind in MESSAGES:
                added.type = types.TYPE_MESSAGE
                added.type_name = f'.caffe_part.{kind}'
            else:
                added.type = getattr(types, f'TYPE_{kind.upper()}')
            if mark == '*':
                added.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f'caffe_part.{name}')
        )
        for name in MESSAGES
    }


PROTO = _classes()


def blob(value: np.ndarray, *, legacy: bool = False, double: bool = False) -> Any:
    message = PROTO['BlobProto']()
    if legacy:
        dims = (1,) * (4 - value.ndim) + value.shape
        message.num, message.channels, message.height, message.width = dims
    else:
        message.shape.dim.extend(value.shape)
    (message.double_data if double else message.data).extend(value.ravel().tolist())
    return message


def encode(
    prototxt: str,
    blobs: dict[str, tuple[np.ndarray, np.ndarray]],
    *,
    v1: bool,
    double: bool = False,
) -> bytes:
    """A .caffemodel of a deploy prototxt (of this package's form) and its blobs."""
    described = PROTO['NetParameter']()
    # Enums are numbers here.
    text = '\n'.join(
        line for line in prototxt.splitlines() if not line.startswith('input')
    )
    text_format.Parse(text.replace('pool: MAX', 'pool: 0'), described)
    net = PROTO['NetParameter'](name='AlexNet')
    if v1:
        net.layers.add(name='data', type=V1_TYPES['Data'], top=['data'])
    for layer in described.layer:
        if v1:
            made = net.layers.add()
            made.name, made.type = layer.name, V1_TYPES[layer.type]
            made.bottom.extend(layer.bottom)
            made.top.extend(layer.top)
            for field, value in layer.ListFields():
                if field.name.endswith('_param'):
                    getattr(made, field.name).CopyFrom(value)
        else:
            made = net.layer.add()
            made.CopyFrom(layer)
        for value in blobs.get(layer.name, ()):
            made.blobs.append(blob(value, legacy=v1, double=double))
    return net.SerializeToString()


def encode_mean(image: np.ndarray) -> bytes:
    """A .binaryproto of a mean image [3, S, S], BGR."""
    return blob(image[None], legacy=True).SerializeToString()
