"""The part of caffe.proto that a classifying net uses, and the types of its layers.

A net is stored in one of two generations: `layers`, whose type is a number
(bvlc_alexnet, bvlc_reference_caffenet), and `layer`, whose type is a name.
"""

from alexnet_jax.formats.protobuf import Field, Schema

BLOB: Schema = {
    1: Field('num', 'int'),
    2: Field('channels', 'int'),
    3: Field('height', 'int'),
    4: Field('width', 'int'),
    5: Field('data', 'floats'),
    7: Field('shape', 'message', {1: Field('dim', 'int')}),
    8: Field('double_data', 'doubles'),
}
_CONVOLUTION = {
    1: Field('num_output', 'int'),
    2: Field('bias_term', 'int'),
    3: Field('pad', 'int'),
    4: Field('kernel_size', 'int'),
    5: Field('group', 'int'),
    6: Field('stride', 'int'),
    9: Field('pad_h', 'int'),
    10: Field('pad_w', 'int'),
    11: Field('kernel_h', 'int'),
    12: Field('kernel_w', 'int'),
    13: Field('stride_h', 'int'),
    14: Field('stride_w', 'int'),
    18: Field('dilation', 'int'),
}
_POOLING = {
    1: Field('pool', 'int'),
    2: Field('kernel_size', 'int'),
    3: Field('stride', 'int'),
    4: Field('pad', 'int'),
    5: Field('kernel_h', 'int'),
    6: Field('kernel_w', 'int'),
    7: Field('stride_h', 'int'),
    8: Field('stride_w', 'int'),
    9: Field('pad_h', 'int'),
    10: Field('pad_w', 'int'),
    12: Field('global_pooling', 'int'),
}
_LRN = {
    1: Field('local_size', 'int'),
    2: Field('alpha', 'float'),
    3: Field('beta', 'float'),
    4: Field('norm_region', 'int'),
    5: Field('k', 'float'),
}
_DENSE = {
    1: Field('num_output', 'int'),
    2: Field('bias_term', 'int'),
    5: Field('axis', 'int'),
    6: Field('transpose', 'int'),
}
_DROPOUT = {1: Field('dropout_ratio', 'float')}
# Of a layer's type: the field of its settings, and their number in each generation.
SETTINGS: dict[str, tuple[str, Schema, int, int]] = {
    'Convolution': ('convolution_param', _CONVOLUTION, 10, 106),
    'Dropout': ('dropout_param', _DROPOUT, 12, 108),
    'InnerProduct': ('inner_product_param', _DENSE, 17, 117),
    'LRN': ('lrn_param', _LRN, 18, 118),
    'Pooling': ('pooling_param', _POOLING, 19, 121),
}


def _layer_schema(generation: int) -> Schema:
    first = {
        1: {
            2: Field('bottom', 'string'),
            3: Field('top', 'string'),
            4: Field('name', 'string'),
            5: Field('type', 'int'),
            6: Field('blobs', 'message', BLOB),
        },
        2: {
            1: Field('name', 'string'),
            2: Field('type', 'string'),
            3: Field('bottom', 'string'),
            4: Field('top', 'string'),
            7: Field('blobs', 'message', BLOB),
        },
    }[generation]
    return first | {
        numbers[generation - 1]: Field(name, 'message', schema)
        for name, schema, *numbers in SETTINGS.values()
    }


NET: Schema = {
    1: Field('name', 'string'),
    2: Field('layers', 'message', _layer_schema(1)),
    100: Field('layer', 'message', _layer_schema(2)),
}

# V1LayerParameter.LayerType, by number and by the name that a prototxt has.
TYPES = {
    0: 'None', 1: 'Accuracy', 4: 'Convolution', 5: 'Data', 6: 'Dropout', 8: 'Flatten',
    9: 'HDF5Data', 12: 'ImageData', 14: 'InnerProduct', 15: 'LRN', 17: 'Pooling',
    18: 'ReLU', 20: 'Softmax', 21: 'SoftmaxWithLoss', 22: 'Split', 24: 'WindowData',
    29: 'MemoryData', 32: 'DummyData', 36: 'Silence',
}  # fmt: skip
BY_NAME = {
    name.replace('WithLoss', 'Loss').lower(): name for name in TYPES.values()
} | {'inner_product': 'InnerProduct', 'softmax_loss': 'SoftmaxWithLoss'}
# What is not part of the function: it feeds the net, or measures it.
BESIDE = {
    'None', 'Accuracy', 'Data', 'Flatten', 'HDF5Data', 'ImageData', 'Input', 'Softmax',
    'SoftmaxWithLoss', 'Split', 'WindowData', 'MemoryData', 'DummyData', 'Silence',
}  # fmt: skip
STEPS = {'ReLU': 'activation', 'LRN': 'lrn', 'Dropout': 'dropout'}
