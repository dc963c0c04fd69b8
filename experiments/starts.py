"""The starts whose stalls `stall_rate` counts, and which differ in one thing alone."""

from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.configs import paper, released_2012

UNIT = 1 / 75  # of grey levels less their mean, about the variance 1

# With biases of 0 a unit is silent for many images, and signal is lost in each layer:
# 28 % of the text's is left, 52 % of the released one's. These factors, of the
# deviations in the layers that have biases of 1, bring the logits' deviation from image
# to image back (`stall_rate.signal`; found by secant on `logit_deviation`'s noise, at a
# quarter of the width, for two draws).
FOR_TEXT, FOR_RELEASED = 1.294, 1.139
NO_BIASES = {f'model.{name}.init_bias': 0.0 for name in paper.BIASED}
RELEASED = {f'model.{n}.init_std': std for n, std in released_2012.INIT_STD.items()}


def without_biases(config: ConfigDict, factor: float) -> dict[str, Any]:
    """Biases of 0 and larger kernels in the layers that have biases of 1."""
    stds = {
        f'model.{n}.init_std': factor * config.model[n].init_std for n in paper.BIASED
    }
    return NO_BIASES | stds


def he() -> dict[str, Any]:
    """He's deviations, which are for inputs of unit variance."""
    config = paper.get_config()
    paper.start_as_he(config)
    stds = {
        f'model.{n}.init_std': config.model[n].init_std
        for n in config.model.layers[:-1]
    }
    return {**stds, 'data.scale': UNIT}


# The biases are those of conv2, conv4, conv5 and the hidden dense layers.
ARMS: dict[str, dict[str, Any]] = {
    'paper': {},  # §5: 0.01 everywhere, biases of 1
    'released': RELEASED,
    'caffe_bias': {f'model.{name}.init_bias': 0.1 for name in paper.BIASED},
    'unit_inputs': {'data.scale': UNIT},  # the paper's start, images of unit variance
    'no_biases_text_signal': without_biases(paper.get_config(), FOR_TEXT),
    'no_biases_released_signal': RELEASED
    | without_biases(released_2012.get_config(), FOR_RELEASED),
    # conv1's outputs are the paper's; its kernels, 75 times as large, learn 75² times
    # as slowly for their size.
    'unit_inputs_text_signal': {
        'data.scale': UNIT,
        'model.conv1.init_std': 0.01 / UNIT,
    },
    'he': he() | NO_BIASES,
    'he_biases': he(),
}
# What is asked, the start that is asked about, and the one it is compared with.
COMPARISONS = (
    ('the text’s signal, biases of 1', 'paper', 'released'),
    (
        'the text’s signal, biases of 0',
        'no_biases_text_signal',
        'no_biases_released_signal',
    ),
    ('biases of 0, the text’s signal', 'no_biases_text_signal', 'paper'),
    ('biases of 0, the released signal', 'no_biases_released_signal', 'released'),
    ('biases of 0, He’s start', 'he', 'he_biases'),
    ('small inputs, the text’s signal', 'unit_inputs_text_signal', 'paper'),
)
