"""Which of one's own pictures validate: a share of each class, the pictures of a folder, or those that a list names."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from dsgc.data.faults import Faults
from dsgc.data.files import Names
from dsgc.data.images import read_lines

TRAIN, VAL = ("train", "training"), ("val", "valid", "validation")  # folders that divide
BESIDE = ("test", "testing", "dev")  # may lie beside these
LEARNT = ("largest", "train", "train2014")  # names of the part to learn from, as presets have it; and of the other one
HELD = ("val", "val2014")
ALL = "all"


def folders(files: Sequence[str]) -> dict[str, str]:
    """The folders that divide pictures, by what they are for, "train" and "val"; none unless all pictures lie in such folders."""
    tops = dict.fromkeys(file.split("/")[0] if "/" in file else "" for file in files)
    found = {kind: next((top for top in tops if top.lower() in names), None) for kind, names in (("train", TRAIN), ("val", VAL))}
    divided = found["train"] and all(top.lower() in (*TRAIN, *VAL, *BESIDE) for top in tops)
    return {kind: top for kind, top in found.items() if top} if divided else {}


def share_of(tags: Mapping[str, Collection[str]], share: float) -> set[str]:
    """A share of the pictures of each class, by their ids; of a class with two pictures or more one at least, but never the last one.

    It depends on ids and tags alone, not on the order of the files nor on a run's seed, so that runs with several seeds are
    scored on the same pictures. Rare classes choose first. tags: of each id.
    """
    order = sorted(tags, key=lambda image_id: hashlib.sha256(image_id.encode()).digest())
    left, chosen = Counter(tag for found in tags.values() for tag in found), set()
    for one in sorted(left, key=lambda tag: (left[tag], tag)):
        having = [image_id for image_id in order if one in tags[image_id]]
        missing = max(1, round(share * len(having))) - sum(image_id in chosen for image_id in having)
        for image_id in having:
            if missing > 0 and image_id not in chosen and all(left[tag] > 1 for tag in tags[image_id]):
                chosen.add(image_id)
                left.subtract(tags[image_id])
                missing -= 1
    without = [image_id for image_id in order if not tags[image_id]]
    return chosen | {*without[: round(share * len(without))]}


def read_list(path: Path, names: Names, ids: Mapping[str, str], faults: Faults) -> tuple[str, ...]:
    """The ids of the pictures that a list names, one a line; ids: by file."""
    found: dict[str, None] = {}
    for number, line in enumerate(read_lines(path), 1):
        meant = names.meant(line.strip().strip("'\""))
        if len(meant) == 1:
            found[ids[meant[0]]] = None
        else:
            what = "lines may mean one picture or another" if meant else "lines name no picture that is there"
            faults.add(str(path), what, f"{line.strip()[:80]!r} (line {number})", "give each picture's path from the folder")
    return tuple(found)
