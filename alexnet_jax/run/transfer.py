"""Between a workdir and weights that travel: a run's network out, a foreign one in."""

import dataclasses
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import build, model
from alexnet_jax import config as config_lib
from alexnet_jax import mesh as mesh_lib
from alexnet_jax.formats import networks, run_config
from alexnet_jax.formats.weights import Preprocessing, Weights, check_names
from alexnet_jax.run import checkpoint, config_file, inputs, log_window, provenance
from alexnet_jax.run import trained as trained_lib
from alexnet_jax.run import workdir as workdir_lib

# Errors in percent, top-1 and top-5, of one view of the validation images of 2012, as
# published with the weights that people have.
PUBLISHED = {
    'caffe': (42.9, 19.8),  # models/bvlc_alexnet/readme.md
    'caffenet': (42.6, 19.6),  # models/bvlc_reference_caffenet/readme.md
    'one_tower:torchvision': (43.478, 20.934),  # torchvision's table of weights
}


def weights_of(workdir: Path, *, which: str = 'best') -> Weights:
    """The weights of a run, and all that belongs to them.

    Args:
      workdir: of the run.
      which: as in `trained.load`.

    Raises:
      ValueError: as `trained.load`.
    """
    found = trained_lib.load(workdir, which=which)
    where = (
        f'{found.workdir.name}/{which}'
        if '/' in which
        else f'{found.workdir.name}, {which} checkpoint, step {found.step}'
    )
    return of_network(
        found.config, found.params, found.class_names, found.mean_image, where,
        dict(found.metrics),
    )  # fmt: skip


def of_network(
    config: ConfigDict,
    params: model.Params,
    class_names: tuple[str, ...],
    mean_image: np.ndarray,
    source: str,
    metrics: Mapping[str, float] = MappingProxyType({}),
) -> Weights:
    """The weights of a network that is in memory, as `Net` and `Trained` have it."""
    data = config.data
    return Weights(
        table=networks.table_of(config),
        params=jax.tree.map(np.asarray, dict(params)),
        class_names=class_names,
        preprocessing=Preprocessing(
            stored_size=data.stored_size,
            fit=data.fit,
            crop_size=data.crop_size,
            mean=data.mean,
            mean_image=mean_image,
            scale=networks.scales(data.scale),
        ),
        source=source,
        metrics=metrics,
        run_config=run_config.of(config),
    )


def make_workdir(weights: Weights, workdir: Path) -> ConfigDict:
    """Makes a workdir of weights: a run at step 0, which every command takes.

    Training goes on from it with the config that `config_of` gives.

    Args:
      weights: whose classes are named, or are ImageNet's 1,000.
      workdir: made; it must not be there, or be empty.

    Returns:
      The config.

    Raises:
      ValueError: the folder is there, or the classes have no names.
    """
    with workdir_lib.new(workdir, '--workdir') as workdir:
        return _write(weights, workdir)


def _write(weights: Weights, workdir: Path) -> ConfigDict:
    config = config_of(weights)
    names = weights.class_names or imagenet_synsets()
    check_names(names, weights.source)
    if len(names) != weights.network.num_classes:
        raise ValueError(
            f'{weights.source} has {weights.network.num_classes} classes and does not '
            'name them: --classes=FILE, with a name a line'
        )
    config_lib.validate(config)
    training = build.training(
        config, num_classes=len(names), num_examples=config.train.batch_size * 100
    )
    params = mesh_lib.put_params(
        {layer: dict(of_layer) for layer, of_layer in weights.params.items()},
        training.network,
        training.mesh,
    )
    state = dataclasses.replace(training.first_state(), params=params)
    metrics = dict(weights.metrics)
    as_json = config_file.to_json(config)
    with checkpoint.Checkpoints(workdir) as checkpoints:
        window = log_window.LogWindow(config.train.batch_size).kept()
        meta = {'metrics': metrics, 'config': as_json}
        more = {'window': window, 'evaluated': True, 'rate_cuts': 0}
        checkpoints.save(0, state, meta | more)
        checkpoints.save_best(
            0,
            {'step': state.step, 'params': state.params},
            meta,
            metrics.get('val/top1_error', checkpoint.NOT_MEASURED),
        )
    inputs.write(workdir, inputs.Inputs(names, weights.preprocessing.mean_image))
    provenance.write_provenance(
        workdir, {'imported': weights.source, 'digest': weights.digest}
    )
    # Last: a folder with a config is whole.
    provenance.write_config(workdir, as_json)
    return config


def config_of(weights: Weights) -> ConfigDict:
    """The config of the run that the weights come from, for this machine.

    Where they do not say, it is the shipped one of the network, or the paper's with the
    weights' table; always with their preprocessing and classes.
    """
    classes = weights.network.num_classes
    if weights.run_config:
        config = run_config.config_from(
            weights.table, weights.preprocessing, weights.run_config
        )
        if config.model.num_classes:  # 0: those of the data set
            config.model.num_classes = classes
        return config
    named = networks.named(weights.table)
    loosely = ({'width'}, {'features'}, {'features', 'width'})
    close = [n for but in loosely for n in networks.named(weights.table, but=but)]
    config = networks.config([*named, *close, 'paper'][0])
    if not named:
        with config.unlocked():
            config.model = ConfigDict(dict(weights.table))
    config.model.num_classes = classes
    run_config.put_preprocessing(config, weights.preprocessing)
    return config


def expected(weights: Weights, workdir: Path) -> str:
    """What is published of weights of this network, and how to confirm it."""
    names = networks.named(weights.table)
    known = [name for name in names if name in PUBLISHED]
    if not known or weights.network.num_classes != 1000:
        return 'no errors are published of this network'
    top1, top5 = PUBLISHED[known[0]]
    return (
        f'expected, if these are the published weights of {known[0]}: top-1 error '
        f'{top1} %, top-5 error {top5} %\n(one view, 50,000 validation images of '
        'ILSVRC-2012; not measured here). To confirm them, with\n'
        'ILSVRC2012_img_val.tar in DIR/downloads/manual:\n'
        f'  python -m alexnet_jax.evaluate --workdir={workdir} '
        '--config.data.data_dir=DIR --config.data.auto_prepare_gb=10'
    )


def imagenet_synsets() -> tuple[str, ...]:
    """The 1,000 synsets in the order of their labels, as TFDS names the classes."""
    spec = importlib.util.find_spec('tensorflow_datasets')  # without importing it
    if not spec or not spec.submodule_search_locations:
        return ()
    file = Path(spec.submodule_search_locations[0]) / 'datasets/imagenet2012/labels.txt'
    return tuple(file.read_text().split()) if file.is_file() else ()
