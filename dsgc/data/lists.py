"""The lists of VOC's layout: which images a split has, and which list is the largest that may train."""

import re
import unicodedata
from collections.abc import Container, Sequence
from pathlib import Path

from dsgc.data.images import ENDINGS, is_plain, read_lines
from dsgc.errors import UserError

LISTS, MAIN = "ImageSets/Segmentation", "ImageSets/Main"
LARGEST = "largest"  # the name of a split that is no list: the largest that there is for training
BY_CLASS = re.compile(r"(.*\S)\s+(?:-1|\+?1|0)")  # a line of VOC's lists by class: an id, and whether the class is in the image


def split_ids(root: Path, split: str, there: Container[str] = ()) -> tuple[list[str], str]:
    """The ids of a split, and where they come from; `there` has the ids for which there is a picture.

    Raises:
        UserError: no such list, or a line that can be no id.
    """
    if split != LARGEST:
        return read_list(root, split, there)
    if (root / LISTS / f"{LARGEST}.txt").is_file():
        raise UserError(
            f"{root / LISTS / LARGEST}.txt: {LARGEST!r} stands for the largest training list there is; give this one another name"
        )
    return training_ids(root, there)


def read_list(root: Path, split: str, there: Container[str] = (), folders: Sequence[str] = (LISTS, MAIN)) -> tuple[list[str], str]:
    """The ids of a list and its path, the first that there is of that name in one of the folders.

    A line is an id, as it is or in quotes, with or without a picture's ending; in a list in which every line ends in -1, 0 or
    1, and which names no picture otherwise, that number is left out. An id named twice counts once.

    Raises:
        UserError: no such list, or a line that can be no id.
    """
    if not is_plain(split):
        raise UserError(f"split {split!r}: not the name of a list in {root / folders[0]}; leave out where it is and its ending")
    path = next((path for folder in folders if (path := root / folder / f"{split}.txt").is_file()), None)
    if path is None:
        lists = {folder: ", ".join(sorted(p.stem for p in (root / folder).glob("*.txt"))) for folder in folders}
        others = "".join(f"; in {folder}: {names}" for folder, names in lists.items() if names and folder != folders[0])
        raise UserError(f"{root / folders[0] / split}.txt: no such split; lists found there: {lists[folders[0]] or 'none'}{others}")
    lines = [unicodedata.normalize("NFC", line.strip()) for line in read_lines(path)]
    by_class = [BY_CLASS.fullmatch(line) for line in lines]
    if all(by_class) and not any(_id_of(line, there) in there for line in lines):
        lines = [match[1] for match in by_class]
    ids = list(dict.fromkeys(_id_of(line, there) for line in lines))
    for image_id in ids:
        if not is_plain(image_id):
            raise UserError(f"{path}: {image_id[:80]!r} is not an image id; give file names without folder or ending")
    return ids, str(path)


def _id_of(line: str, there: Container[str]) -> str:
    """The id that a line names: the first of these for which there is a picture, else the line without quotes."""
    bare = line[1:-1] if len(line) > 2 and line[0] == line[-1] and line[0] in "\"'" else line
    for name in (line, bare):
        if name in there:
            return name
    stem, dot, ending = bare.rpartition(".")
    return stem if stem in there and (dot + ending).lower() in (*ENDINGS, ".xml") else bare


def training_ids(root: Path, there: Container[str] = ()) -> tuple[list[str], str]:
    """The largest training list there is: train_aug / trainaug (10,582 ids), SBD's lists, or trainval; for training alone.

    Order: ImageSets/Segmentation/train_aug.txt or trainaug.txt; train.txt united with SBD's train and val lists (files
    sbd_train.txt, sbd_val.txt beside it); ImageSets/Main/trainval.txt; train.txt where there is none of these. Ids of the
    segmentation val.txt are taken out of the last three.
    """
    for name in ("train_aug", "trainaug"):
        if (root / LISTS / f"{name}.txt").is_file():
            return read_list(root, name, there)
    held_out = set(read_list(root, "val", there)[0]) if (root / LISTS / "val.txt").is_file() else set()
    sbd = [name for name in ("sbd_train", "sbd_val") if (root / LISTS / f"{name}.txt").is_file()]
    if sbd:
        lists = [read_list(root, name, there)[0] for name in ("train", *sbd)]
        union = dict.fromkeys(image_id for ids in lists for image_id in ids if image_id not in held_out)
        return list(union), f"{root / LISTS}: train + {' + '.join(sbd)} - val"
    main = (root / MAIN / "trainval.txt").is_file()
    ids, origin = read_list(root, "trainval", there, (MAIN,)) if main else read_list(root, "train", there)
    left = [image_id for image_id in ids if image_id not in held_out]
    return left, origin if len(left) == len(ids) else f"{origin} - val"
