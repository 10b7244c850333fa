"""What programs write in VOC's layout, or near it: which of it is read, and the line by which the rest is refused.

The page on reliability has a row for each.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from promises import promise
from spoilt import LISTS, every, picture

from dsgc.data.palette import voc_palette
from dsgc.data.split import open_split
from dsgc.errors import UserError

PAGE = (Path(__file__).parents[2] / "book/reliability.md").read_text(encoding="utf-8")
KINDS = ("melon", "brick", "star", "ring", "cross", "moon")


def listed_in_main(root):
    """CVAT: quotes around ids with a blank, lists in Main, classes with colours."""
    (root / LISTS).rename(root / "ImageSets/Main")
    for path in root.glob("*/val_00000.*"):
        path.rename(path.with_stem("val (1)"))
    lists = root / "ImageSets/Main/val.txt"
    lists.write_text(lists.read_text().replace("val_00000", '"val (1)"'))
    (root / "classes.txt").unlink()
    lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in zip(("background", *KINDS), voc_palette().tolist(), strict=False)]
    (root / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *lines]))


def cvat_masks(root):
    listed_in_main(root)
    every("SegmentationClass/*", picture(lambda mask: mask.convert("RGB")))(root)


def cvat_images(root):
    every("Annotations/*", lambda path: path.write_text("<annotations><image name='a'><box label='moon'/></image></annotations>"))(root)


def roboflow(root):
    (root / "JPEGImages").rename(root / "train")
    for path in (root / "Annotations").iterdir():
        path.rename(root / "train" / path.name)
    for name in ("Annotations", "ImageSets", "SegmentationClass"):
        shutil.rmtree(root / name)


def labelme_bare(root):
    """As labelme2voc leaves it: pictures, masks, and the names of the classes."""
    shutil.rmtree(root / "ImageSets")
    shutil.rmtree(root / "Annotations")
    (root / "classes.txt").rename(root / "class_names.txt")
    (root / "class_names.txt").write_text("\n".join(["_background_", *KINDS]))


def labelme_completed(root):
    """The same with lists and annotations."""
    (root / "classes.txt").rename(root / "class_names.txt")
    (root / "class_names.txt").write_text("\n".join(["_background_", *KINDS]))
    (root / "SegmentationClass").rename(root / "SegmentationClassPNG")


def labelme_web(root):
    deleted = "<object><name>nothing of ours</name><deleted>1</deleted></object></annotation>"
    every("Annotations/*", lambda path: path.write_text(path.read_text().replace("</annotation>", deleted)))(root)


def fiftyone(root):
    (root / "JPEGImages").rename(root / "data")
    (root / "Annotations").rename(root / "labels")
    shutil.rmtree(root / "ImageSets")


EXPORTS = {  # how it is made of the embedded data set; the words of the refusal, or None where it is read
    "PASCAL VOC": (lambda root: None, None),
    "CVAT, PASCAL VOC 1.1": (listed_in_main, None),
    "CVAT, Segmentation mask 1.1": (cvat_masks, "RGB: colours, not labels"),
    "CVAT for images 1.1": (cvat_images, "CVAT's own form; export it as PASCAL VOC"),
    "Roboflow, Pascal VOC": (roboflow, "XML beside the pictures"),
    "labelme2voc": (labelme_bare, "no such split"),
    "labelme2voc, with lists and XML": (labelme_completed, None),
    "LabelMe's XML": (labelme_web, None),
    "FiftyOne, VOCDetectionDataset": (fiftyone, "FiftyOne's layout"),
}


@promise("Bad input", "Exports of other programs in VOC's layout are read as they are meant, or refused with the remedy.")
@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_is_read_as_it_is_meant_or_refused(name, shapes_copy):
    make, said = EXPORTS[name]
    expected = open_split(shapes_copy, "val")
    tags, masks = expected.tags(), [np.asarray(expected.mask(image_id, (128, 128))) for image_id in expected.ids]
    make(shapes_copy)
    if said is None:
        found = open_split(shapes_copy, "val")
        assert found.classes == KINDS and (found.tags() == tags).all() and len(found.ids) == len(masks)
        for image_id, mask in zip(found.ids, masks, strict=True):
            assert (np.asarray(found.mask(image_id, found.image(image_id).size)) == mask).all()
    else:
        with pytest.raises(UserError, match=said):
            found = open_split(shapes_copy, "val")
            found.tags()
            found.mask(found.ids[0], (128, 128))


def test_every_export_has_a_row_on_the_page():
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
    said = {row[0]: row[1] for row in rows}
    for name, (_, words) in EXPORTS.items():
        assert said[name] == ("read" if words is None else f"refused: *{words}*"), name
