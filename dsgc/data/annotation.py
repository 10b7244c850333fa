"""A VOC annotation: the names of the objects in an image, or the reason why the file is not one."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from dsgc.errors import UserError, first_line

HEADER = ("folder", "filename", "path", "source", "owner", "size", "imagesize", "segmented", "url", "database")  # nothing of the objects
NAMING = ("name", "label", "class", "category", "tag", "bndbox", "bbox", "box", "polygon", "mask")  # what an object would have
OTHERS = {
    "annotations": "CVAT's own form; export it as PASCAL VOC",
    "html": "a web page; download the file again",
}


def object_names(path: Path) -> list[str]:
    """The name of every object, difficult ones too. Namespaces and capitals of the elements make no difference, `objects`
    around the objects neither; `name` may be an attribute. Parts have names that do not count, nor do objects marked as deleted.

    Raises:
        UserError: not a readable annotation of VOC's form, or one in which something that looks like an object was not understood.
    """
    try:
        text = path.read_bytes()
        plain = text.replace(b"\0", b"")  # zeros: in UTF-16 they stand between the letters
        if b"<html" in plain[:2000].lower():
            raise ValueError(f"it is {OTHERS['html'].partition(';')[0]}")
        if b"<!DOCTYPE" in plain:
            raise ValueError("it declares a document type, and entities are not expanded")
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:  # LookupError: an encoding that nobody knows
        raise UserError(f"{path}: not a readable annotation ({first_line(error)}); replace the file") from error
    if _tag(root) != "annotation":
        kind = OTHERS.get(_tag(root), "none of VOC's, whose is <annotation>; convert the file")
        raise UserError(f"{path}: not a VOC annotation: its outermost element is <{_tag(root)[:40]}>, {kind}")
    return [name for item in _objects(path, root) if (name := _name(path, item)) is not None]


def _tag(element: Element) -> str:
    """An element's name without namespace, in small letters."""
    return element.tag.rpartition("}")[2].lower()


def _objects(path: Path, root: Element) -> Iterator[Element]:
    """The objects; anything else that could be one is refused, and where there is none, whatever is not of the header."""
    found, others = [], []
    for child in root:
        if _tag(child) == "object":
            found.append(child)
        elif _tag(child) == "objects":
            found += [item for item in child if _tag(item) == "object"]
            others += [item for item in child if _tag(item) != "object"]
        elif _tag(child) not in HEADER or any(_tag(part) == "object" for part in child.iter()):
            others.append(child)
    for other in others:
        if not found or any(_tag(part) in (*NAMING, "object") for part in other.iter()) or {*other.attrib} & {*NAMING}:
            raise UserError(f"{path}: <{_tag(other)[:40]}> is not understood; a VOC annotation has <object><name>CLASS</name></object>")
    words = "".join(filter(None, (root.text, *(child.tail for child in root)))).strip()
    if not found and words:
        raise UserError(f"{path}: {words[:40]!r} is not understood; a VOC annotation has <object><name>CLASS</name></object>")
    yield from found


def _name(path: Path, item: Element) -> str | None:
    """What an object is named; None for one that is marked as deleted, as LabelMe does."""
    if any(_tag(part) == "deleted" and (part.text or "").strip() == "1" for part in item):
        return None
    inside = ["".join(part.itertext()).strip() for part in item if _tag(part) == "name"]
    names = {*inside, *(value.strip() for key, value in item.attrib.items() if key.rpartition("}")[2].lower() == "name")}
    if len(names) != 1 or "" in names or any(_tag(part) == "object" for part in item):
        said = "no name" if not names - {""} else "an object inside" if len(names) == 1 else f"several names, {', '.join(sorted(names))}"
        raise UserError(f"{path}: an <object> has {said}; it must have one <name> that says its class")
    return names.pop()
