"""The catalogue of bad input, continued: files of VOC's layout that are not damaged but say something else than they seem to say."""

from catalogue import MASKS, XML, annotation, listed
from PIL import Image
from spoilt import LISTS, every, grey_of_4_bits, picture, write

from dsgc.data.palette import voc_palette

BOTH = "JPEGImages/train_00000"


def classes(*lines):
    return write("classes.txt", "\n".join(lines))


def saved_as(kind, **options):
    """The same picture in another format, by the same name."""
    return picture(lambda image: image.convert("RGB" if kind == "WEBP" else "L"), format=kind, **options)


def renamed(pattern, ending):
    return every(pattern, lambda path: path.rename(path.with_suffix(ending)))


def numbered_anew(mask):
    """What a program makes of the colours: it numbers those that it finds."""
    return mask.point(lambda label: label and 1).convert("RGB").quantize(2)


def swapped(mask):
    """Labels 0 and 2 for black and the colour of label 1, with a palette that has no other colour."""
    found = mask.point(lambda label: label and 2)
    found.putpalette([0, 0, 0, 0, 0, 0, *voc_palette()[1].tolist()])
    return found


def second_picture(root):
    Image.new("RGB", (9, 9)).save(root / f"{BOTH}.png")


def beside(root):
    (root / "JPEGImages").rename(root / "train")
    (root / "Annotations/train_00000.xml").rename(root / "train/train_00000.xml")


def two_folders(root):
    """One mask in another folder than the others."""
    (root / "SegmentationClassAug").mkdir()
    (root / "SegmentationClass/val_00002.png").rename(root / "SegmentationClassAug/val_00002.png")


NAMES = ("melon", "brick", "star", "ring", "cross", "moon")
UNDERSTOOD_NOT = {
    "XML: CVAT's own": (annotation("<annotations><image name='a'><box label='moon'/></image></annotations>"), [XML, "CVAT", "PASCAL VOC"]),
    "XML: a web page": (annotation("<!DOCTYPE html><html><body>404</body></html>"), [XML, "web page"]),
    "XML: another outermost element": (annotation("<data><object><name>moon</name></object></data>"), [XML, "<data>"]),
    "XML: items": (annotation("<annotation><item><name>moon</name></item></annotation>"), [XML, "<item>"]),
    "XML: items beside objects": (
        annotation("<annotation><object><name>moon</name></object><item><name>ring</name></item></annotation>"),
        [XML, "<item>"],
    ),
    "XML: a text": (annotation("<annotation>moon</annotation>"), [XML, "'moon'"]),
    "XML: an object without a name": (annotation("<annotation><object><label>moon</label></object></annotation>"), [XML, "no name"]),
    "XML: a name of blanks": (annotation("<annotation><object><name> </name></object></annotation>"), [XML, "no name"]),
    "XML: an object with two names": (
        annotation("<annotation><object name='moon'><name>ring</name></object></annotation>"),
        [XML, "several names, moon, ring"],
    ),
    "XML: an object in an object": (
        annotation("<annotation><object><name>moon</name><object><name>ring</name></object></object></annotation>"),
        [XML, "an object inside"],
    ),
    "XML: no object in any": (
        every("Annotations/train*", lambda path: path.write_text("<annotation/>")),
        ["train.txt", "12 images name no object", "Annotations"],
    ),
    "classes: background at the end": (classes(*NAMES, "background"), ["classes.txt", "'background' is no class"]),
    "classes: Background in the midst": (classes("melon", "Background", *NAMES[1:]), ["classes.txt", "'Background' is no class"]),
    "classes: __ignore__ without background": (classes("__ignore__", *NAMES), ["classes.txt", "'__ignore__' is no class"]),
    "classes: a heading": (classes("names:", *NAMES), ["classes.txt", "'names:' is no class"]),
    "classes: numbers from 0": (classes(*(f"{i} {name}" for i, name in enumerate(NAMES))), ["classes.txt", "numbers"]),
    "classes: colours in another order": (
        classes("background:0,0,0::", "melon:0,128,0::", "brick:128,0,0::"),
        ["classes.txt", "'melon' is number 1", "label 2"],
    ),
    "id: two pictures": (second_picture, [f"{BOTH}.jpg", "train_00000.png", "same id", "train.txt"]),
    "id: in other capitals": (listed("Train_00001\n"), ["Train_00001.jpg", "missing", "did you mean train_00001.jpg"]),
    "id: with the ending of a file that is not there": (listed("nobody.jpg\n"), ["JPEGImages/nobody.jpg: missing"]),
    "id: a number that belongs to it": (listed("train_00000 1\ntrain_00001\n"), ["train_00000 1.jpg", "missing"]),
    "split: a list by the name that stands for one": (
        lambda root: (root / f"{LISTS}/train.txt").rename(root / f"{LISTS}/largest.txt"),
        ["train.txt", "no such split", "dev, largest, val"],
    ),
    "mask: a JPEG by the name of a PNG": (every(MASKS, saved_as("JPEG")), ["val_00000.png", "is a JPEG", "label numbers"]),
    "mask: a WebP": (every(MASKS, saved_as("WEBP", quality=50)), ["val_00000.png", "is a WEBP", "label numbers"]),
    "mask: a GIF": (every(MASKS, saved_as("GIF")), ["val_00000.png", "is a GIF", "label numbers"]),
    "mask: a JPEG": (renamed(MASKS, ".jpg"), ["SegmentationClass/val_00000.png", "missing", "val_00000.jpg is there", "PNG"]),
    "mask: 1 bit": (every(MASKS, picture(lambda mask: mask.convert("1"))), ["val_00000.png", "1 bit"]),
    "mask: grey of 4 bits": (every(MASKS, grey_of_4_bits), ["val_00000.png", "grey of 4 bits"]),
    "mask: with an alpha channel": (every(MASKS, picture(lambda mask: mask.convert("LA"))), ["val_00000.png", "LA", "alpha"]),
    "mask: colours numbered anew": (every(MASKS, picture(numbered_anew)), ["val_00000.png", "VOC's colour of label", "anew"]),
    "mask: the colour of another label": (every(MASKS, picture(swapped)), ["val_00000.png", "label 2 has VOC's colour of label 1"]),
    "mask: of two folders": (two_folders, ["SegmentationClass/val_00002.png", "SegmentationClassAug", "not mixed"]),
    "mask: two of one image": (
        lambda root: [path.with_suffix(".PNG").write_bytes(path.read_bytes()) for path in root.glob(MASKS)],
        ["val_00000.PNG", "val_00000.png beside it", "remove one"],
    ),
    "data: XML beside the pictures": (
        beside,
        ["neither VOC's layout", "Roboflow", "move them"],
    ),
}
