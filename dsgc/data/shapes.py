"""The embedded data set: drawn scenes (`scenes`) written to disk in the PASCAL VOC layout, the same bytes from the same seed.

Masks are exact. `SegmentationParts` is beside what VOC has: of each pixel whether it is a head, a body, or ground, which no real
data set knows.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from tqdm import tqdm

from dsgc.data import scenes
from dsgc.data.palette import voc_palette
from dsgc.data.scenes import DIALS, KINDS, OBJECTS, Dials, Scene
from dsgc.errors import UserError

PARTS = "SegmentationParts"  # the folder of what VOC does not have
SPLITS = {"train": 1000, "dev": 200, "val": 200}  # images in each; choices are made on dev, results are reported on val


@contextlib.contextmanager
def new_folder(out: Path | str) -> Iterator[Path]:
    """A folder to fill that gets its name only once all is written, so that nothing half-written is left.

    Raises `UserError` if `out` exists and is not empty, or cannot be written.
    """
    out = Path(out)
    if not out.name:
        raise UserError(f"{out}: has no name of its own; name a new folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: already there and not an empty folder; choose another folder or delete it first")
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")  # its own, where several processes write the same at once
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        if out.exists():
            out.rmdir()
        os.replace(partial, out)
    except OSError as error:
        raise UserError(f"{out}: cannot write here ({error.strerror}); choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def checked(seed: int, sizes: dict[str, int], dials: Dials) -> None:
    """Refuse a negative seed or size of a split, and a dial beyond its end."""
    for name, value in {"seed": seed, **sizes}.items():
        if value < 0:
            raise UserError(f"{name} {value}: must not be negative")
    for name, most in {"body": 0.8, "grounds": 1, "touching": 1, "small": 1, "wrong_tags": 1}.items():
        if not 0 <= (value := getattr(dials, name)) <= most:
            raise UserError(f"{name} {value}: must be from 0 to {most}")


def write(out: Path | str, *, seed: int = 0, sizes: dict[str, int] | None = None, dials: Dials = DIALS) -> Path:
    """Write the data set to `out` in the VOC layout; the same seed gives the same files.

    Raises `UserError` if `out` exists and is not empty, or cannot be written, for a negative seed or size, and for a dial beyond
    its end.
    """
    sizes = SPLITS if sizes is None else sizes
    checked(seed, sizes, dials)
    with new_folder(out) as partial:
        _write_all(partial, seed, sizes, dials)
    return Path(out)


def ensure(folder: Path | str) -> None:
    """Write the data set to `folder` unless there is something of that name, also if another process is just about to."""
    if Path(folder).exists():
        return
    try:
        write(folder)
    except UserError:
        if not Path(folder).exists():  # else the other one was sooner
            raise


def _write_all(partial: Path, seed: int, sizes: dict[str, int], dials: Dials) -> None:
    for folder in ("JPEGImages", "SegmentationClass", PARTS, "Annotations", "ImageSets/Segmentation"):
        (partial / folder).mkdir(parents=True)
    (partial / "classes.txt").write_text("\n".join(kind.name for kind in KINDS) + "\n", encoding="utf-8")
    tasks = []
    for split, (name, count) in enumerate(sizes.items()):
        ids = [f"{name}_{i:05d}" for i in range(count)]
        tasks += [(partial, image_id, (seed, split, i), dials) for i, image_id in enumerate(ids)]
        (partial / "ImageSets/Segmentation" / f"{name}.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    with Pool() as pool:
        for _ in tqdm(pool.imap_unordered(_write_task, tasks, chunksize=5), total=len(tasks), unit="picture", disable=None):
            pass  # on a terminal alone a bar shows how far it is


def picture(seed: tuple[int, int, int], dials: Dials = DIALS) -> Scene:
    """One picture of the data set; its seed is that of the set, its split and its number."""
    rng = np.random.default_rng(seed)
    return scenes.scene(rng, KINDS, int(rng.choice(OBJECTS)), dials)


def tags(seed: tuple[int, int, int], placed: list[int], dials: Dials = DIALS) -> list[int]:
    """The kinds that a picture is said to show, one for each object; of the training split a share `dials.wrong_tags` is wrong.

    One kind is left out, or one more is named that is not there; always that where the picture shows but one.
    """
    rng = np.random.default_rng((*seed, 1))
    if seed[1] or rng.random() >= dials.wrong_tags:
        return placed
    shown, absent = sorted(set(placed)), sorted(set(range(len(KINDS))) - set(placed))
    if len(shown) > 1 and rng.random() < 0.5:
        left_out = rng.choice(shown)
        return [kind for kind in placed if kind != left_out]
    return [*placed, int(rng.choice(absent))]


def _write_task(task: tuple[Path, str, tuple[int, int, int], Dials]) -> None:
    _write_one(*task)


def _write_one(root: Path, image_id: str, seed: tuple[int, int, int], dials: Dials) -> None:
    drawn = picture(seed, dials)
    Image.fromarray(drawn.image).save(root / "JPEGImages" / f"{image_id}.jpg", quality=95)
    mask = np.array([0, *(kind + 1 for kind in drawn.placed)], np.uint8)[drawn.instances]
    for folder, labels in (("SegmentationClass", mask), (PARTS, drawn.parts)):
        palette_image = Image.fromarray(labels, mode="P")
        palette_image.putpalette(voc_palette().ravel().tolist())
        palette_image.save(root / folder / f"{image_id}.png")

    annotation = ElementTree.Element("annotation")
    ElementTree.SubElement(annotation, "filename").text = f"{image_id}.jpg"
    size = ElementTree.SubElement(annotation, "size")
    for tag, value in zip(("width", "height", "depth"), (scenes.SIDE, scenes.SIDE, 3), strict=True):
        ElementTree.SubElement(size, tag).text = str(value)
    said = tags(seed, drawn.placed, dials)
    boxes = [(kind, drawn.instances == i + 1) for i, kind in enumerate(drawn.placed) if kind in said]
    boxes += [(kind, np.ones_like(mask, bool)) for kind in said[len(drawn.placed):]]  # what is not there is said of the whole picture
    for kind, region in boxes:
        rows, columns = np.nonzero(region)
        item = ElementTree.SubElement(annotation, "object")
        ElementTree.SubElement(item, "name").text = KINDS[kind].name
        box = ElementTree.SubElement(item, "bndbox")  # 1-based and inclusive, as in VOC
        corners = (columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1)
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            ElementTree.SubElement(box, tag).text = str(int(value))
    ElementTree.indent(annotation)
    ElementTree.ElementTree(annotation).write(root / "Annotations" / f"{image_id}.xml", encoding="utf-8")
