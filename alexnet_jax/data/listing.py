"""Lists a folder of images: which splits, classes and files it has, and what is wrong.

    <folder>/<split>/<class>/<image>     `val` and `valid` count as `validation`
    <folder>/<class>/<image>             without splits: divided by a hash

Nothing is read here but directories. What cannot be an image file (a FIFO, a device, a
loop of links) is refused; what is left out is counted and named in the notes.
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.data import entries, hashing, splits
from alexnet_jax.data.folders import (
    SETTLED_NS,
    ClassFiles,
    Files,
    FolderSource,
    changed,
    order,
)
from alexnet_jax.data.sources import SourceNotFoundError

# The names that splits go by in other people's folders.
ALIASES = {'val': 'validation', 'valid': 'validation'}
# What becomes of a folder without splits: the upper ends of each split's hashes.
DIVISION = {'train': 0.8, 'validation': 0.9, 'test': 1.0}

# By split, then by class.
Listed = Mapping[str, Mapping[str, entries.ClassFolder]]


def open_folder(data: ConfigDict) -> FolderSource:
    """Lists the folder that config.data names.

    Raises:
      SourceNotFoundError: there is none.
      ValueError: it has not a layout of above, or something in it cannot be read.
    """
    directory = Path(os.path.realpath(os.path.expanduser(data.data_dir)))
    layout = f'<split>/<class>/{entries.KINDS}, or <class>/… without splits'
    if not data.data_dir or not directory.is_dir():
        raise SourceNotFoundError(
            f'no folder of images at {data.data_dir!r} (config.data.data_dir); make '
            f'<data_dir>/{layout} there'
        )
    listed_at = time.time_ns()
    times = {'': changed(directory)}
    places = _places(directory, data)
    loose = entries.loose_images(directory, '')
    # Each directory's time is taken before it is read: a later change shows.
    listed: dict[str, dict[str, entries.ClassFolder]] = {}
    for place in dict.fromkeys(places.values()):
        times[place] = changed(directory / place)
        loose += entries.loose_images(directory, place) if place else []
        listed[place] = {}
        for name in entries.subfolders(directory / place):
            relative = f'{place}/{name}' if place else name
            times[relative] = changed(directory / relative)
            listed[place][name] = entries.of_class(directory / relative)
    if not any(of_place for of_place in listed.values()):
        raise ValueError(
            f'no splits with classes in {directory}; expected {directory}/{layout}'
        )
    divided = set(places.values()) == {''}
    class_names, notes = _check_classes(data, directory, places, listed)
    if loose:
        notes.append(
            f'{len(loose):,} images lie outside classes: {entries.some(loose)}'
        )
    digest = hashlib.sha256(repr(('by hash', class_names)).encode())
    files = {}
    for split, place in places.items():
        if divided and files:
            break
        of_place = listed[place]
        if not of_place:
            continue
        by_class: list[ClassFiles] = [
            (name, of_place[name].files if name in of_place else [])
            for name in class_names
        ]
        files[split], of_split = order(by_class)
        digest.update(split.encode(errors='surrogateescape') + of_split)
    if divided:
        digest.update(repr(DIVISION).encode())
        files = _divide(files['train'])
        notes = [_division_note(directory, files), *notes]
        notes += _missing_notes(class_names, files)
    return FolderSource(
        name=directory.name,
        directory=directory,
        class_names=class_names,
        files=files,
        places=places,
        notes=tuple(notes),
        fingerprint=digest.hexdigest(),
        directories={
            name: when if when < listed_at - SETTLED_NS else None
            for name, when in times.items()
        },
    )


def _places(directory: Path, data: ConfigDict) -> dict[str, str]:
    """Where each split's classes lie: its own folder, or '' where there are none."""
    found = entries.subfolders(directory)
    known = {*DIVISION, *ALIASES, *splits.named_splits(data)}
    if known.isdisjoint(found) and any(
        entry.name.lower().endswith(entries.SUFFIXES)
        for name in found
        for entry in entries.entries_of(directory / name)
    ):
        return dict.fromkeys(DIVISION, '')
    places = {name: name for name in found if name not in ALIASES}
    for name in (name for name in found if name in ALIASES):
        own = ALIASES[name] in places or name in splits.named_splits(data)
        places[name if own else ALIASES[name]] = name
    return places


def _check_classes(
    data: ConfigDict, directory: Path, places: Mapping[str, str], listed: Listed
) -> tuple[tuple[str, ...], list[str]]:
    """The classes of the training split, and what the others lack or have besides.

    Raises:
      ValueError: a class cannot be named, learnt or found.
    """
    named = [s for s in splits.named_splits(data) if places.get(s) in listed]
    if named:  # what else lies there is nobody's business
        listed = {places[split]: listed[places[split]] for split in named}
    for place, of_place in listed.items():
        for name, content in of_place.items():
            _check_name(directory / place, name)
            if content.folders and not content.files:
                raise ValueError(
                    f'{directory / place / name} holds no images itself but folders '
                    f'({entries.some(content.folders)}); images lie directly in the '
                    'folder of their class'
                )
    trained = [s for s in splits.base_splits(data.train_split) if s in named]
    of_training = {places[split] for split in trained or named or places}
    with_images = {
        place: [name for name, content in of_place.items() if content.files]
        for place, of_place in listed.items()
    }
    names = sorted({name for place in of_training for name in with_images[place]})
    if len(names) < 2:
        where = directory / min(of_training)
        have = f'one class ({names[0]!r}) with images' if names else 'no images'
        raise ValueError(
            f'{where} has {have}; a classifier needs two classes or more, each a '
            f'folder of {entries.KINDS}'
        )
    notes = []
    for place in (places[split] for split in named if split not in trained):
        if unknown := sorted({*with_images[place]} - {*names}):
            raise ValueError(
                f'splits {trained[0]!r} and {place!r} of {directory} have different '
                f'classes; only {place!r} has images of {entries.some(unknown)}, which '
                'could not be learnt'
            )
        if lacking := sorted({*names} - {*with_images[place]}):
            notes.append(f'{place} has no images of {entries.some(lacking)}')
    for place, of_place in listed.items():
        if empty := [n for n, c in of_place.items() if not c.files and n not in names]:
            notes.append(
                f'{_under(place, empty)} {"has" if len(empty) == 1 else "have"} no '
                'images and no class'
            )
    return tuple(names), notes + list(_ignored_notes(listed))


def _check_name(directory: Path, name: str) -> None:
    """A name is kept in text files, a line each, and printed."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f'the name of the class {os.fsencode(name)!r} in {directory} is not UTF-8; '
            'rename its folder'
        ) from None
    if not name.isprintable() or name != name.strip():
        raise ValueError(
            f'the name of the class {name!r} in {directory} has a line break, a '
            'control character or a space at its ends; rename its folder'
        )


def _ignored_notes(listed: Listed) -> Iterable[str]:
    for what, kind in (('files', 'ignored'), ('folders inside classes', 'folders')):
        found = [
            '/'.join(filter(None, (place, name, entry)))
            for place, of_place in listed.items()
            for name, content in of_place.items()
            for entry in getattr(content, kind)
        ]
        if found:
            yield f'{len(found):,} {what} are not read: {entries.some(found)}'


def _divide(files: Files) -> dict[str, Files]:
    """Divides files by a hash of their names that is not the one of their order."""
    names = files.paths(0, len(files))
    second = hashing.hashes(os.fsencode(f'split of {name}') for name in names)
    place = np.searchsorted(
        np.array([share * 2.0**64 for share in DIVISION.values()]),
        second.astype(np.float64),
        side='right',
    )
    place = np.minimum(place, len(DIVISION) - 1)
    return {s: files.chosen(place == number) for number, s in enumerate(DIVISION)}


def _division_note(directory: Path, files: Mapping[str, Files]) -> str:
    parts = ', '.join(f'{split} {len(of):,}' for split, of in files.items())
    return (
        f'{directory} has no splits; each image goes to one by the hash of its '
        f'<class>/<file>: {parts}'
    )


def _missing_notes(names: Sequence[str], files: Mapping[str, Files]) -> Iterable[str]:
    for split, of in files.items():
        counts = Counter(of.labels.tolist())
        if lacking := [name for i, name in enumerate(names) if not counts[i]]:
            yield f'{split} has no images of {entries.some(lacking)}'


def _under(place: str, names: Sequence[str]) -> str:
    return entries.some(['/'.join(filter(None, (place, name))) for name in names])
