"""What a run measures: metrics.jsonl and TensorBoard events.

The only module that imports clu, and late: it brings in TensorFlow, which takes
seconds. The import and all writing of events happen in one background thread.
"""

import contextlib
import json
import math
import os
import queue
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from alexnet_jax import randomness
from alexnet_jax.run import events
from alexnet_jax.system import files, tensorflow_log

HISTOGRAM_SAMPLE = 2**17


class MetricWriter:
    """Writes to `<workdir>/metrics.jsonl` at once and to TensorBoard soon after.

    A context manager; `close` waits for TensorBoard. What goes wrong there is raised
    by the next call. Only one process may be the writer, the others' calls do nothing.

    Both are taken back to the step that the run goes on from: later lines and points
    are dropped, the run will write them again, and TensorBoard gets the scalars that it
    lacks. So both are the uninterrupted run's, but for times.

    Args:
      workdir: exists.
      is_writer: False for all processes but one.
      resume_step: the step that the run goes on from. None: it starts from the
        beginning, and nothing that is there is kept.
      evaluated: whether what an evaluation after that step gave stays too.
    """

    def __init__(
        self,
        workdir: str | Path,
        *,
        is_writer: bool,
        resume_step: int | None,
        evaluated: bool = True,
    ):
        self._workdir = Path(workdir)
        self._is_writer = is_writer
        self._closed = False
        self._error: Exception | None = None
        self._error_raised = False
        if not is_writer:
            return
        path = self._workdir / 'metrics.jsonl'
        self._keeps = (
            _keeps(resume_step, evaluated) if resume_step is not None else None
        )
        self._before = _keep_lines(path, self._keeps)
        self._lines = path.open('a', encoding='utf-8')
        # Bounded, so that a run that logs faster than the disk takes it is slowed down
        # instead of filling the memory.
        self._queue: queue.Queue[tuple[str, tuple[Any, ...]] | None] = queue.Queue(100)
        self._thread = threading.Thread(
            target=self._write_events, name='tensorboard-writer', daemon=True
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one line to metrics.jsonl: `{"step": step, name: value, …}`.

        NaN and infinities become null there: JSON has no other word for them.
        """
        if not self._is_writer:
            return
        if 'step' in values:
            raise ValueError("no metric can be named 'step'; metrics.jsonl uses it")
        numbers = {name: _number(value) for name, value in values.items()}
        finite = {n: v if math.isfinite(v) else None for n, v in numbers.items()}
        try:
            self._lines.write(json.dumps({'step': int(step)} | finite) + '\n')
            self._lines.flush()
        except OSError as error:
            raise ValueError(
                f'cannot write {self._lines.name}: {files.why_not_written(error)}; '
                'mend that and start the same command again, it goes on from its '
                'latest checkpoint'
            ) from error
        self._enqueue('write_scalars', step, _tags(numbers))

    def images(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """[N, H, W, 3], uint8 or floats in [0, 1]."""
        # Copies, because they are written later and buffers are reused.
        copies = {f'visual/{name}': np.array(v) for name, v in values.items()}
        self._enqueue('write_images', step, copies)

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """The distribution of each array's finite values, of a sample if it is large.

        TensorFlow takes 30 doubles for each value: 9 GB for fc6's kernel.
        """
        arrays = {}
        for name, value in values.items():
            flat = np.asarray(value).reshape(-1)
            if flat.size > HISTOGRAM_SAMPLE:
                rng = randomness.generator(step, 'histogram', zlib.crc32(name.encode()))
                flat = flat[rng.integers(flat.size, size=HISTOGRAM_SAMPLE)]
            flat = flat.astype(np.float32)
            if (finite := flat[np.isfinite(flat)]).size:
                arrays[f'weights/{name}'] = finite
        self._enqueue('write_histograms', step, arrays)

    def hparams(self, values: Mapping[str, Any]) -> None:
        """The run's settings for TensorBoard's HParams tab, named as the workdir."""
        # One value that the plugin does not know would be an error of the writer.
        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in values.items()
        }
        self._enqueue('write_hparams', plain, self._workdir.resolve().name)

    def flush(self) -> None:
        """Waits until all that was written is on the disk, TensorBoard's too."""
        if not self._is_writer:
            return
        os.fsync(self._lines.fileno())
        if self._started():
            self._enqueue('flush')
            self._queue.join()
        self._raise_error()

    def close(self) -> None:
        """Waits until everything is on the disk."""
        if not self._is_writer or self._closed:
            return
        self._closed = True
        if not self._started() and any(self._workdir.glob(events.FILES)):
            self._thread.start()  # which takes the points back
        if self._started():
            self._queue.put(None)
            self._thread.join()
        # What could not be written is lost already, and was said.
        with contextlib.suppress(OSError):
            self._lines.close()
        self._raise_error()

    def __enter__(self) -> 'MetricWriter':
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _enqueue(self, method: str, *args: Any) -> None:
        if self._is_writer:
            self._raise_error()
            # Not before: importing TensorFlow takes a core from compiling the step.
            if not self._started():
                self._thread.start()
            self._queue.put((method, args))

    def _started(self) -> bool:
        return self._thread.ident is not None

    def _raise_error(self) -> None:
        # Once: the thread may fail again with what was in the queue behind it.
        if self._error is not None and not self._error_raised:
            self._error_raised = True
            raise ValueError(
                f'TensorBoard events could not be written to {self._workdir}: '
                f'{files.why_not_written(self._error)}; mend that and start the same '
                'command again, it goes on from its latest checkpoint'
            ) from self._error

    def _write_events(self) -> None:
        """The thread: writes what comes through the queue until None comes."""
        writer: Any = None
        missing: list[tuple[int, dict[str, float]]] = []
        try:
            there = events.rewind(self._workdir, self._keeps)
            missing = _missing(self._before, there)
        except Exception as error:
            self._error = error
        while True:
            item = self._queue.get()
            # Goes on after an error: the queue must not fill up with nobody to empty
            # it.
            try:
                if self._error is None and (item is not None or missing):
                    writer = writer or _summary_writer(self._workdir)
                    for step, values in missing:
                        writer.write_scalars(step, values)
                    missing = []
                    if item is not None:
                        _write(writer, *item)
                    if self._queue.empty():
                        writer.flush()
                if item is None and writer is not None:
                    writer.close()
            except Exception as error:
                self._error = self._error or error
            self._queue.task_done()
            if item is None:
                return


def _write(writer: Any, method: str, args: tuple[Any, ...]) -> None:
    if method == 'write_hparams':
        method, args = 'write_summaries', _hparams_summary(*args)
    getattr(writer, method)(*args)


def _missing(
    lines: Sequence[Mapping[str, Any]], there: events.Points
) -> list[tuple[int, dict[str, float]]]:
    """The scalars of metrics.jsonl that TensorBoard does not have yet, by step."""
    found = []
    for line in lines:
        step = line['step']
        values = {
            name: math.nan if value is None else value
            for name, value in line.items()
            if name != 'step'
        }
        lacking = {n: v for n, v in _tags(values).items() if (n, step) not in there}
        if lacking:
            found.append((step, lacking))
    return found


def _summary_writer(workdir: Path) -> Any:
    tensorflow_log.silence()
    import tensorflow as tf

    # TensorFlow would take the accelerator's memory from JAX, and breaks its NCCL
    # (google/flax#4942).
    tf.config.set_visible_devices([], 'GPU')
    from clu import metric_writers

    return metric_writers.SummaryWriter(str(workdir))


def _hparams_summary(values: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    """Arguments of clu's `write_summaries`; its own hparams names rows by a hash."""
    from tensorboard.plugins.hparams import summary_v2

    (summary,) = summary_v2.hparams_pb(dict(values), trial_id=name).value
    return 0, {summary.tag: np.zeros(0)}, {summary.tag: summary.metadata}


def _tags(scalars: Mapping[str, float]) -> dict[str, float]:
    """The names in TensorBoard, which shows groups of tags in alphabetical order.

    Training and validation come first, then pictures (`visual/…`) and histograms
    (`weights/…`); the test errors, single points, come last.
    """
    return {
        f'withheld_{name}' if name.startswith('test/') else name: value
        for name, value in scalars.items()
    }


def _number(value: Any) -> float | int:
    return value if isinstance(value, int) else float(value)


def _keeps(step: int, evaluated: bool) -> Callable[[str, int], bool]:
    """(name, step) → whether a run that goes on from `step` keeps that value."""

    def keeps(name: str, at: int) -> bool:
        if at == step and not evaluated and at:
            return name.startswith('train/')
        return at <= step

    return keeps


def _keep_lines(
    path: Path, keeps: Callable[[str, int], bool] | None
) -> list[dict[str, Any]]:
    """Rewrites the file without lines that are not kept, and without torn ones.

    Returns:
      The lines that are kept.
    """
    if not path.exists():
        return []
    kept = []
    for text in path.read_text(encoding='utf-8', errors='replace').splitlines():
        try:
            line = json.loads(text)
            step, names = int(line['step']), set(line) - {'step'} or {''}
        except (ValueError, KeyError, TypeError):
            logging.warning('Dropped a damaged line of %s: %.80r', path, text)
            continue
        if keeps is not None and all(keeps(name, step) for name in names):
            kept.append(line)
    lines = [json.dumps(line) + '\n' for line in kept]
    try:
        files.write_atomically(path, ''.join(lines))
    except OSError as error:
        raise ValueError(f'cannot write {path}: {error.strerror}') from error
    return kept
