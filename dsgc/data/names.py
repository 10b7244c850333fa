"""Names of files as exporters and disks write them: the file that a name means, and an id for each file that tells it from others."""

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dsgc.data.images import is_plain
from dsgc.errors import UserError


def find_files(folder: Path, names: Sequence[str], listed_by: Path) -> list[str]:
    """The files of a folder that are meant by names, as the disk has them: with the folders in front or without the first of
    these, in the capitals given or in others where no second file would fit.

    Raises:
        UserError: there is none for a name, or one for two names.
    """
    deep = any("/" in name for name in names)
    there = {str((Path(at) / name).relative_to(folder)) for at, _, files in os.walk(folder) for name in files} if deep else {
        entry.name for entry in os.scandir(folder)
    }
    alike: dict[str, list[str]] = {}
    for name in there:
        alike.setdefault(folded(name), []).append(name)

    def meant(name: str) -> str | None:
        parts = name.split("/")
        for rest in ("/".join(parts[cut:]) for cut in range(len(parts))):
            found = [rest] if rest in there else alike.get(folded(rest), [])
            if len(found) == 1:
                return found[0]
        return None

    found = {name: meant(name) for name in names}
    missing = [name for name, file in found.items() if file is None]
    if missing:
        raise UserError(
            f"{folder / missing[0]}: missing, as are {len(missing) - 1} more of the {len(names)} images that {listed_by.name} "
            "lists; complete the folder"
        )
    twice = [name for name, count in Counter(found.values()).items() if count > 1]
    if twice:
        rows = " and ".join(name for name, file in found.items() if file == twice[0])
        raise UserError(f"{folder / str(twice[0])}: one picture, though {listed_by} lists {rows}; give each a file of its own")
    return [str(found[name]) for name in names]


def distinct_ids(files: Sequence[str]) -> tuple[str, ...]:
    """An id for each file: its name without the ending; with it, or with the folders too, where that would not tell files apart.

    Ids that differ in capitals only are not told apart, since a disk may not do so.
    Raises `UserError` for a name that cannot be told from others.
    """
    ways = [(Path(file).stem, Path(file).name, file.replace("/", "_")) for file in files]
    level = [0] * len(files)
    for _ in range(2 * len(files)):  # each round moves one on at least
        counts = Counter(folded(way[at]) for way, at in zip(ways, level, strict=True))
        more = [i for i, (way, at) in enumerate(zip(ways, level, strict=True)) if counts[folded(way[at])] > 1 and at < 2]
        if not more:
            break
        for i in more:
            level[i] += 1
    ids = tuple(way[at] for way, at in zip(ways, level, strict=True))
    counts = Counter(ids)
    unclear = next((file for file, image_id in zip(files, ids, strict=True) if counts[image_id] > 1 or not is_plain(image_id)), None)
    if unclear:
        raise UserError(f"{unclear}: its name cannot be told from others once folders are taken off; rename it")
    return ids


def folded(name: str) -> str:
    """A file's name as a disk sees it that tells neither capitals nor ways to write an accent."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
