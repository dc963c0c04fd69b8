"""The training loop: `train_and_evaluate`, to be read from top to bottom."""

import concurrent.futures
import dataclasses
import signal
from pathlib import Path

import jax
from ml_collections import ConfigDict

from alexnet_jax import build, memory, optimizer, train_state, validation
from alexnet_jax import config as config_lib
from alexnet_jax import mesh as mesh_lib
from alexnet_jax import step as step_lib
from alexnet_jax.data import augment, pipeline, prepare, report
from alexnet_jax.run import (
    checkpoint,
    config_file,
    inputs,
    log_window,
    overview,
    pictures,
    progress,
    provenance,
    trained,
    writers,
)
from alexnet_jax.run import workdir as workdir_lib
from alexnet_jax.system import files, processes, signals

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
    workdir = workdir_lib.check_workdir(workdir, config)
    memory.check_before_data(config)
    with processes.first_before_the_others('prepare'):
        dataset = prepare.open_prepared(config.data)
    if processes.is_first():
        print('\n'.join(report.lines(dataset, config.data)), flush=True)
    training = build.training(
        config,
        num_classes=count_classes(config, dataset),
        num_examples=pipeline.num_examples(dataset, config.data.train_split),
    )
    network, mesh, length = training.network, training.mesh, training.length
    batch_size = config.train.batch_size
    last = min(stop_at_step or length.total_steps, length.total_steps)
    held = inputs.of_run(
        workdir, inputs.Inputs(dataset.class_names, dataset.mean_image)
    )
    mean = mesh_lib.put_everywhere(
        augment.mean_to_subtract(held.mean_image, config.data), mesh
    )
    evaluate = validation.make_evaluation(config, dataset, network, mesh, mean)
    startup.end('data')

    # In a thread, while the state is made or restored and the first batch is read: XLA
    # compiles without Python's lock.
    checkpoints = checkpoint.Checkpoints(workdir, keep=config.train.keep_checkpoints)
    compiler = concurrent.futures.ThreadPoolExecutor(1)

    def compile_step() -> jax.stages.Compiled:
        return step_lib.lower_train_step(
            training.train_step, training.abstract_state, batch_size,
            network.image_size, mesh, mean,
        ).compile()  # fmt: skip

    compilation = None
    if checkpoints.latest_step() < last:
        compilation = compiler.submit(compile_step)

    # Where it starts: at the latest checkpoint that verifies, else at step 0, with
    # the layers of another run if the config names one.
    restored = checkpoints.restore_latest(training.abstract_state)
    latest: Scalars = {}
    window = log_window.LogWindow(batch_size)
    if restored:
        state, meta = restored
        latest = dict(meta['metrics'])
        window = log_window.LogWindow(batch_size, meta['window'])
    else:
        state = training.first_state()
        if config.init.workdir:
            params = trained.copy_layers(state.params, config.init, network, mesh)
            state = dataclasses.replace(state, params=params)
    first = int(state.step)
    workdir_lib.make_directory(workdir)
    if processes.is_first():
        inputs.write(workdir, held)
        provenance.write_config(workdir, config_file.to_json(config))
        provenance.write_provenance(workdir, {'first_step': first})
        overview.print_overview(config, network, mesh, state, workdir, length)
        needs = memory.on_mesh(network, config, mesh)
        print(memory.lines(needs, memory.limit(mesh)), flush=True)
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
        steps_per_epoch=length.steps_per_schedule_epoch,
    )
    startup.end('state')

    train_step = training.train_step  # until its compiled form is there
    clock = progress.Clock()
    with writer, checkpoints, signals.caught_signals() as caught:
        if not first:
            writer.hparams(dict(config_lib.flat(config)))
        for now in range(first + 1, last + 1):
            with clock.waiting():
                batch = next(batches)
            on_devices = mesh_lib.put_batch(batch, mesh, batch_size)
            if now == first + 1:
                startup.end('batch')
                with clock.paused():
                    train_step = compilation.result() if compilation else compile_step()
                startup.end('compile')
            # One step in flight: XLA's CPU devices share their threads, and with steps
            # queued up two devices were seen to wait for each other for ever.
            window.wait()
            # Read once and by all processes: a signal during this step or its
            # evaluation stops at the next step, which then is saved.
            stopping = processes.agree(bool(caught))
            state, step_metrics = train_step(state, on_devices, mean)
            window.add(step_metrics)
            if now == first + 1:
                window.wait()
                startup.end('step')
                print(startup.lines(), flush=True)
                print(progress.header(network.num_classes), flush=True)
            if now == 1:
                pictures.show_batch(batch, dataset.class_names, writer)

            logging = now % config.train.log_every_steps == 0
            evaluating = length.is_evaluation(now)
            saving = (
                now % config.train.checkpoint_every_steps == 0
                or now == last
                or stopping
            )
            if logging or evaluating or saving:
                window.stop_unless_finite(now)
            if logging or now == length.total_steps:
                latest |= window.close(now, length, clock)
                writer.scalars(now, select(latest, 'train/'))
                line = progress.train_line(now, length, latest, network.num_classes)
                print(line, flush=True)
            if evaluating:
                with clock.paused():
                    splits = {'val': config.data.validation_split}
                    if config.data.training_error_split:
                        splits['train_view'] = config.data.training_error_split
                    if now == length.total_steps and config.data.test_split:
                        splits['test'] = config.data.test_split
                    evaluated: Scalars = {}
                    for prefix, split in splits.items():
                        errors = evaluate(state.params, split, prefix)
                        line = progress.evaluation_line(
                            prefix, errors, network.num_classes
                        )
                        print(line, flush=True)
                        evaluated |= errors
                    latest |= evaluated
                    plateau = next_plateau(state, latest, config)
                    state = dataclasses.replace(state, plateau=plateau)
                    writer.scalars(now, evaluated)
                    if shows_parameters(now, length, config):
                        pictures.show_parameters(state.params, network, now, writer)
                    checkpoints.save_best(
                        now, state, {'metrics': latest}, latest['val/top1_error']
                    )
            if saving:
                with clock.paused():
                    meta = {'metrics': latest, 'window': window.kept()}
                    checkpoints.save(now, state, meta)
            if stopping:
                number = caught[0] if caught else signal.SIGTERM  # another process's
                print(f'signal {number}: checkpointed at step {now}, stopping')
                raise SystemExit(128 + number)
    if last == length.total_steps:
        kernels = pictures.first_kernels(state.params, network)
        if processes.is_first():
            pictures.save_png(workdir / 'conv1_kernels.png', kernels)
            files.write_json(workdir / 'result.json', latest)
        overview.print_end(workdir, latest, last, checkpoints.best_step, network)
    return latest


def count_classes(config: ConfigDict, dataset: prepare.PreparedDataset) -> int:
    """The classes of the last layer: the config's number, or the data set's."""
    wanted = config.model.num_classes
    if wanted and wanted != dataset.num_classes:
        raise ValueError(
            f'config.model.num_classes={wanted}, but {config.data.source} has '
            f'{dataset.num_classes} classes; 0 takes the data set’s count'
        )
    return dataset.num_classes


def select(scalars: Scalars, prefix: str) -> Scalars:
    """Those whose names start so."""
    return {name: value for name, value in scalars.items() if name.startswith(prefix)}


def next_plateau(
    state: train_state.TrainState, latest: Scalars, config: ConfigDict
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
    """Whether the kernels and histograms are due at an evaluation, and at the last."""
    every = config.train.histogram_every_evals
    return every > 0 and (
        now == length.total_steps or length.evaluations(now) % every == 0
    )
