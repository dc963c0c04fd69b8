"""Named changes to a config, one for each claim of the paper.

    python -m experiments.sweep no_lrn tanh --base=configs/cifar10.py --seeds=3

`ABLATIONS[name]` maps keys to values. `model.*.dropout` stands for every layer that has
one, and `model.layers` names the layers to leave out. `overrides` resolves both against
a base config.
"""

from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import config as config_lib

ABLATIONS: dict[str, dict[str, Any]] = {
    'base': {},
    'tanh': {'model.activation': 'tanh'},  # §3.1, Figure 1
    'one_tower': {'model.towers': 1},  # §3.2: every map reads every map
    # §3.3. As run #148: the released net's spatial norm goes too.
    'no_lrn': {'model.*.lrn': False, 'model.*.spatial_norm': False},
    'lrn_2e-5': {'model.lrn.alpha': 2e-5},  # what the released source ran
    'lrn_k1': {'model.lrn.k': 1.0},  # Caffe's
    'no_overlap': {'model.pool.size': 2},  # §3.4
    # The same as it was run: paddings that lead to 28, 26, 13, 11 and 6 pixels, so that
    # fc6 reads as much as before.
    'run_147': {
        'model.pool.size': 2,
        'model.conv2.padding': ((1, 1), (1, 1)),
        'model.conv5.padding': ((0, 0), (0, 0)),
    },
    'no_crop': {'data.random_crop': False},  # §4.1
    'no_mirror': {'data.mirror': False},  # §4.1
    'no_colour': {'data.colour_std': 0.0},  # §4.1
    'no_dropout': {'model.*.dropout': 0.0},  # §4.2
    'inverted_dropout': {'model.dropout_scaling': 'train'},  # today's form
    'no_weight_decay': {'optimizer.weight_decay': 0.0},  # §5
    'bias_0': {'model.*.init_bias': 0.0},  # §5: bias 1 speeds the start
    'released_init': {f'model.conv{i}.init_std': 0.03 for i in (3, 4, 5)},
    'paper_init': {'model.*.init_std': 0.01},  # §5
    'no_momentum': {'optimizer.momentum': 0.0},
    # §7: "removing any of the middle layers". The layer that then reads across the
    # towers is the next one.
    'without_conv3': {'model.layers': ('conv3',), 'model.conv4.reads': 'all'},
    'without_conv4': {'model.layers': ('conv4',)},
    'without_fc7': {'model.layers': ('fc7',)},
}


def overrides(name: str, base: ConfigDict) -> dict[str, Any]:
    """Resolves an ablation against a base config: dotted key → value.

    Raises:
      ValueError: no such ablation, or nothing in the base that it could change.
    """
    if name not in ABLATIONS:
        raise ValueError(
            f'no ablation named {name!r}; there are {", ".join(ABLATIONS)}'
        )
    resolved: dict[str, Any] = {}
    for key, value in ABLATIONS[name].items():
        if key == 'model.layers':
            resolved[key] = tuple(n for n in base.model.layers if n not in value)
        elif '.*.' in key:
            leaf = key.rsplit('.', 1)[1]
            resolved |= {
                f'model.{layer}.{leaf}': value
                for layer in base.model.layers
                if leaf in base.model[layer]
            }
        else:
            resolved[key] = value
    standing = dict(config_lib.flat(base))
    resolved = {key: value for key, value in resolved.items() if standing[key] != value}
    if name != 'base' and not resolved:
        raise ValueError(f'ablation {name!r} changes nothing in this base config')
    return resolved


def apply(name: str, base: ConfigDict) -> ConfigDict:
    """Returns a copy of the base config with the ablation's values."""
    config = base.copy_and_resolve_references()
    config.update_from_flattened_dict(overrides(name, base))
    return config
