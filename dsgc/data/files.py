"""The pictures below a folder, however deep, and which of them a name in a list means."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dsgc.data.images import ENDINGS, SYSTEMS
from dsgc.data.names import folded

OTHERS = (".heic", ".heif", ".eps", ".svg", ".raw", ".dng", ".cr2", ".nef")  # pictures that are not read


def below(folder: Path, endings: Sequence[str] = ENDINGS, without: Path | None = None) -> Iterator[str]:
    """The files below a folder that have such an ending, in capitals or not: paths from it, with slashes, sorted folder by folder.

    Hidden files and folders, those of the system, and the folder `without` are passed over; links to folders are not followed.
    """
    left_out = without.resolve() if without else None
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _hidden(name) and (not left_out or (Path(at) / name).resolve() != left_out))
        inside = Path(at).relative_to(folder)
        for name in sorted(names):
            if not _hidden(name) and Path(name).suffix.lower() in endings and (Path(at) / name).is_file():
                yield (inside / name).as_posix()


def _hidden(name: str) -> bool:
    return name.startswith((".", "@")) or name.lower() in SYSTEMS


class Names:
    """Finds files by what a list calls them: with folders in front or without, with the ending or without, in other capitals."""

    def __init__(self, files: Sequence[str]):
        self.whole: dict[str, list[str]] = {}  # by the path from the folder
        self.parts: dict[str, list[str]] = {}  # by every end of that path
        for file in files:
            for key in _keys(file):
                self.whole.setdefault(key, []).append(file)
            steps = file.split("/")
            for cut in range(len(steps)):
                for key in _keys("/".join(steps[cut:])):
                    self.parts.setdefault(key, []).append(file)

    def meant(self, name: str) -> list[str]:
        """The files that a name may mean: one where it is clear, none where there is no such file, else several.

        A name is a path from the folder, the end of one, or a path from elsewhere that ends in one from the folder.
        """
        steps = [step for step in name.replace("\\", "/").split("/") if step not in ("", ".")]
        for cut in range(len(steps)):
            rest = "/".join(steps[cut:])
            found = self.whole.get(folded(rest), []) or ([] if cut else self.parts.get(folded(rest), []))
            if found:
                return _closest(rest, found)
        return []


def _keys(path: str) -> set[str]:
    """What a path is found by: itself, and itself without its ending."""
    return {folded(path), folded(path.removesuffix(Path(path).suffix))}


def _closest(name: str, found: list[str]) -> list[str]:
    """Of several files those that are called so to the letter, if there are any."""
    exact = [file for file in found if name in (file, file.removesuffix(Path(file).suffix), *_ends(file))]
    return list(dict.fromkeys(exact or found))


def _ends(file: str) -> list[str]:
    steps = file.split("/")
    return ["/".join(steps[cut:]) for cut in range(1, len(steps))]
