"""TensorBoard's event files, taken back to the step that a run goes on from.

A killed run leaves points after its latest checkpoint, which the run that goes on
makes again. So the files are rewritten without them, and `metrics.jsonl` says which
scalars are missing. A file is a row of records: u64 length, u32 checksum, an Event, u32
checksum.
"""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from alexnet_jax.system.files import write_atomically

Points = set[tuple[str, int]]

FILES = 'events.out.tfevents.*'


def rewind(workdir: Path, keeps: Callable[[str, int], bool] | None) -> Points:
    """Removes points from the event files of a workdir, and what is torn.

    Args:
      workdir: that holds them.
      keeps: (tag, step) → whether that point stays; None: nothing does.

    Returns:
      The tags and steps of the points that are there.
    """
    kept: Points = set()
    for path in sorted(workdir.glob(FILES)):
        if keeps is None:
            path.unlink()
            continue
        records, changed, points = [], False, 0
        for record, tags, step in _events(path):
            # One event of ours has the points of one tag; the first has none.
            stays = all(keeps(tag, step) and (tag, step) not in kept for tag in tags)
            if stays:
                records.append(record)
                points += len(tags)
                kept |= {(tag, step) for tag in tags}
            changed |= not stays
        content = b''.join(records)
        if not points:
            path.unlink()
        elif changed or len(content) != path.stat().st_size:
            write_atomically(path, content)
    return kept


def _events(path: Path) -> Iterator[tuple[bytes, list[str], int]]:
    """Yields each whole record with the tags and the step of its event."""
    # Without TensorFlow, whose reader stops at a torn record with an error.
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto import event_pb2

    content, at = path.read_bytes(), 0
    while at + 12 <= len(content):
        end = at + 12 + struct.unpack_from('<Q', content, at)[0] + 4
        if end > len(content):
            return
        try:
            event = event_pb2.Event.FromString(  # pyrefly: ignore
                content[at + 12 : end - 4]
            )
        except DecodeError:
            return
        yield content[at:end], [value.tag for value in event.summary.value], event.step
        at = end
