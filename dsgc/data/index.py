"""What is kept of an instances file, and the cache that it lies in: small, and without a mask in it."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dsgc.data import instances
from dsgc.errors import UserError

VERSION = 4  # of the cache; another one is not read
KEPT = 16  # files in the cache, those that were written last


class Index(NamedTuple):
    """Of the images with at least one instance, by id."""

    classes: np.ndarray  # (C,) names, in the order of COCO's category ids, whose numbers have gaps
    files: np.ndarray  # (N,) names of the image files, with folders in front where the file has them
    sizes: np.ndarray  # (N, 2) width, height
    first: np.ndarray  # (N + 1,) where the instances of each image begin
    categories: np.ndarray  # (M,) uint8 1..C, of the instances
    spans: np.ndarray  # (M, 2) from which byte to which each one stands in the file, or in `text`
    masks: np.ndarray  # () whether any instance has a mask and is no crowd region
    text: np.ndarray  # uint8, the instances themselves, of a file that is not plain JSON in UTF-8; else empty


def spans(text: bytes, entries: Sequence) -> np.ndarray:
    """From which byte to which each entry stands in a text, (M, 2) int64; they stand there in this order."""
    found, at = np.empty((len(entries), 2), np.int64), 0
    for number, entry in enumerate(map(memoryview, entries)):
        at = text.index(entry, at)
        found[number] = at, (at := at + len(entry))
    return found


def texts(path: Path, stamp: tuple[int, int], index: Index, chosen: slice) -> Iterator[bytes]:
    """The text of some instances, from the file that the index is of.

    Raises:
        UserError: the file is not the one that was opened any more.
    """
    places = index.spans[chosen].tolist()
    if len(index.text):
        yield from (index.text[start:stop].tobytes() for start, stop in places)
        return
    if stamp_of(path) != stamp:
        raise UserError(f"{path}: has been changed since it was opened; begin again, so that masks and tags are of one file")
    with path.open("rb") as file:
        for start, stop in places:
            file.seek(start)
            yield file.read(stop - start)


def stamp_of(path: Path) -> tuple[int, int]:
    """Size and time of change, by which a file is told from what it was before. Raises `UserError` where it cannot be seen."""
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); see that it is there") from error
    return found.st_size, found.st_mtime_ns


def folder() -> Path | None:
    """Where indices are kept: `dsgc` in the user's cache folder; nowhere for a user without a home, as in a container."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dsgc"
    except RuntimeError:
        return None


def kept(path: Path, stamp: tuple[int, int], build: Callable[[], Index]) -> Index:
    """The index of an instances file; made anew if the file is not the one it was made from, or if it is damaged itself."""
    cache = folder()
    if cache is None:
        return build()
    key = " ".join(map(str, (path.resolve(), *stamp, VERSION)))
    place = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    with contextlib.suppress(Exception), np.load(place, allow_pickle=False) as arrays:  # damaged bytes make it raise almost anything
        index = Index(**{name: arrays[name] for name in Index._fields})
        if sound(index, stamp[0]):
            return index
    index = build()
    with contextlib.suppress(OSError):  # a cache that cannot be written costs the same time again
        _write(place, index)
    return index


def _write(place: Path, index: Index) -> None:
    """Put an index into the cache, whole or not at all, and take the oldest ones out."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=place.parent, suffix=".partial", delete=False) as partial:
        try:
            np.savez(partial, **index._asdict())
            partial.close()
            os.replace(partial.name, place)
        except OSError:
            os.unlink(partial.name)
            raise
    written = sorted((path for path in place.parent.iterdir() if path.suffix in (".npz", ".partial")), key=os.path.getmtime)
    for path in written[:-KEPT]:
        path.unlink(missing_ok=True)


def sound(index: Index, size: int) -> bool:
    """Whether the parts of an index fit each other and a file of so many bytes; the cache is a file, and need not be ours."""
    images, painted = len(index.files), len(index.categories)
    shapes = [(len(index.classes),), (images,), (images, 2), (images + 1,), (painted,), (painted, 2), (), (len(index.text),)]
    return (
        [(part.shape, part.dtype.kind) for part in index] == list(zip(shapes, "UUiiuibu", strict=True))
        and all(map(instances.inside, index.files.tolist()))
        and bool(((index.sizes >= 1) & (index.sizes <= instances.LONGEST)).all())
        and (index.first[0], index.first[-1]) == (0, painted)
        and bool((np.diff(index.first) > 0).all())
        and bool(((index.categories >= 1) & (index.categories <= len(index.classes))).all())
        and bool((index.spans[:, 0] >= 0).all() and (index.spans[:, 0] < index.spans[:, 1]).all())
        and bool((index.spans[:, 1] <= (len(index.text) or size)).all())
    )
