"""Changes to a config that depend on the config: what an ablation computes."""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import model as model_lib

Changes = Mapping[str, Any]  # by dotted key


def norms_off(*, but: str = '') -> Callable[[ConfigDict], Changes]:
    """Switches off every norm but those of one layer."""

    def changes(base: ConfigDict) -> Changes:
        return {
            f'model.{layer}.{norm}': False
            for layer in base.model.layers
            for norm in ('lrn', 'spatial_norm')
            if norm in base.model[layer] and layer != but
        }

    return changes


def one_column(base: ConfigDict) -> Changes:
    """One of two columns alone, its last convolution as wide as both (#145-half)."""
    needs_two_towers(base)
    maps = [name for name in base.model.layers if base.model[name].kind != 'dense']
    halved = {
        f'model.{name}.features': base.model[name].features // 2 for name in maps[:-1]
    }
    return {'model.towers': 1, **halved}


def columns_apart(base: ConfigDict) -> Changes:
    """Every layer but the last reads its own tower."""
    needs_two_towers(base)
    return {
        f'model.{name}.reads': 'own'
        for name in base.model.layers[:-1]
        if base.model[name].reads == 'all'
    }


def equal_parameters(base: ConfigDict) -> Changes:
    """One ungrouped tower, narrowed to the base's number of parameters."""
    needs_two_towers(base)
    wanted = _parameters(base)
    config = base.copy_and_resolve_references()
    config.model.towers = 1
    widths = [base.model.width * step / 200 for step in range(100, 201)]

    def distance(width: float) -> int:
        config.model.width = width
        return abs(_parameters(config) - wanted)

    return {'model.towers': 1, 'model.width': min(widths, key=distance)}


def _parameters(config: ConfigDict) -> int:
    network = model_lib.network_from_config(
        config.model, config.data.crop_size, config.model.num_classes or 10
    )
    return sum(shape.parameters for shape in model_lib.layer_shapes(network))


def times(key: str, factor: float) -> Callable[[ConfigDict], Changes]:
    """Multiplies a value of the base."""

    def changes(base: ConfigDict) -> Changes:
        return {key: dict(config_lib.flat(base))[key] * factor}

    return changes


def lrn_alpha(alpha: float) -> Callable[[ConfigDict], Changes]:
    """An alpha that is meant for grey levels of 0–255, at the base's scale of them."""

    def changes(base: ConfigDict) -> Changes:
        return {'model.lrn.alpha': alpha / base.data.scale**2}

    return changes


def last_convolutions(base: ConfigDict, kind: str, others: str) -> Changes:
    """Makes the base's last two layers of the kind `others` layers of `kind`."""
    names = [name for name in base.model.layers if base.model[name].kind == others]
    return {f'model.{name}.kind': kind for name in names[-2:]}


def released_order(base: ConfigDict) -> Changes:
    """What the released run differs in that any base has."""
    return {
        'model.conv1.steps': ('lrn', 'pool', 'activation'),
        'model.conv5.steps': ('pool', 'activation'),
        'model.pool.ties': 'all',
        'optimizer.bias_rate': 2.0,
        **lrn_alpha(2e-5)(base),
    }


def needs_two_towers(base: ConfigDict) -> None:
    """Raises a ValueError of a base that has another number of towers."""
    if base.model.towers != 2:
        raise ValueError(f'needs model.towers=2, and the base has {base.model.towers}')


def without(name: str) -> Callable[[ConfigDict], Changes]:
    """Leaves a layer out and lets the others be, as far as the shapes allow.

    A pool of the layer stays: it follows the layer before, so that those after it see
    as many pixels as they did. If the layer read both towers, the next one does.
    Without the first layer the next one reads the image, at the stride of the first and
    with the zeros that give it as many outputs; its kernel is its own.
    """

    def changes(base: ConfigDict) -> Changes:
        model = base.model
        if name not in model.layers[:-1]:
            raise ValueError(f'the base has no hidden layer {name!r}')
        place = model.layers.index(name)
        removed, following = model[name], model.layers[place + 1]
        changed: dict[str, Any] = {
            'model.layers': tuple(n for n in model.layers if n != name)
        }
        if place == 0:
            changed |= _reads_the_image(base, name, following)
        elif removed.reads == 'all' and following != model.layers[-1]:
            changed[f'model.{following}.reads'] = 'all'
        pools = tuple(step for step in removed.steps if step.endswith('pool'))
        heir = model.layers[place - 1] if place else following
        if pools:
            changed[f'model.{heir}.steps'] = _with_pools(model[heir].steps, pools)
        # What names the layer elsewhere.
        for key in ('layer_rates', 'layer_decays'):
            changed[f'optimizer.{key}'] = tuple(
                entry for entry in base.optimizer[key] if entry[0].split('/')[0] != name
            )
        changed['init.copy'] = tuple(n for n in base.init.copy if n != name)
        return changed

    return changes


def _reads_the_image(base: ConfigDict, first: str, second: str) -> Changes:
    network = model_lib.network_from_config(
        base.model, base.data.crop_size, base.model.num_classes or 10
    )
    stride = base.model[first].stride
    padding = []
    for extent in model_lib.layer_shapes(network)[0].linear[:2]:
        reached = (extent - 1) * stride + base.model[second].kernel
        zeros = max(0, reached - base.data.crop_size)
        padding.append((zeros // 2, zeros - zeros // 2))
    return {
        f'model.{second}.reads': 'image',
        f'model.{second}.stride': stride,
        f'model.{second}.padding': tuple(padding),
    }


def _with_pools(steps: tuple[str, ...], pools: tuple[str, ...]) -> tuple[str, ...]:
    """The steps with more pools, behind the one that is there or at the end."""
    at = [i for i, step in enumerate(steps) if step.endswith('pool')] or [len(steps)]
    return (*steps[: at[-1] + 1], *pools, *steps[at[-1] + 1 :])
