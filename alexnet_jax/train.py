"""The training loop: `train_and_evaluate`, to be read from top to bottom."""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import figures, metrics, optimizer
from alexnet_jax import mesh as mesh_lib
from alexnet_jax import model as model_lib
from alexnet_jax import step as step_lib
from alexnet_jax.data import augment, pipeline, prepare
from alexnet_jax.run import checkpoint, progress, trained, writers
from alexnet_jax.system import processes

Scalars = dict[str, float]


def train_and_evaluate(
    config: ConfigDict,
    workdir: Path,
    *,
    stop_at_step: int | None = None,
    started: float | None = None,
) -> Scalars:
    """Trains as the config says, or goes on with the run that `workdir` holds.

    Args:
      config: validated, see `config.validate`.
      workdir: made if it is not there; holds everything the run leaves behind.
      stop_at_step: stop, checkpointed, after this step; the run can be continued.
      started: when the program was, by `time.perf_counter`, for the line that says
        how long the first step was in coming; None for now.

    Returns:
      The latest metrics: `train/…`, `val/…`, and `test/…` once the run is complete.

    Raises:
      ValueError: the workdir holds a run of another config; the data set or the
        devices do not fit the config.
      SystemExit: a loss was not finite; or a signal came, and the run is checkpointed.
    """
    startup = progress.Startup(started)
    startup.end('imports')
    # What is trained, on what. Nothing is written before all of it fits together.
    workdir = check_workdir(workdir, config)
    with processes.first_before_the_others('prepare'):
        dataset = prepare.open_prepared(config.data)
    network = model_lib.network_from_config(
        config.model, config.data.crop_size, count_classes(config, dataset)
    )
    batch_size = config.train.batch_size
    mesh = mesh_lib.make_mesh(
        data=config.mesh.data,
        tower=config.mesh.tower,
        towers=network.towers,
        batch_size=batch_size,
    )
    length = progress.run_length(
        num_examples=pipeline.num_examples(dataset, config.data.train_split),
        batch_size=batch_size,
        epochs=config.train.epochs,
        steps=config.train.steps,
        eval_every_epochs=config.train.eval_every_epochs,
    )
    tx = optimizer.create_optimizer(
        config.optimizer, steps_per_epoch=length.steps_per_epoch
    )
    learning_rate = optimizer.create_learning_rate_schedule(
        config.optimizer,
        steps_per_epoch=length.steps_per_epoch,
        total_steps=length.total_steps,
    )
    train_step = step_lib.make_train_step(
        network, tx, learning_rate, mesh, config.seed, config.data.scale
    )
    mean = mesh_lib.put_everywhere(
        pipeline.mean_to_subtract(dataset, config.data), mesh
    )
    evaluate = make_evaluation(config, dataset, network, mesh, mean)
    startup.end('data set')

    # In a thread, while the state is made or restored and the first batch is read: XLA
    # compiles without Python's lock.
    abstract_state = step_lib.abstract_train_state(network, tx, mesh)
    compilation = concurrent.futures.ThreadPoolExecutor(1).submit(
        compile_train_step, train_step, abstract_state, config, mesh, mean
    )

    # Where it starts: at the latest checkpoint that verifies, else at step 0, with
    # the layers of another run if the config names one.
    checkpoints = checkpoint.Checkpoints(workdir, keep=config.train.keep_checkpoints)
    restored = checkpoints.restore_latest(abstract_state)
    latest: Scalars = {}
    if restored:
        state, meta = restored
        latest = dict(meta['metrics'])
    else:
        state = step_lib.create_train_state(network, tx, mesh, config.seed)
        if config.init.workdir:
            state = copy_layers(state, config, network, mesh)
    first = int(state.step)
    make_directory(workdir)
    if processes.is_first():
        writers.write_config(workdir, config_lib.to_json(config))
        writers.write_provenance(workdir, {'first_step': first})
        print_overview(config, network, mesh, state, workdir, length)
    writer = writers.MetricWriter(
        workdir,
        is_writer=processes.is_first(),
        resume_step=first if restored else None,
    )
    batches = pipeline.train_batches(
        dataset,
        config.data,
        batch_size=batch_size,
        seed=config.seed,
        first_step=first,
        rows=mesh_lib.local_rows(mesh, batch_size),
    )

    startup.end('state')

    last = min(stop_at_step or length.total_steps, length.total_steps)
    clock = progress.Clock()
    unlogged: list[dict[str, jax.Array]] = []  # on the devices until they are logged
    with writer, checkpoints, caught_signals() as signals:
        for now in range(first + 1, last + 1):
            with clock.waiting():
                batch = next(batches)
            on_devices = mesh_lib.put_batch(batch, mesh, batch_size)
            if now == first + 1:
                startup.end('first batch')
                with clock.paused():
                    train_step = compilation.result()
                startup.end('compilation')
            # One step in flight: XLA's CPU devices share their threads, and with steps
            # queued up two devices were seen to wait for each other for ever.
            jax.block_until_ready(unlogged[-1:])
            # Read once and by all processes: a signal during this step or its
            # evaluation stops at the next step, which then is saved.
            stopping = processes.agree(bool(signals))
            state, step_metrics = train_step(state, on_devices, mean)
            unlogged.append(step_metrics)

            evaluating = length.is_evaluation(now)
            saving = (
                now % config.train.checkpoint_every_steps == 0
                or now == last
                or stopping
            )
            logging = now % config.train.log_every_steps == 0 or now == first + 1
            if logging or evaluating or saving:
                latest |= summarize(unlogged, now, length, clock, batch_size)
                unlogged.clear()
                stop_unless_finite(latest, now, workdir)
                if now == 1:
                    writer.images(0, {'augmented_batch': batch['image'][:16]})
                writer.scalars(now, select(latest, 'train/'))
                print(progress.train_line(now, length, latest), flush=True)
                if now == first + 1:
                    startup.end('step')
                    print(startup.line(), flush=True)
            if evaluating:
                with clock.paused():
                    latest |= evaluate(state, config.data.validation_split, 'val')
                    plateau = next_plateau(state, latest, config)
                    state = dataclasses.replace(state, plateau=plateau)
                    if now == length.total_steps and config.data.test_split:
                        latest |= evaluate(state, config.data.test_split, 'test')
                    writer.scalars(
                        now, select(latest, 'val/') | select(latest, 'test/')
                    )
                    if shows_parameters(now, length, config):
                        show_parameters(state, network, now, writer)
                    checkpoints.save_best(
                        now, state, {'metrics': latest}, latest['val/top1_error']
                    )
            if saving:
                with clock.paused():
                    checkpoints.save(now, state, {'metrics': latest})
            if stopping:
                number = signals[0] if signals else signal.SIGTERM  # another process's
                print(f'signal {number}: checkpointed at step {now}, stopping')
                raise SystemExit(128 + number)
        if last == length.total_steps:
            writer.hparams(dict(config_lib.flat(config)))
    if last == length.total_steps:
        kernels = figures.kernel_grid(conv1_kernels(state, network), network.towers)
        if processes.is_first():
            figures.save_png(workdir / 'conv1_kernels.png', kernels)
            (workdir / 'result.json').write_text(json.dumps(latest, indent=2) + '\n')
        print_end(workdir, latest)
    return latest


def check_workdir(workdir: Path, config: ConfigDict) -> Path:
    """Refuses a workdir that cannot be written or holds a run of another config.

    Returns:
      Its absolute path; orbax takes no other.
    """
    workdir = Path(os.path.abspath(workdir.expanduser()))
    standing = next(path for path in (workdir, *workdir.parents) if path.exists())
    if not standing.is_dir() or not os.access(standing, os.W_OK | os.X_OK):
        raise ValueError(
            f'--workdir={workdir}: {standing} is not a directory that can be written'
        )
    config_file = workdir / 'config.json'
    if config_file.exists():
        before = json.loads(config_file.read_text())
        config_lib.check_format(before, workdir)
        differences = config_lib.blocking_differences(
            before, config_lib.to_json(config)
        )
        if differences:
            more = f'; and {len(differences) - 3} more' if len(differences) > 3 else ''
            raise ValueError(
                f'--workdir={workdir} holds a run with {"; ".join(differences[:3])}'
                f'{more}; take another --workdir, or drop the override'
            )
    return workdir


def make_directory(workdir: Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f'--workdir={workdir} cannot be made: {error.strerror}'
        ) from None


def count_classes(config: ConfigDict, dataset: prepare.PreparedDataset) -> int:
    """The classes of the last layer: the config's number, or the data set's."""
    wanted = config.model.num_classes
    if wanted and wanted != dataset.num_classes:
        raise ValueError(
            f'config.model.num_classes={wanted}, but {config.data.source} has '
            f'{dataset.num_classes} classes; 0 takes the data set’s count'
        )
    return dataset.num_classes


def copy_layers(
    state: step_lib.TrainState,
    config: ConfigDict,
    network: model_lib.Network,
    mesh: Mesh,
) -> step_lib.TrainState:
    """Puts the layers of `config.init` from another run's best checkpoint in place.

    Raises:
      ValueError: that run has no such layer, or with another shape.
    """
    source = config.init.workdir
    found = trained.load(Path(source), mesh=mesh)
    theirs = found.params
    shapes = model_lib.layer_shapes(network)
    flattens = next(s.name for s in shapes if len(s.linear) == 1)
    if flattens in config.init.copy and found.network.towers != network.towers:
        raise ValueError(
            f'config.init.copy: {flattens} reads the maps tower by tower, of '
            f'{found.network.towers} towers in {source} and of {network.towers} here, '
            f'in another order; leave {flattens!r} out of config.init.copy'
        )
    for name in config.init.copy:
        if name not in theirs:
            raise ValueError(
                f'config.init.copy names {name!r}, which the run in {source} does not '
                f'have; it has {", ".join(theirs)}'
            )
        for key, own in state.params[name].items():
            if theirs[name][key].shape != own.shape:
                raise ValueError(
                    f'config.init.copy: {name}/{key} has shape '
                    f'{theirs[name][key].shape} in {source} and {own.shape} here; '
                    f'leave {name!r} out of config.init.copy to start it new'
                )
    copied = {name: theirs[name] for name in config.init.copy}
    copied = mesh_lib.put_params(copied, network, mesh)
    return dataclasses.replace(state, params=state.params | copied)


def make_evaluation(
    config: ConfigDict,
    dataset: prepare.PreparedDataset,
    network: model_lib.Network,
    mesh: Mesh,
    mean: jax.Array,
) -> Callable[[step_lib.TrainState, str, str], Scalars]:
    """Makes the function (state, split, prefix) → centre-crop loss and errors."""
    start = augment.centre_offset(dataset.stored_size, network.image_size)
    view = (start, start, False)
    eval_step = step_lib.make_eval_step(network, mesh, [view], config.data.scale)
    batch_size = config.train.eval_batch_size
    # A data axis that was chosen, not given, may not divide it: round up.
    batch_size += -batch_size % mesh.shape[mesh_lib.DATA]

    def evaluate(state: step_lib.TrainState, split: str, prefix: str) -> Scalars:
        batches = pipeline.eval_batches(
            dataset,
            config.data,
            split=split,
            batch_size=batch_size,
            rows=mesh_lib.local_rows(mesh, batch_size),
        )
        sums = [
            np.asarray(
                eval_step(
                    state.params, mesh_lib.put_batch(batch, mesh, batch_size), mean
                )
            )
            for batch in batches
        ]
        expected = pipeline.num_examples(dataset, split)
        seen = round(sum(float(batch_sums[-1]) for batch_sums in sums))
        if seen != expected:
            raise RuntimeError(
                f'evaluated {seen} of the {expected} examples of {split}'
            )
        scalars = metrics.mean(sums, prefix)
        print(progress.evaluation_line(prefix, scalars), flush=True)
        return scalars

    return evaluate


def compile_train_step(
    train_step: Callable[..., Any],
    abstract_state: step_lib.TrainState,
    config: ConfigDict,
    mesh: Mesh,
    mean: jax.Array,
) -> jax.stages.Compiled:
    """Compiles for the shapes and shardings of the run, before there is any of it."""
    shapes = step_lib.batch_shapes(config.train.batch_size, config.data.crop_size)
    sharding = mesh_lib.batch_sharding(mesh)
    batch = {
        name: jax.ShapeDtypeStruct(part.shape, part.dtype, sharding=sharding)
        for name, part in shapes.items()
    }
    return train_step.lower(abstract_state, batch, mean).compile()  # pyrefly: ignore


def summarize(
    unlogged: list[dict[str, jax.Array]],
    now: int,
    length: progress.RunLength,
    clock: progress.Clock,
    batch_size: int,
) -> Scalars:
    """Fetches the metrics of the steps since the last log and averages them."""
    fetched = jax.tree.map(fetch, unlogged)
    seconds, waited = clock.lap()
    first_step = now - len(fetched) + 1
    scalars = metrics.mean([m['sums'] for m in fetched], 'train')
    losses = [float(m['sums'][0]) for m in fetched]
    bad = [first_step + i for i, loss in enumerate(losses) if not np.isfinite(loss)]
    norms_of = fetched[bad[0] - first_step if bad else -1]['squared_norms']
    gradient, parameters, update = np.sqrt(np.sum(norms_of, axis=0))
    return scalars | {
        'train/epoch': length.epoch(now),
        'train/learning_rate': float(fetched[-1]['learning_rate']),
        'train/images_per_second': len(fetched) * batch_size / seconds,
        'train/seconds_per_step': seconds / len(fetched),
        'train/input_wait_fraction': waited / seconds,
        'train/gradient_norm': float(gradient),
        'train/parameter_norm': float(parameters),
        'train/update_norm': float(update),
        'train/first_bad_step': float(bad[0]) if bad else 0.0,
    }


def stop_unless_finite(scalars: Scalars, now: int, workdir: Path) -> None:
    """Ends the run at a NaN or infinite loss, before anything is saved of it."""
    bad_step = int(scalars.pop('train/first_bad_step'))
    if bad_step:
        raise SystemExit(
            f'error: the loss of step {bad_step} is not finite (norms there: gradient '
            f'{scalars["train/gradient_norm"]:.4g}, parameters '
            f'{scalars["train/parameter_norm"]:.4g}, update '
            f'{scalars["train/update_norm"]:.4g}; learning rate '
            f'{scalars["train/learning_rate"]:.4g}); nothing of it was saved, earlier '
            f'checkpoints are in {workdir / "checkpoints"}'
        )


def select(scalars: Scalars, prefix: str) -> Scalars:
    return {name: value for name, value in scalars.items() if name.startswith(prefix)}


def next_plateau(
    state: step_lib.TrainState, latest: Scalars, config: ConfigDict
) -> optimizer.Plateau:
    """Takes the validation error into the plateau rule; other schedules ignore it."""
    rule = config.optimizer.plateau
    plateau = optimizer.update_plateau(
        jax.device_get(state.plateau),
        latest['val/top1_error'],
        patience=rule.patience,
        threshold=rule.threshold,
        max_cuts=rule.max_cuts,
    )
    return jax.tree.map(
        lambda new, old: jax.device_put(new, old.sharding), plateau, state.plateau
    )


def shows_parameters(now: int, length: progress.RunLength, config: ConfigDict) -> bool:
    every = config.train.histogram_every_evals
    return every > 0 and (
        now == length.total_steps or length.evaluations(now) % every == 0
    )


def show_parameters(
    state: step_lib.TrainState,
    network: model_lib.Network,
    now: int,
    writer: writers.MetricWriter,
) -> None:
    """Histograms of every parameter and a picture of the first kernels."""
    params = jax.tree.map(fetch, state.params)
    writer.histograms(
        now,
        {
            f'{layer}/{name}': value
            for layer, weights in params.items()
            for name, value in weights.items()
        },
    )
    kernels = figures.kernel_grid(conv1_kernels(state, network), network.towers)
    writer.images(now, {'conv1_kernels': kernels[None]})


def conv1_kernels(state: step_lib.TrainState, network: model_lib.Network) -> np.ndarray:
    return fetch(state.params[network.layers[0].name]['kernel'])


def fetch(array: jax.Array) -> np.ndarray:
    """The whole of an array on the host, also where processes share it."""
    sharding = array.sharding
    if isinstance(sharding, NamedSharding) and not array.is_fully_addressable:
        whole = NamedSharding(sharding.mesh, mesh_lib.P())
        array = jax.jit(lambda x: x, out_shardings=whole)(array)
    return np.asarray(array)


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT, so that the loop can checkpoint before it stops.

    A second signal ends the program at once.
    """
    caught: list[int] = []

    def note(number: int, _: object) -> None:
        if caught:
            raise SystemExit(128 + number)
        caught.append(number)

    previous = {n: signal.signal(n, note) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def print_overview(
    config: ConfigDict,
    network: model_lib.Network,
    mesh: Mesh,
    state: step_lib.TrainState,
    workdir: Path,
    length: progress.RunLength,
) -> None:
    """Prints the parameters with each device's part, the mesh and the length."""
    rows = [('parameter', 'shape', 'per device', 'size', 'rate', 'decay', 'starts')]
    decays = dict(config.optimizer.layer_decays)
    for layer in network.layers:
        copied = config.init.workdir and layer.name in config.init.copy
        for name, value in state.params[layer.name].items():
            part = value.sharding.shard_shape(value.shape)
            multiplier = optimizer.rate_multiplier(
                config.optimizer, layer.name, name, 0.0
            )
            rate = config.optimizer.learning_rate * float(np.asarray(multiplier))
            decay = decays.get(layer.name, config.optimizer.weight_decay)
            if name == 'bias':
                rate, decay = rate * config.optimizer.bias_rate, 0.0
            rows.append(
                (
                    f'{layer.name}/{name}', f'{value.shape}', f'{part}',
                    f'{value.size:,}', f'{rate:g}', f'{decay:g}',
                    f'from {config.init.workdir}' if copied else 'new',
                )
            )  # fmt: skip
    total = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    rows.append(('total', '', '', f'{total:,}', '', '', ''))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            f'{cell:>{width}}' if column in (3, 4, 5) else f'{cell:<{width}}'
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print('  '.join(cells).rstrip())
    layout = ' × '.join(f'{axis}={size}' for axis, size in mesh.shape.items())
    device = mesh.devices.flat[0]
    print(f'mesh: {layout} ({mesh.size} × {device.device_kind})')
    print(
        f'steps: {length.total_steps:,}, {length.steps_per_epoch:,.1f} an epoch, '
        f'{length.epoch(length.total_steps):.2f} epochs'
        + (f'; going on from step {int(state.step):,}' if int(state.step) else '')
    )
    print(f'workdir: {workdir}', flush=True)


def print_end(workdir: Path, latest: Scalars) -> None:
    print(f'done: {progress.evaluation_line("val", latest).strip()}')
    if 'test/loss' in latest:
        print(f'      {progress.evaluation_line("test", latest).strip()}')
    print(f'kernels: {workdir / "conv1_kernels.png"}')
    print(f'curves:  tensorboard --logdir={workdir}')
