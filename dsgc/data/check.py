"""A data set looked over before a night is spent on it: all that training would refuse, and what it would not but a person should know.

Faults are what training refuses, at its start or when it comes to the picture. The rest are hints.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from dsgc.data import agreement, coco, layout, own, voc, voc6
from dsgc.data.faults import Faults
from dsgc.data.files import below
from dsgc.data.split import Split, open_split
from dsgc.errors import UserError

TINY = 64  # pixels of the shorter side: four patches of 16
HUGE = 2_000  # pixels of the longer side
RARE = 5  # pictures of a class, below which little is learnt of it
ALIKE = 0.8  # of two names, difflib's measure: from here on one may be the other, misspelt
SMALLER = (
    "scale them down to 500 to 1000: `predict` and `labels` see a picture at its own size, and twice the side takes 4 to 16 times as long"
)


class Part(NamedTuple):
    """A split of which everything that can be read was read."""

    name: str
    use: str  # what a run does with it, in words
    split: Split
    tags: np.ndarray  # (N, C)
    sizes: dict[str, tuple[int, int]]  # (width, height) by id, of the pictures that can be read
    content: dict[str, str]  # a digest of the pixels, by id
    told: set[str]  # ids whose tags were understood


class Report(NamedTuple):
    """What was found."""

    root: Path
    parts: list[Part]
    faults: Faults
    hints: Faults

    def lines(self) -> list[str]:
        """For people: counts, sizes, hints, faults."""
        found = [f"{self.root}"]
        for part in self.parts:
            found += [f"  {part.use}, `{part.name}`: {len(part.split.ids)} pictures, {int(part.tags.sum())} tags, from {part.split.origin}"]
        if self.parts:
            found += ["", *_table(self.parts), "", *_sizes(self.parts)]
            found += [f"  {note}" for note in dict.fromkeys(note for part in self.parts for note in part.split.notes)]
        for title, faults in (("hints, which training does not mind", self.hints), ("faults, which training refuses", self.faults)):
            found += ["", f"{title}:", *(f"  {line}" for line in faults.lines() or ["none"])]
        return found


def check(root: Path, train: str, val: str, source: own.Source = own.NONE) -> Report:
    """Look over both splits of a data set in any layout, and every file that they name. `train` and `val` as a run names them; for ""
    the usual ones of the layout."""
    faults, hints = Faults(), Faults()
    found: list[Part] = []
    with faults.kept("faults of the data set as a whole"):
        train, val = _usual(root, train, val)
        source = source._replace(train=train, val=val)
        uses = {train: "to learn from", val: "to validate on"}
        for name, split in zip((train, val), _opened(root, (train, val), source, faults), strict=True):
            if split is not None:
                found.append(_read(name, uses[name], split, faults, masks=bool(split.truth) and name == val))
    if len(found) == 2 and found[0].split.classes != found[1].split.classes:
        faults.add(str(root), "splits have other classes than those to learn from", val, "take both from one data set")
    _doubles(found, faults, hints)
    _hints(root, found, hints)
    return Report(root, found, faults, hints)


def _usual(root: Path, train: str, val: str) -> tuple[str, str]:
    there = [] if layout.listed(root) >= layout.VOC else sorted(layout.instances_files(root))
    if not there:
        return train or "largest", val or "val"
    usual = [given or next((name for name in there if name.startswith(kind)), "") for kind, given in (("train", train), ("val", val))]
    if not all(usual):
        raise UserError(f"{root}: which splits are meant is not clear; name two for --train-split and --val-split: {', '.join(there)[:99]}")
    return usual[0], usual[1]


def _opened(root: Path, names: Sequence[str], source: own.Source, faults: Faults) -> list[Split | None]:
    """The splits, each with those pictures whose files are there; None for one that cannot be opened."""
    if source.tags or own.is_own(root):
        whole = own.look(root, source, faults)
        return [own.part(whole, name, source, faults) for name in names]
    splits: list[Split | None] = []
    for name in names:
        split = None
        with faults.kept("splits that cannot be opened"):
            plain = name not in voc6.SPLITS and not layout.is_coco(root, name)
            split = voc.look(root, name, faults) if plain else open_split(root, name, source)
        splits.append(split)
    return splits


def _read(name: str, use: str, split: Split, faults: Faults, *, masks: bool) -> Part:
    """Every picture of a split, its tags, and its mask where one is needed."""
    sizes, content, told, tags = {}, {}, {*split.ids}, np.zeros((len(split.ids), len(split.classes)), np.float32)
    sound = True
    for number, image_id in enumerate(tqdm(split.ids, unit="picture", desc=name)):
        with faults.kept("pictures that cannot be read"):
            image = split.image(image_id)
            sizes[image_id] = image.size
            content[image_id] = hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
        if isinstance(split, voc.Folder):
            told.discard(image_id)
            with faults.kept("annotations that are not understood"):
                tags[number] = voc.read_tags(split, image_id)
                told.add(image_id)
        if masks and image_id in sizes:
            before = len(faults)
            with faults.kept("masks that cannot be used"):
                split.mask(image_id, sizes[image_id])
            sound &= len(faults) == before
    if not isinstance(split, voc.Folder):
        with faults.kept("tags that are not understood"):
            tags = split.tags()
    if masks and sound and len(sizes) == len(split.ids):
        with faults.kept("masks that do not say what the tags say"):
            agreement.check(split, tags)
    if not tags.any():
        faults.add(split.origin, "splits name no object at all", name, "give its pictures tags")
    return Part(name, use, split, tags, sizes, content, told)


def _doubles(found: Sequence[Part], faults: Faults, hints: Faults) -> None:
    """Pictures of the same pixels, in one split or in both."""
    where: dict[str, list[tuple[str, str]]] = {}
    for part in found:
        for image_id, digest in part.content.items():
            where.setdefault(digest, []).append((part.name, image_id))
    for same in where.values():
        item = " and ".join(f"{image_id} ({name})" for name, image_id in same[:3]) + (f" and {len(same) - 3} more" if len(same) > 3 else "")
        if len({name for name, _ in same}) > 1:
            once = len({image_id for _, image_id in same}) == 1
            remedy = "take them out of one of the splits, or the score is too good"
            (faults if once else hints).add("", "pictures are in both splits", item, remedy)
        elif len(same) > 1:
            hints.add("", "pictures are there twice", item, "keep one of each, with the tags of both")


def _hints(root: Path, found: Sequence[Part], hints: Faults) -> None:
    for name, count in zip(found[0].split.classes, found[0].tags.sum(0), strict=True) if found else ():
        if count < RARE:
            hints.add("", f"classes have less than {RARE} pictures in {found[0].name}", f"{name} ({int(count)})", "find more of them")
    for rare, usual in _misspelt(found[0]) if found and isinstance(found[0].split, own.Own) else ():
        hints.add("", "tags are nearly alike", f"{rare!r} and {usual!r}", "correct the rare one, if it is the other misspelt")
    for part in found:
        for number, image_id in enumerate(part.split.ids):
            width, height = part.sizes.get(image_id, (TINY, TINY))
            item = f"{image_id} ({width} x {height})"
            if min(width, height) < TINY:
                hints.add("", f"pictures are less than {TINY} pixels wide or high", item, "leave them out: they are a few patches")
            if max(width, height) > HUGE:
                hints.add("", f"pictures are more than {HUGE} pixels wide or high", item, SMALLER)
            if image_id in part.told and not part.tags[number].any():
                hints.add("", f"pictures of {part.name} without a tag", image_id, "see that they show none of the classes")
    splits = [part.split for part in found]
    known = {str(split.file(image_id)) for split in splits for image_id in split.ids}
    for split in {type(split): split for split in splits}.values():
        if isinstance(split, voc.Folder):
            pictures = {Path(file).stem for file in below(root / voc.IMAGES)}
            for file in below(root / voc.ANNOTATIONS, (".xml",)):
                if Path(file).stem not in pictures:
                    hints.add(str(root / voc.ANNOTATIONS), "annotations without a picture", file, "add the pictures, if they are meant")
        folders = [root / voc.IMAGES] if isinstance(split, voc.Folder) else []
        folders += [other.folder for other in splits if isinstance(other, coco.Instances)]
        for file in (str(folder / file) for folder in dict.fromkeys(folders) for file in below(folder)):
            if file not in known:
                hints.add("", "pictures are in neither split", file, "list them, or give them instances, if they are meant")


def _misspelt(part: Part) -> Iterator[tuple[str, str]]:
    """Each class that hardly any picture has, with one that more have and whose name is nearly its own."""
    counts = dict(zip(part.split.classes, part.tags.sum(0), strict=True))
    for name, count in counts.items():
        if count < RARE:
            others = [other for other in counts if counts[other] > count and other.casefold() != name.casefold()]  # that is a fault already
            yield from ((name, other) for other in get_close_matches(name, others, 1, ALIKE))


def _table(found: Sequence[Part]) -> list[str]:
    """Pictures of each class in each split."""
    classes = found[0].split.classes
    counts = [dict(zip(part.split.classes, part.tags.sum(0).astype(int), strict=True)) for part in found]
    wide = max(map(len, (*classes, "class")))
    head = f"  {'class':<{wide}}" + "".join(f"  {part.name[-12:]:>12}" for part in found)
    return [head, *(f"  {name:<{wide}}" + "".join(f"  {count.get(name, 0):>12}" for count in counts) for name in classes)]


def _sizes(found: Sequence[Part]) -> list[str]:
    sizes = sorted((size for part in found for size in part.sizes.values()), key=lambda size: size[0] * size[1])
    if not sizes:
        return []
    sides = [side for size in sizes for side in size]
    middle = sizes[len(sizes) // 2]
    several = Counter(sizes).most_common(1)[0][1] == len(sizes)
    words = "all " if several else f"smallest {sizes[0][0]} x {sizes[0][1]}, median {middle[0]} x {middle[1]}, largest "
    return [f"  sizes: {words}{sizes[-1][0]} x {sizes[-1][1]}; median side {median(sides):g}"]
