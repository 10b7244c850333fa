"""One's own pictures without a layout: any folder, tags from a file or from folders named by class, masks if there are any.

Without masks every pixel's true label is 255, unknown: nothing is scored on masks then, and `truth` is empty.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dsgc.data import layout, parts, tags
from dsgc.data.classes import is_background, read_classes
from dsgc.data.faults import Faults, listed
from dsgc.data.files import OTHERS, Names, below
from dsgc.data.images import Pictures, is_plain, read_rgb
from dsgc.data.labels import IGNORE, Masks
from dsgc.data.names import distinct_ids
from dsgc.errors import UserError

LIST = "classes.txt"  # in the folder, says which number a class has in masks; else the tag file does, by its columns or the alphabet
NO_CLASS = {"images", "imgs", "img", "pictures", "photos", "masks", "labels", "annotations", "data"}  # folders that are no class
NO_CLASS |= {*parts.TRAIN, *parts.VAL, *parts.BESIDE}
UNTOLD = "no masks, so no mIoU: how well tags are told is scored instead"


class Source(NamedTuple):
    """Where one's own pictures have their tags and masks from, and which of them validate."""

    tags: str = ""  # file; empty for a folder per class
    masks: str = ""  # folder; empty for none
    share: float = 0.1  # that validates, where neither a list nor folders say it
    train: str = "largest"  # the part to learn from, and the one that validates: see `parts`
    val: str = "val"
    classes: tuple[str, ...] = ()  # those that a run knows; empty for those that the tags name


NONE = Source()


class Own(NamedTuple):
    """A part of one's own pictures, as `dsgc.data.split.Split` asks for it."""

    root: Path
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    origin: str
    files: Mapping[str, str]  # a picture's path from the folder, by id
    named: Mapping[str, tuple[str, ...]]  # the tags of each id
    masks: Masks | None = None
    notes: tuple[str, ...] = ()

    @property
    def truth(self) -> str:
        """Where the masks come from; empty without masks."""
        return str(self.masks.folder) if self.masks else ""

    def tags(self) -> np.ndarray:
        """The tags of every picture of the part, (N, C) float32."""
        rows = [[name in self.named[image_id] for name in self.classes] for image_id in self.ids]
        return np.array(rows, np.float32).reshape(len(self.ids), len(self.classes))

    def file(self, image_id: str) -> Path:
        """Where a picture lies."""
        return self.root / self.files[image_id]

    def image(self, image_id: str) -> Image.Image:
        """The picture in RGB."""
        return read_rgb(self.file(image_id))

    def mask(self, image_id: str, size: tuple[int, int]) -> Image.Image:
        """The true labels 0..C and 255, all 255 without masks; `size` is the image's (width, height)."""
        if not self.masks:
            return Image.new("L", tuple(size), IGNORE)
        return self.masks.label(image_id, self.ids, self.file(image_id), size, len(self.classes))


def is_own(root: Path) -> bool:
    """Whether a folder has no layout, and pictures in folders: each is a class, if no tag file says otherwise."""
    return not layout.has_marks(root) and any("/" in file for file in below(root))


def open_split(root: Path, split: str, source: Source) -> Own:
    """A part of one's own pictures: `largest` or `train` to learn from, `val` to validate on, `all`, a list's file or a folder.

    Raises:
        UserError: with the first kind of fault that `look` or `part` finds.
    """
    faults = Faults()
    whole = look(root, source, faults)
    faults.refuse()
    found = part(whole, split, source, faults)
    faults.refuse()
    return found


def open_pictures(root: Path) -> Pictures:
    """All pictures below a folder. Raises `UserError` if there are none."""
    files, passed = list(below(root)), list(below(root, OTHERS))
    if not files:
        raise UserError(f"{root}: no pictures here; give a folder of pictures")
    ids = distinct_ids(files)
    many = "s" * (len(passed) > 1)
    notes = (f"{root}: passed over {len(passed)} picture{many} of a kind that is not read ({listed(passed)})",) if passed else ()
    return Pictures(ids, {image_id: root / file for image_id, file in zip(ids, files, strict=True)}, notes)


def look(root: Path, source: Source, faults: Faults) -> Own:
    """All pictures, with the tags that they have; what is wrong with them goes to the faults.

    Raises:
        UserError: no pictures, a folder of another layout, or a tag file that cannot be read.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the folder that your pictures are in")
    if source.tags and layout.has_marks(root):
        raise UserError(f"{root}: has the layout of VOC or COCO, whose tags come from its annotations; leave out --tags, or give a folder "
                        "of pictures alone, as its JPEGImages")  # fmt: skip
    if source.masks and not Path(source.masks).is_dir():
        raise UserError(f"{source.masks}: no such folder of masks; give the one that holds a PNG for each picture")
    files = list(below(root, without=Path(source.masks) if source.masks else None))
    if not files:
        raise UserError(f"{root}: no pictures here; give the folder that your pictures are in")
    ids = dict(zip(files, distinct_ids(files), strict=True))
    if source.tags:
        path = Path(source.tags)
        names = Names(files)
        said = tags.read(path, lambda name: bool(names.meant(name)), faults)
        classes, named, notes = said.classes, dict(_by_id(root, path, said, names, ids, faults)), said.notes
    else:
        path, notes = root, ()
        named = dict(_by_folder(root, files, ids, faults))
        classes = tuple(sorted({name for found in named.values() for name in found}))
    known, whose = source.classes, "the run's classes"
    if not known and (root / LIST).is_file():
        known, whose = read_classes(root).names, f"the classes in {root / LIST}"
    if known:
        classes = _as_known(path, classes, known, whose, faults)
    masks = _masks(Path(source.masks), ids) if source.masks else None
    notes = (*notes, *([] if masks else [UNTOLD]))
    return Own(root, classes, tuple(ids.values()), str(path), {ids[file]: file for file in files}, named, masks, notes)


def _by_id(root: Path, path: Path, said: tags.Tags, names: Names, ids: Mapping[str, str], faults: Faults) -> Iterator[tuple]:
    """(id, tags) of every picture that a tag file names, once."""
    first: dict[str, tags.Row] = {}
    others = Names(list(below(root, OTHERS)))
    for row in said.rows:
        found, item = names.meant(row.name), f"{row.name[:80]!r} ({row.place})"
        if not found and others.meant(row.name):
            faults.add(str(path), "names of pictures of a kind that is not read", item, "save them as JPEG or PNG")
        elif not found:
            faults.add(str(path), f"names of pictures that are not in {root}", item, "correct the names, or take the rows out")
        elif len(found) > 1:
            item += f" may be {' or '.join(found[:2])}"
            faults.add(str(path), "names that several pictures have", item, "give each picture's path from the folder")
        elif found[0] not in first:
            first[found[0]] = row
            yield ids[found[0]], row.tags
        elif {*first[found[0]].tags} != {*row.tags}:
            item += f" and {first[found[0]].place}"
            faults.add(str(path), "pictures have two rows that contradict", item, "keep one row, with all tags of the picture")
        elif first[found[0]].name != row.name:
            item += f" and {first[found[0]].name!r} ({first[found[0]].place}) are {found[0]}"
            faults.add(str(path), "pictures are named in two ways", item, "keep one row for each picture")


def _by_folder(root: Path, files: list[str], ids: Mapping[str, str], faults: Faults) -> Iterator[tuple]:
    """(id, tags) of every picture that lies in the folder of a class."""
    depth = 1 if parts.folders(files) else 0
    beside = sorted(name for name in layout.listed(root) if name.lower().endswith((".csv", ".tsv", ".json", ".jsonl")))
    if beside:
        remedy = "name it with --tags, or move it elsewhere if each folder is a class"
        faults.add(str(root), "files that may say the tags lie beside the folders", beside[0], remedy)
    for file in files:
        steps = file.split("/")
        if len(steps) < depth + 2:
            if not depth or steps[0].lower() not in parts.BESIDE:
                faults.add(str(root), "pictures lie in no folder of a class", file, "move them into one, or name a tag file with --tags")
        elif steps[depth].lower() in NO_CLASS:
            remedy = "name a tag file with --tags, or each folder by its class"
            faults.add(str(root), "folders are called as no class is", steps[depth], remedy)
        elif is_background(steps[depth]):
            yield ids[file], ()
        else:
            yield ids[file], (steps[depth],)


def _as_known(path: Path, classes: tuple[str, ...], known: tuple[str, ...], whose: str, faults: Faults) -> tuple[str, ...]:
    """The classes that are known, in their order; the tags need not name all of them."""
    for name in classes:
        if name not in known:
            faults.add(str(path), f"tags are none of {whose}", repr(name), f"there are {', '.join(known)[:200]}")
    return known


def _masks(folder: Path, ids: Mapping[str, str]) -> Masks:
    """The masks in a folder, by id: a PNG of the picture's path from its folder, or of its name alone."""
    names = Names(list(below(folder, (".png",))))
    stems = {image_id: str(Path(file).with_suffix("")) for file, image_id in ids.items()}
    meant = {image_id: names.meant(f"{stem}.png") or names.meant(f"{image_id}.png") for image_id, stem in stems.items()}
    uses = Counter(mask for masks in meant.values() for mask in masks)  # one that two pictures would have is neither's
    return Masks(folder, {image_id: masks for image_id, masks in meant.items() if masks and uses[masks[0]] == 1}, "")


def part(whole: Own, split: str, source: Source, faults: Faults) -> Own:
    """The pictures of a part, and where they come from."""
    ids, origin = _ids(whole, split, source, faults)
    untagged = [whole.files[image_id] for image_id in ids if image_id not in whole.named]
    for file in untagged if source.tags else ():
        remedy = "give each a row, one without tags if it shows no class, or list those that are meant for --train-split and --val-split"
        faults.add(whole.origin, "pictures have no row there", file, remedy)
    if split == source.train and not source.classes:
        named = {name for image_id in ids for name in whole.named.get(image_id, ())}
        for name in whole.classes:
            if name not in named:
                faults.add(origin, "classes have no picture to learn from", repr(name), "give them some, or take the tag out")
    if not ids:
        faults.add(origin, "parts have no picture", split, "name others with --train-split and --val-split, or change --val-share")
    masks = whole.masks
    if masks:
        masks = masks._replace(files={image_id: masks.files[image_id] for image_id in ids if image_id in masks.files})
    return whole._replace(ids=tuple(image_id for image_id in ids if image_id in whole.named), origin=origin, masks=masks)


def _ids(whole: Own, split: str, source: Source, faults: Faults) -> tuple[tuple[str, ...], str]:
    """The ids of a part and where they come from."""
    by_file = {file: image_id for image_id, file in whole.files.items()}
    divided = parts.folders(list(by_file))
    name = divided.get("train" if split in parts.LEARNT else "val" if split in parts.HELD else "", split)
    usual = split in (*parts.LEARNT, *parts.HELD, parts.ALL)
    listing = next((path for path in (Path(split), whole.root / split) if path.is_file() and not usual), None)
    if listing:
        return parts.read_list(listing, Names(list(by_file)), by_file, faults), str(listing)
    if is_plain(name) and (whole.root / name).is_dir() and (name in divided.values() or not usual):
        return tuple(by_file[file] for file in by_file if file.startswith(f"{name}/")), str(whole.root / name)
    inside = {file: image_id for file, image_id in by_file.items() if not divided or file.startswith(f"{divided['train']}/")}
    if split == parts.ALL:
        return tuple(by_file.values()), whole.origin
    if split in parts.HELD and source.train not in parts.LEARNT:
        raise UserError(f"{source.train}: says which pictures to learn from, and nothing which validate; list these for --val-split")
    if split in parts.HELD and not 0 < source.share < 1:
        raise UserError(f"val_share {source.share:g}: must be greater than 0 and less than 1, or no picture is left on one side")
    if split in parts.HELD:
        chosen = parts.share_of({image_id: whole.named.get(image_id, ()) for image_id in inside.values()}, source.share)
        return tuple(i for i in inside.values() if i in chosen), f"{whole.origin}: a share of {source.share:g}"
    if split in parts.LEARNT:
        held = {*_ids(whole, source.val, source, faults)[0]}
        return tuple(i for i in inside.values() if i not in held), f"{whole.origin}: all but those to validate on"
    raise UserError(f"split {split!r}: no part of {whole.root}; give `train`, `val`, `all`, a folder in it, or a file that lists pictures")
