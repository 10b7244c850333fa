"""The catalogue of bad input, continued: masks that say nothing or other than their tags, and COCO files as exporters spoil them."""

import shutil

from catalogue import MASKS
from spoilt import binary, each_instance, entry, every, grey, instances, labels, of_objects, shape, shifted


def in_no_layout(root):
    """As YOLO has it."""
    shutil.rmtree(root)
    for name in ("train/images", "valid/images"):
        (root / name).mkdir(parents=True)
    (root / "data.yaml").write_text("names: [moon]")


def undivided(root):
    """As FiftyOne exports a set that has no splits."""
    shutil.rmtree(root)
    (root / "data").mkdir(parents=True)
    (root / "labels.json").write_text("{}")


def in_two_layouts(root):
    (root / "annotations").mkdir()
    (root / "annotations/instances_val.json").write_text("{}")


FOLDERS = {  # of VOC's layout
    "masks: 0 and 255": (every(MASKS, labels(binary)), ["val.txt", "show no object", "background alone", "not 255"]),
    "masks: all 0": (every(MASKS, grey(0)), ["val.txt", "show no object", "background alone"]),
    "masks: all 0 but one": (every("SegmentationClass/val_0000[1-3]*", grey(0)), ["val.txt", "have no pixel in their mask"]),
    "masks: numbers shifted by one": (every(MASKS, labels(shifted)), ["val.txt", "4 of 4 masks hold classes that the tags"]),
    "masks: numbers of objects": (every(MASKS, labels(of_objects)), ["val.txt", "masks hold classes that the tags", "no objects"]),
    "data: in no layout": (in_no_layout, ["neither VOC's layout", "nor COCO's", "data.yaml, train, valid"]),
    "data: one file for all images": (undivided, ["labels.json", "in no split", "_annotations.coco.json"]),
    "data: a split in two layouts": (in_two_layouts, ["holds val twice", "val.txt", "instances_val.json"]),
}


def another_row(root):
    """One file under two names, as a disk has it that does not tell capitals."""

    def change(content):
        content["images"][1]["file_name"] = content["images"][0]["file_name"].upper()

    instances(change)(root)


BOX = {"segmentation": [], "bbox": [20, 20, 60, 60]}
NO_MASK = ["instances_val2014.json", "no instance has a mask", "tags can be learnt", "iscrowd 0"]
TRAIN = "instances_train2014.json"
EXPORTS = {  # of COCO's
    "JSON: corners in brackets of their own": (shape([[[0, 0], [9, 0], [9, 9]]]), [TRAIN, "no readable segmentation", "x, y, x, y"]),
    "JSON: iscrowd in words": (entry("annotations", iscrowd="yes"), [TRAIN, "iscrowd 'yes'", "0 or 1"]),
    "JSON: half a pixel": (entry("images", width=128.5), [TRAIN, "lacks 'width' or has it of another type"]),
    "JSON: COCO's of another year": (instances(lambda content: content.update(info={"year": "2017"})), [TRAIN, "is of 2017"]),
    "JSON: instances of the background": (entry("categories", name="Background"), [TRAIN, "'Background'", "no class"]),
    "JSON: two rows for one picture": (another_row, [TRAIN, "one picture", "COCO_TRAIN2014", "a file of its own"]),
    "masks: boxes alone": (each_instance(**BOX), NO_MASK),
    "masks: boxes alone, and null for corners": (each_instance(**BOX | {"segmentation": None}), NO_MASK),
    "masks: lines": (each_instance(segmentation=[[20, 20, 60, 60]]), NO_MASK),
    "masks: codes of no pixel": (each_instance(segmentation={"size": [128, 128], "counts": [128 * 128]}), NO_MASK),
    "masks: corners as shares of the picture": (each_instance(segmentation=[[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]]), NO_MASK),
    "masks: crowd regions alone": (each_instance(iscrowd=1), NO_MASK),
    "masks: boxes alone but for one": (
        each_instance(but=1, **BOX), ["instances_val2014.json", "have no pixel in their mask", "a box alone is no mask"],
    ),
}  # fmt: skip
