"""The training loop: `train_and_evaluate`, to be read from top to bottom."""

import concurrent.futures
import contextlib
import dataclasses
import signal
from pathlib import Path

import jax
from ml_collections import ConfigDict

from alexnet_jax import build, memory, train_state, validation
from alexnet_jax import config as config_lib
from alexnet_jax import mesh as mesh_lib
from alexnet_jax import step as step_lib
from alexnet_jax.data import augment, pipeline, prepare, report
from alexnet_jax.run import (
    checkpoint,
    config_file,
    health,
    inputs,
    log_window,
    nonfinite,
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

    Where a loss is not finite it leaves a dump, and begins again at the latest
    checkpoint with a smaller rate as often as the config allows.

    Args:
      config: validated, see `config.validate`.
      workdir: made if it is not there; holds everything the run leaves behind. It is
        held while this runs: another run on it is refused.
      stop_at_step: stop, checkpointed, after this step; the run can be continued.
      started: when the program was, by `time.perf_counter`, for the line that says
        how long the first step was in coming; None for now.

    Returns:
      The latest metrics: `train/…`, `val/…`, and `test/…` once the run is complete.

    Raises:
      ValueError: another run holds the workdir, or it is of another config; the data
        set or the devices do not fit the config.
      SystemExit: a loss was not finite; or a signal came, and the run is checkpointed.
    """
    startup = progress.Startup(started)
    startup.end('imports')
    workdir = workdir_lib.check_place(workdir)
    with workdir_lib.owned(workdir):
        workdir_lib.check_contents(workdir, config)
        cuts = nonfinite.cuts_so_far(workdir)
        while True:
            try:
                return attempt(config, workdir, stop_at_step, startup, cuts)
            except nonfinite.NonFiniteLossError as error:
                nonfinite.write_dump(workdir, error, cuts)
                cuts = nonfinite.next_cut(workdir, error, cuts, config)
            startup = progress.Startup()


def attempt(
    config: ConfigDict,
    workdir: Path,
    stop_at_step: int | None,
    startup: progress.Startup,
    cuts: int,
) -> Scalars:
    """Trains in a workdir that this process holds, up to a loss that is not finite.

    Args:
      config: as above.
      workdir: see `run.workdir.check_place`.
      stop_at_step: as above.
      startup: whose first phase has ended.
      cuts: how often the rate was cut.

    Raises:
      NonFiniteLossError: of that loss; nothing of it was saved.
    """
    # What is trained, on what. Nothing is written before all of it fits together.
    memory.check_before_data(config)
    with processes.first_before_the_others():
        dataset = prepare.open_prepared(config.data)
    processes.check_same(
        dataset.fingerprint,
        'the processes do not find the same images: each has its own '
        f'config.data.data_dir={config.data.data_dir!r} or config.data.prepared_dir='
        f'{config.data.prepared_dir!r}; make them the same, or name a shared folder',
    )
    if processes.is_first():
        print('\n'.join(report.lines(dataset, config.data)), flush=True)
    with_cuts = nonfinite.with_cut_rate(config, cuts)
    training = build.training(
        with_cuts,
        num_classes=count_classes(config, dataset),
        num_examples=pipeline.num_examples(dataset, config.data.train_split),
    )
    network, mesh, length = training.network, training.mesh, training.length
    batch_size = config.train.batch_size
    last = min(stop_at_step or length.total_steps, length.total_steps)
    held = inputs.of_run(
        workdir,
        inputs.Inputs(dataset.class_names, dataset.mean_image, dataset.fingerprint),
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

    # Where it starts: at the latest checkpoint that verifies, else at step 0.
    restored = checkpoints.restore_latest(training.abstract_state)
    latest: Scalars = {}
    window = log_window.LogWindow(batch_size)
    evaluated = True
    if restored:
        state, meta = restored
        latest = dict(meta['metrics'])
        window = log_window.LogWindow(batch_size, meta['window'])
        evaluated = meta.get('evaluated', True)  # 0.2.0 did not say
    else:
        for step in checkpoints.set_best_aside():
            print(
                f'this run begins at step 0: best/{step}, of an earlier start, is now '
                f'best/{step}.earlier',
                flush=True,
            )
        state = first_state(config, training)
    first = int(state.step)
    as_json = config_file.to_json(config)
    if processes.is_first():
        workdir_lib.remove_results(workdir, unless=first == length.total_steps)
        inputs.write(workdir, held)
        provenance.write_config(workdir, as_json)
        provenance.write_provenance(workdir, {'first_step': first, 'rate_cuts': cuts})
        overview.print_overview(with_cuts, network, mesh, state, workdir, length)
        needs = memory.on_mesh(network, config, mesh)
        print(memory.lines(needs, memory.limit(mesh)), flush=True)
    writer = writers.MetricWriter(
        workdir,
        is_writer=processes.is_first(),
        resume_step=first if restored else None,
        evaluated=evaluated,
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
    watch = health.Watch(
        config, network, dataset.num_classes, length.steps_per_schedule_epoch
    )
    caught: list[int] = []  # before the first step a signal ends the run at once

    def evaluate_at(now: int) -> bool:
        """Evaluates after a step; False if a signal came, and nothing has changed."""
        nonlocal state
        splits = {'val': config.data.validation_split}
        if config.data.training_error_split:
            splits['train_view'] = config.data.training_error_split
        if now == length.total_steps and config.data.test_split:
            splits['test'] = config.data.test_split
        found: Scalars = {}
        for prefix, split in splits.items():
            errors = evaluate(state.params, split, prefix, caught)
            if errors is None:
                return False
            line = progress.evaluation_line(prefix, errors, network.num_classes)
            print(line, flush=True)
            found |= errors
        latest.update(found)
        state = train_state.take_validation_error(
            state, latest['val/top1_error'], config.optimizer.plateau
        )
        writer.scalars(now, found)
        if length.shows_parameters(now, config.train.histogram_every_evals):
            pictures.show_parameters(state.params, network, now, writer)
        meta = {'metrics': latest, 'config': as_json}
        checkpoints.save_best(now, state, meta, latest['val/top1_error'])
        return True

    def save(now: int, evaluated: bool = True) -> None:
        # First all that is up to this step: a run that goes on from here lacks nothing.
        writer.flush()
        meta = {
            'metrics': latest,
            'window': window.kept(),
            'evaluated': evaluated,
            'rate_cuts': cuts,
            'config': as_json,
        }
        checkpoints.save(now, state, meta)

    def stop(now: int, evaluated: bool = True) -> None:
        window.check_finite(now)
        save(now, evaluated)
        number = caught[0] if caught else signal.SIGTERM  # another process's
        print(f'signal {number}: checkpointed at step {now}, stopping')
        raise SystemExit(128 + number)

    with (
        contextlib.ExitStack() as until_all_is_written,
        writer,
        checkpoints,
        # Within the others: closing them would wait for the lost process.
        processes.lost_peers(),
    ):
        if not first:
            writer.hparams(dict(config_lib.flat(config)))
        if not evaluated:  # a signal came in the evaluation after this step
            with clock.paused():
                evaluate_at(first)
        for now in range(first + 1, last + 1):
            with clock.waiting():
                batch = next(batches)
            on_devices = mesh_lib.put_batch(batch, mesh, batch_size)
            if now == first + 1:
                startup.end('batch')
                with clock.paused():
                    train_step = compilation.result() if compilation else compile_step()
                startup.end('compile')
                caught = until_all_is_written.enter_context(signals.caught_signals())
                watch.check_inputs(batch)
            # One step in flight: XLA's CPU devices share their threads, and with steps
            # queued up two devices were seen to wait for each other for ever.
            window.wait()
            if processes.agree(bool(caught)):
                stop(now - 1)
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
            saving = now % config.train.checkpoint_every_steps == 0 or now == last
            if logging or evaluating or saving:
                window.check_finite(now)
            if logging or now == length.total_steps:
                trained_on = window.close(now, length, clock)
                writer.scalars(now, trained_on)
                latest |= trained_on
                line = progress.train_line(now, length, latest, network.num_classes)
                print(line, flush=True)
                watch.check(now, latest, state.opt_state)
            with clock.paused():
                if evaluating and not evaluate_at(now):
                    stop(now, evaluated=False)
                if saving:
                    save(now)
    if last == length.total_steps:
        kernels = pictures.first_kernels(state.params, network)
        if processes.is_first():
            pictures.save_png(workdir / 'conv1_kernels.png', kernels)
            files.write_json(workdir / 'result.json', latest)
        overview.print_end(workdir, latest, last, checkpoints.best_step, network)
    return latest


def first_state(config: ConfigDict, training: build.Training) -> train_state.TrainState:
    """The state at step 0, with the layers of another run if the config names one.

    Raises:
      ValueError: that run has no such layer, or with another shape.
    """
    state = training.first_state()
    if not config.init.workdir:
        return state
    params = trained.copy_layers(
        state.params, config.init, training.network, training.mesh
    )
    return dataclasses.replace(state, params=params)


def count_classes(config: ConfigDict, dataset: prepare.PreparedDataset) -> int:
    """The classes of the last layer: the config's number, or the data set's."""
    wanted = config.model.num_classes
    if wanted and wanted != dataset.num_classes:
        raise ValueError(
            f'config.model.num_classes={wanted}, but {config.data.source} has '
            f'{dataset.num_classes} classes; 0 takes the data set’s count'
        )
    return dataset.num_classes
